"""Where body parts are in a picture of a standing person (ours): what colour segmentation begins with.

Heights follow the figure's proportions: the head a fifth of the picture with its margin, the crotch near the middle
(Drillis and Contini 1966). People stand in the middle of detectors' boxes, and arms hang beside the trunk.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SCENES = 10  # the background from top to bottom, in colours of its own


class Region(NamedTuple):
    """In shares of the picture's height and width: from `top` to `bottom`, `aside` of the middle to both sides."""

    top: float
    bottom: float
    aside: float
    spread: float  # standard deviation of the fall to both sides


HEAD, TRUNK, ARMS, LEGS = (
    Region(0.06, 0.18, 0.0, 0.08),
    Region(0.25, 0.45, 0.0, 0.10),
    Region(0.28, 0.48, 0.17, 0.07),
    Region(0.58, 0.86, 0.0, 0.12),
)
CHEST, HIPS = Region(0.23, 0.33, 0.0, 0.11), Region(0.38, 0.48, 0.0, 0.11)
THIGHS, CALVES, FEET = Region(0.52, 0.64, 0.0, 0.11), Region(0.7, 0.82, 0.0, 0.13), Region(0.88, 0.96, 0.0, 0.15)
REGIONS = {
    4: (HEAD, TRUNK, ARMS, LEGS),
    5: (HEAD, TRUNK, ARMS, THIGHS, CALVES),
    6: (HEAD, TRUNK, ARMS, THIGHS, CALVES, FEET),
    7: (HEAD, CHEST, HIPS, ARMS, THIGHS, CALVES, FEET),
}


def regions(parts: int) -> tuple[Region, ...]:
    """Of 4 to 7 parts head, trunk, arms and legs, the latter divided; of other numbers bands in the picture's
    middle.
    """
    bands = [Region(p / parts, (p + 1) / parts, 0.0, 0.12) for p in range(parts)]
    return REGIONS.get(parts, tuple(bands))


def part_layout(parts: int, height: int, width: int) -> Float[np.ndarray, 'h w Q']:
    """Probability of each part and then of each of the `SCENES`, Q in all, at each place; they add to 1."""
    y, x = (np.arange(height) + 0.5) / height, np.abs((np.arange(width) + 0.5) / width - 0.5)
    logits = []
    for region in regions(parts):
        outside = np.maximum(np.maximum(region.top - y, y - region.bottom), 0)
        down, across = outside * 2.5 / (region.bottom - region.top), (x - region.aside) / region.spread
        logits.append(-0.5 * (down[:, None] ** 2 + across**2))
    for middle in (np.arange(SCENES) + 0.5) / SCENES:
        band = -1.0 - 0.5 * ((y - middle) * SCENES) ** 2
        logits.append(np.broadcast_to(band[:, None], (height, width)))
    likely = np.exp(np.stack(logits, -1))
    return (likely / likely.sum(-1, keepdims=True)).astype(np.float32)
