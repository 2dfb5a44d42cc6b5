"""Labels with a meaning of their own, as MARS numbers them; identities count from 1, cameras from 0."""

import numpy as np

JUNK = -1  # person: ignored everywhere
DISTRACTOR = 0  # person: never a match
UNKNOWN_CAMERA = -1


def person_label(person: int | np.integer) -> str:
    """'person 7', 'distractor' or 'junk'."""
    return {DISTRACTOR: 'distractor', JUNK: 'junk'}.get(int(person), f'person {person}')


def camera_label(camera: int | np.integer) -> str:
    """'camera 3', or 'unknown camera'."""
    return 'unknown camera' if camera == UNKNOWN_CAMERA else f'camera {camera}'
