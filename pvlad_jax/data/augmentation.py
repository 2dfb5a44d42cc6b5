"""Training augmentation of clips, the same for all frames of a clip: a flip, a padded crop, colour jitter, an erased rectangle."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pvlad_jax.config import AugmentConfig

# ITU-R BT.601 luma, as in grey images everywhere.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def augment_clip(clip: UInt8[np.ndarray, 'T H W 3'], config: AugmentConfig, rng: np.random.Generator) -> UInt8[np.ndarray, 'T H W 3']:
    """A clip of the same shape; the one given stays as it is.

    Draws are made in a fixed order and number, so that turning one kind off leaves the others alone.
    """
    flip, shift = rng.random(), rng.random(2)
    colour, erase, rectangle = rng.uniform(-1, 1, 3), rng.random(), rng.random(4)
    if flip < config.flip:
        clip = cv2.flip(_tall(clip), 1).reshape(clip.shape)
    if config.pad:
        clip = _shift(clip, *(np.floor(shift * (2 * config.pad + 1)).astype(int) - config.pad))
    if config.brightness or config.contrast or config.saturation:
        clip = jitter_colour(clip, *(1 + colour * (config.brightness, config.contrast, config.saturation)))
    if erase < config.erase:
        clip = _erase(clip, config.erase_area, rectangle)
    return clip


# OpenCV's loops, over all frames at once as over one tall picture: NumPy takes 60 times as long for a mean of colours, 15 for a flip.
def _tall(clip: UInt8[np.ndarray, 'T H W 3']) -> UInt8[np.ndarray, 'TH W 3']:
    return np.ascontiguousarray(clip).reshape(-1, *clip.shape[2:])


def _mean_colour(clip: UInt8[np.ndarray, 'T H W 3']) -> Float[np.ndarray, '3']:
    return np.array(cv2.mean(_tall(clip))[:3])


def _shift(clip, down: int, right: int):
    """A crop at that offset out of the clip padded with black."""
    moved = np.zeros_like(clip)
    h, w = clip.shape[1:3]
    moved[:, max(down, 0):h + min(down, 0), max(right, 0):w + min(right, 0)] = \
        clip[:, max(-down, 0):h + min(-down, 0), max(-right, 0):w + min(-right, 0)]
    return moved


def jitter_colour(clip, brightness: float, contrast: float, saturation: float):
    """Brightness, contrast about the clip's mean grey, then saturation: one affine map of the colours, computed in one pass."""
    mean = float(_mean_colour(clip) @ LUMA) * brightness
    mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * LUMA  # rows sum to 1, so a grey offset passes through
    affine = np.concatenate([mix * (brightness * contrast), np.full((3, 1), mean * (1 - contrast), np.float32)], axis=1)
    return cv2.transform(_tall(clip), affine).reshape(clip.shape)


def _erase(clip, area, draws):
    """One rectangle of the given share of the picture, aspect 0.3 to 3.3 (Zhong 2020), filled with the clip's mean colour."""
    h, w = clip.shape[1:3]
    share = area[0] + draws[0] * (area[1] - area[0])
    aspect = np.exp(np.log(0.3) + draws[1] * (np.log(3.3) - np.log(0.3)))
    eh, ew = (int(np.clip(round(v), 1, m)) for v, m in ((np.sqrt(share * h * w * aspect), h), (np.sqrt(share * h * w / aspect), w)))
    top, left = int(draws[2] * (h - eh + 1)), int(draws[3] * (w - ew + 1))
    clip = clip.copy()
    clip[:, top:top + eh, left:left + ew] = _mean_colour(clip).astype(np.uint8)
    return clip
