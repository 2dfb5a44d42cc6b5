"""Label maps of a tracklet's frames: the same drawing as the frames', read for limbs in place of colours."""

import numpy as np
from jaxtyping import UInt8

from data_prep.synthetic_walkers.filming import FINE, draw_walk
from data_prep.synthetic_walkers.limbs import Limb, label_counts
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH, World


def limb_maps(world: World, person_id: int, camera_id: int, number: int) -> UInt8[np.ndarray, 'f 128 64']:
    """The limb (`Limb`) seen in each pixel of the frames that `filming.film` gives for the same arguments.

    A pixel is the walker's where the walker, less what passes in front, makes up at least half of it; of several limbs
    in a pixel the largest counts. All else is BACKGROUND.
    """
    walk = draw_walk(world, person_id, camera_id, number)
    counts = label_counts(walk.layer.limb, HEIGHT, WIDTH)
    shown = 1 - counts[..., Limb.BACKGROUND] / FINE**2
    for front in walk.in_front:
        for f, picture in enumerate(front):
            if picture is not None:
                shown[f] *= 1 - picture[..., 3]
    largest = 1 + counts[..., 1:].argmax(-1)  # BACKGROUND, 0, is left out
    return np.where(shown >= 0.5, largest, Limb.BACKGROUND).astype(np.uint8)
