"""Occlusion as training augmentation: a piece of another person's picture in front of the person, as where people pass
each other or a box shows two of them. Ours; a rectangle that holds somebody is harder to tell from the person than an
erased one (`augmentation`, Zhong 2020).
"""

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.data.augmentation import random_rectangle


def occlude_clip(
    clip: UInt8[np.ndarray, 'T H W 3'],
    other: UInt8[np.ndarray, 'H W 3'],
    area: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Puts a rectangle of `other` at its place into some frames of the clip: all from one drawn frame to another.

    area: share of the picture that the rectangle covers, least and most.
    """
    (top, left, height, width), frames = random_rectangle(*other.shape[:2], area, rng.random(4)), len(clip)
    first, last = sorted(rng.integers(frames, size=2).tolist())
    rows, columns = slice(top, top + height), slice(left, left + width)
    clip[first : last + 1, rows, columns] = other[rows, columns]
