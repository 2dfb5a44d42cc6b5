"""Training augmentation of clips, the same for all frames of a clip: a flip, a padded crop, colour jitter, an erased
rectangle.

Each step goes over the clip frame by frame and in place, with OpenCV's loops: a frame stays in the core's cache, and
new arrays of a clip's size (1.5 MB at 256x128) would cost more, in pages that the system must clear, than what is
computed.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pvlad_jax.config import AugmentConfig

# ITU-R BT.601 luma, as in grey images everywhere.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def augment_clip(clip: UInt8[np.ndarray, 'T H W 3'], config: AugmentConfig, rng: np.random.Generator) -> None:
    """Changes a clip.

    Draws are made in a fixed order and number, so that turning one kind off leaves the others alone.
    """
    flip, shift = rng.random(), rng.random(2)
    colour, erase, rectangle = rng.uniform(-1, 1, 3), rng.random(), rng.random(4)
    channel = rng.uniform(-1, 1, 3)
    if flip < config.flip:
        for frame in clip:
            frame[...] = cv2.flip(frame, 1)
    if config.pad:
        _shift(clip, *(np.floor(shift * (2 * config.pad + 1)).astype(int) - config.pad).tolist())
    if config.brightness or config.contrast or config.saturation or config.channel:
        jitter_colour(
            clip, *(1 + colour * (config.brightness, config.contrast, config.saturation)), 1 + channel * config.channel
        )
    if erase < config.erase:
        _erase(clip, config.erase_area, rectangle)


def _mean_colour(clip: UInt8[np.ndarray, 'T H W 3']) -> Float[np.ndarray, '3']:
    """Exact: sums of uint8 are whole numbers. NumPy's mean over the first axes takes 60 times as long."""
    t, h, w, _ = clip.shape
    return np.array([cv2.sumElems(frame)[:3] for frame in clip]).sum(axis=0) / (t * h * w)


def _shift(clip, down: int, right: int) -> None:
    """A crop at that offset out of the clip padded with black."""
    h, w = clip.shape[1:3]
    for frame in clip:
        kept = frame[max(-down, 0) : h + min(-down, 0), max(-right, 0) : w + min(-right, 0)].copy()
        frame[...] = 0
        frame[max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)] = kept


def jitter_colour(
    clip: UInt8[np.ndarray, 'T H W 3'],
    brightness: float,
    contrast: float,
    saturation: float,
    channel: Float[np.ndarray, '3'] | tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> None:
    """Brightness, contrast about the clip's mean grey, saturation, then a factor a channel: one affine map of the
    colours, computed in one pass. Factors of 1 change nothing; those of the channels imitate the white balance of
    another camera.
    """
    mean = float(_mean_colour(clip) @ LUMA) * brightness
    # Rows sum to 1, so a grey offset passes through.
    mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * LUMA
    affine = np.concatenate([mix * (brightness * contrast), np.full((3, 1), mean * (1 - contrast), np.float32)], axis=1)
    affine *= np.asarray(channel, np.float32)[:, None]
    for frame in clip:
        frame[...] = cv2.transform(frame, affine)


def _erase(clip, area, draws) -> None:
    """One rectangle filled with the clip's mean colour (Zhong 2020)."""
    top, left, eh, ew = random_rectangle(*clip.shape[1:3], area, draws)
    clip[:, top : top + eh, left : left + ew] = _mean_colour(clip).astype(np.uint8)


def random_rectangle(
    height: int, width: int, area: tuple[float, float], draws: Float[np.ndarray, '4']
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a rectangle of a picture, its aspect 0.3 to 3.3 (Zhong 2020).

    Args:
      area: share of the picture that it covers, least and most.
      draws: in [0, 1), of share, aspect, top and left.
    """
    share = area[0] + draws[0] * (area[1] - area[0])
    aspect = np.exp(np.log(0.3) + draws[1] * (np.log(3.3) - np.log(0.3)))
    eh, ew = (
        int(np.clip(round(v), 1, m))
        for v, m in (
            (np.sqrt(share * height * width * aspect), height),
            (np.sqrt(share * height * width / aspect), width),
        )
    )
    return int(draws[2] * (height - eh + 1)), int(draws[3] * (width - ew + 1)), eh, ew
