"""Part of a figure: a tapered capsule with round or oval section, and its paint."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from data_prep.synthetic_walkers.limbs import Limb
from data_prep.synthetic_walkers.paint import Paint
from data_prep.synthetic_walkers.skeleton import Pose

Radius = float | Float[np.ndarray, ' f']  # metres, the same in all frames or one a frame


@dataclass(frozen=True)
class Part:
    """A tapered capsule over the frames.

    Attributes:
      a, b: Ends of its axis, metres.
      half_width: Half width at a and b along `left`.
      half_depth: Half depth at a and b along `front`.
      front, left: The walker's directions that azimuth and oval sections are measured by.
      paint: What shows where.
      cap: Height of the round ends as a share of the radius; 1 = half balls.
      lift: Added to the distance towards the camera when parts hide each other, metres: keeps thin things above what
        they lie on.
      limb: Its label in a label map; `of_limb` sets it.
    """

    a: Float[np.ndarray, 'f 3']
    b: Float[np.ndarray, 'f 3']
    half_width: tuple[Radius, Radius]
    half_depth: tuple[Radius, Radius]
    front: Float[np.ndarray, 'f 3']
    left: Float[np.ndarray, 'f 3']
    paint: Paint
    cap: float = 1.0
    lift: float = 0.0
    limb: Limb = Limb.BACKGROUND


def of_limb(limb: Limb, parts: Iterable[Part]) -> list[Part]:
    """The same parts, as those of a limb."""
    return [replace(part, limb=limb) for part in parts]


def round_part(
    pose: Pose, a, b, radius_a: float, radius_b: float, paint: Paint, cap: float = 1.0, lift: float = 0.0
) -> Part:
    """A part with round section: as deep as wide."""
    return Part(a, b, (radius_a, radius_b), (radius_a, radius_b), pose.front, pose.left, paint, cap, lift)
