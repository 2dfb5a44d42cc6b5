"""Which limb of the walker is seen in each pixel of a frame: the truth that part masks are compared with."""

from enum import IntEnum

import numpy as np
from jaxtyping import Int, UInt8


class Limb(IntEnum):
    """Labels of a label map. Left and right are the walker's own."""

    BACKGROUND = 0  # the scene, and whatever passes in front of the walker
    HEAD = 1  # with neck, hair and hat
    TRUNK = 2  # with what hangs from it: skirt, tails of a coat
    LEFT_ARM = 3
    RIGHT_ARM = 4
    LEFT_LEG = 5  # with the shoe
    RIGHT_LEG = 6
    BAG = 7


ARM = {'left': Limb.LEFT_ARM, 'right': Limb.RIGHT_ARM}
LEG = {'left': Limb.LEFT_LEG, 'right': Limb.RIGHT_LEG}


def label_counts(labels: Int[np.ndarray, '*n H W'] | UInt8[np.ndarray, '*n H W'], h: int, w: int) -> np.ndarray:
    """Pixels of each label in each cell of a grid, int32 [*n, h, w, 8]. ValueError where h x w cells do not divide
    H x W."""
    *n, height, width = labels.shape
    if height % h or width % w:
        raise ValueError(f'labels of {height} x {width} do not divide into {h} x {w} cells')
    cells = labels.reshape(*n, h, height // h, w, width // w)
    return np.stack([(cells == limb).sum((-3, -1), dtype=np.int32) for limb in Limb], -1)
