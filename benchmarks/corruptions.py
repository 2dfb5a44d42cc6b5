"""Corruptions of a tracklet's pictures that happen in practice: something stands in front of the person, or the boxes
fit badly (the idea is that of Hendrycks and Dietterich, ICLR 2019).

Each corruption maps the frames of a tracklet, at their own size, to frames of the same size. It is the same in all
frames that it touches, as of a box that is wrong in the same way, or of somebody who walks beside the person.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

Frames = UInt8[np.ndarray, 'T H W 3']
# (frames, frames of another person, random numbers) -> frames
Corruption = Callable[[Frames, Frames, np.random.Generator], Frames]

LEAST_ASPECT, GREATEST_ASPECT = 0.5, 2.0  # of what stands in front, height to width, 1 = that of the picture


def occluded(share: float, of_frames: float = 1.0) -> Corruption:
    """A rectangle of another person's picture lies over that share of this one's, in the last `of_frames` of them."""

    def corrupt(frames: Frames, other: Frames, rng: np.random.Generator) -> Frames:
        t, h, w, _ = frames.shape
        aspect = np.exp(rng.uniform(np.log(LEAST_ASPECT), np.log(GREATEST_ASPECT)))
        height = min(round(h * np.sqrt(share * aspect)), h)
        width = min(round(share * h * w / height), w)
        top, left = rng.integers(h - height + 1), rng.integers(w - width + 1)
        result = frames.copy()
        for i in range(t - round(t * of_frames), t):
            cover = cv2.resize(other[i % len(other)], (w, h), interpolation=cv2.INTER_LINEAR)
            result[i, top : top + height, left : left + width] = cover[top : top + height, left : left + width]
        return result

    return corrupt


def occluded_below(share: float) -> Corruption:
    """The lower share of the picture shows that of another person's."""

    def corrupt(frames: Frames, other: Frames, _rng: np.random.Generator) -> Frames:
        h, w = frames.shape[1:3]
        top, result = h - round(share * h), frames.copy()
        for i, frame in enumerate(result):
            frame[top:] = cv2.resize(other[i % len(other)], (w, h), interpolation=cv2.INTER_LINEAR)[top:]
        return result

    return corrupt


def scaled(factor: float) -> Corruption:
    """A box that many times as large: above 1 the person is small in it, below 1 cut off. Beyond the picture its border
    goes on.
    """
    return lambda frames, _other, _rng: _box(frames, factor, 0.0, 0.0)


def shifted(share: float) -> Corruption:
    """A box beside the person, by that share of its height or its width, up, down, left or right."""

    def corrupt(frames: Frames, _other: Frames, rng: np.random.Generator) -> Frames:
        down, right = ((-share, 0.0), (share, 0.0), (0.0, -share), (0.0, share))[rng.integers(4)]
        return _box(frames, 1.0, down, right)

    return corrupt


def _box(frames: Frames, factor: float, down: float, right: float) -> Frames:
    """The frames in a box of another size (a factor) and place (shares of height and width)."""
    _, h, w, _ = frames.shape
    top, left = h * (down + (1 - factor) / 2), w * (right + (1 - factor) / 2)
    # Pixel centres: output pixel x shows what lies at left + factor (x + 1/2) - 1/2.
    shift = 0.5 * factor - 0.5
    matrix = np.array([[factor, 0, left + shift], [0, factor, top + shift]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(f, matrix, (w, h), flags=how, borderMode=cv2.BORDER_REPLICATE) for f in frames])


CORRUPTIONS: dict[str, Corruption] = {
    'a fifth covered': occluded(0.2),
    'two fifths covered': occluded(0.4),
    'two fifths covered in the second half': occluded(0.4, of_frames=0.5),
    'the lower two fifths covered': occluded_below(0.4),
    'box 1.4 times as large': scaled(1.4),
    'box 0.75 times as large': scaled(0.75),
    'box shifted by a fifth': shifted(0.2),
}
