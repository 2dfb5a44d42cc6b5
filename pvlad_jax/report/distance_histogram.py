"""A histogram of distances whose range grows with them, so that it can be filled a block at a time."""

import numpy as np
from jaxtyping import Float, Int

BINS = 60  # an even number


class DistanceHistogram:
    """Counts of several kinds of pairs in the same bins, from 0 (or the least, where a distance is negative) to beyond
    the largest.

    Where a distance lies outside, the range is doubled and bins are merged in pairs, so the counts are those of the
    final bins, in whatever blocks the distances came.

    Attributes:
      counts: of each kind.
      edges: of the bins; from 0 to 1 before the first distance.
    """

    def __init__(self, kinds: int):
        self.counts: Int[np.ndarray, 'kinds b'] = np.zeros((kinds, BINS), np.int64)
        self._low, self._width = 0.0, 0.0

    @property
    def edges(self) -> Float[np.ndarray, 'edges']:
        return self._low + (self._width or 1 / BINS) * np.arange(BINS + 1)

    def add(self, *distances: Float[np.ndarray, '...']) -> None:
        """Counts finite distances, an array of each kind."""
        largest = max((d.max() for d in distances if d.size), default=None)
        if largest is None:
            return
        self._cover(min(d.min() for d in distances if d.size), largest)
        for kind, of_kind in enumerate(distances):
            place = np.floor((of_kind - self._low) / self._width).astype(np.int64)
            self.counts[kind] += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)  # clip: rounding alone

    def _cover(self, least: float, largest: float) -> None:
        if not self._width:
            self._low = min(1.05 * least, 0.0)
            self._width = max(1.05 * largest - self._low, 1e-6) / BINS
        while largest > self._low + BINS * self._width or least < self._low:
            merged = self.counts.reshape(len(self.counts), BINS // 2, 2).sum(2)
            empty = np.zeros_like(merged)
            if least < self._low:  # the upper half of the new range is the former one
                self._low -= BINS * self._width
                self.counts = np.concatenate([empty, merged], axis=1)
            else:
                self.counts = np.concatenate([merged, empty], axis=1)
            self._width *= 2
