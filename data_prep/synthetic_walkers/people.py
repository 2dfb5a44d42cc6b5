"""Who walks: body, clothes and gait of each person, from the person's number and the seed alone."""

from dataclasses import dataclass

import numpy as np

from data_prep.synthetic_walkers.body import Build, draw_build
from data_prep.synthetic_walkers.clothes import Outfit, draw_outfit
from data_prep.synthetic_walkers.gait import Gait, draw_gait, twin_gaits


@dataclass(frozen=True)
class Person:
    """One walker."""

    build: Build
    outfit: Outfit
    gait: Gait


def person(person_id: int, seed: int, twins: bool = False) -> Person:
    """The person of this number (from 1).

    With twins, numbers 2i-1 and 2i have the same build and the same outfit, and gaits that differ in frequency alone
    (gait.twin_gaits): one is slow, the other fast; which is which is random.
    """
    if not twins:
        looks, walk = np.random.default_rng([seed, 1, person_id]), np.random.default_rng([seed, 2, person_id])
        return Person(draw_build(looks), draw_outfit(looks), draw_gait(walk))
    pair, second = (person_id + 1) // 2, (person_id - 1) % 2
    looks, walk = np.random.default_rng([seed, 11, pair]), np.random.default_rng([seed, 12, pair])
    return Person(draw_build(looks), draw_outfit(looks), twin_gaits(walk)[second])
