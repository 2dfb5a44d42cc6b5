"""Winograd's minimal filtering along the height for the gradient of a kernel: F(taps, 2), two rows of the output's
gradient at a time.

Winograd 1980. The gradient of n taps that see rows next to each other is the sum, over all pairs (g0, g1) of rows of
the output's gradient and the n + 1 rows x that they see, of g0 x[tap] + g1 x[tap + 1]: 2 n products of a row with a
row, of which n + 1 suffice. They are those of G @ (g0, g1) with SEEN @ x, and the gradients of the taps are TAPS @ the
results. The matrices are those of Toom and Cook for the points 0, 1, -1, 2 and infinity, as many as there are taps and
the last; sets of taps that share a point share its row of G.

With one tap the points are 0 and infinity: each row by itself, nothing is added and nothing saved.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array

INFINITY = 'infinity'
# What a point makes of the two rows of the output's gradient.
G = {0: (1, 0), 1: (1, 1), -1: (1, -1), 2: (1, 2), INFINITY: (0, 1)}


class Filter(NamedTuple):
    points: tuple[int | str, ...]
    seen: tuple[tuple[float, ...], ...]  # a row for every point: weights of the n + 1 rows seen
    taps: tuple[tuple[float, ...], ...]  # a row for every tap: weights of the points' products


# By the number of taps.
FILTERS = {
    1: Filter((0, INFINITY), ((1, 0), (0, 1)), ((1, 1),)),
    2: Filter((0, 1, INFINITY), ((1, -1, 0), (0, 1, 0), (0, -1, 1)), ((1, 1, 0), (0, 1, 1))),
    3: Filter(
        (0, 1, -1, INFINITY),
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
        ((1, 1 / 2, 1 / 2, 0), (0, 1 / 2, -1 / 2, 0), (0, 1 / 2, 1 / 2, 1)),
    ),
    4: Filter(
        (0, 1, -1, 2, INFINITY),
        ((2, -1, -2, 1, 0), (0, 2, 1, -1, 0), (0, -2, 3, -1, 0), (0, -1, 0, 1, 0), (0, 2, -1, -2, 1)),
        (
            (1 / 2, 1 / 2, 1 / 6, 1 / 6, 0),
            (0, 1 / 2, -1 / 6, 1 / 3, 0),
            (0, 1 / 2, 1 / 6, 2 / 3, 0),
            (0, 1 / 2, -1 / 6, 4 / 3, 1),
        ),
    ),
}
MAX_TAPS = max(FILTERS)


def weighted(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    """The sum. Weights of zero and one cost nothing."""
    return sum(term if k == 1 else k * term for k, term in zip(weights, terms) if k != 0)
