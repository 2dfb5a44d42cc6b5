"""Distances of all pairs of a query and a gallery tracklet, of one person and of two, in an amount that fits memory."""

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 20_000  # of distances from 0 to 2, for the curves
_TAIL = 3  # times as many of the nearest pairs of two people as the rate asks for are kept, for resamples
_MIN_TAIL = 20_000


class PairDistances:
    """What is kept of the distances of all pairs: all those of one person, and the nearest of two people."""

    def __init__(self, of_query: Int[np.ndarray, 'Q'], of_gallery: Int[np.ndarray, 'N'], rate: float):
        self.of_query, self.of_gallery = of_query, of_gallery
        self.tail_size = max(_MIN_TAIL, int(_TAIL * rate * len(of_query) * len(of_gallery)))
        self.n_one = self.n_two = 0
        self.one: list[np.ndarray] = []  # distances of pairs of one person
        self.one_person: list[np.ndarray] = []
        # The nearest pairs of two people: distance, query's person, other person.
        self.tail = np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int32)
        self.histogram_two = np.zeros(BINS + 1, np.int64)
        n = len(of_query)
        self.nearest_one, self.nearest_two = np.full(n, np.inf), np.full(n, np.inf)

    def add(
        self,
        rows: Int[np.ndarray, 'b'],
        distance: Float[np.ndarray, 'b N'],
        good: Bool[np.ndarray, 'b N'],
        ignored: Bool[np.ndarray, 'b N'],
    ) -> None:
        """Takes the distances of the queries `rows` to the whole gallery: good pairs are of one person, those neither
        good nor ignored of two.
        """
        query, column = np.nonzero(good)
        self.one.append(distance[good])
        self.one_person.append(self.of_query[rows[query]])
        self.n_one += len(query)
        self.nearest_one[rows] = np.where(good, distance, np.inf).min(axis=1)
        two = ~good & ~ignored
        apart = np.where(two, distance, np.inf)
        self.nearest_two[rows] = apart.min(axis=1)
        self.n_two += int(two.sum())
        self.histogram_two += np.bincount(distance_bin(distance[two]), minlength=BINS + 1)
        limit = self.tail[0].max() if len(self.tail[0]) >= self.tail_size else np.inf
        query, column = np.nonzero(apart < limit) if np.isfinite(limit) else np.nonzero(two)
        new = apart[query, column].astype(np.float32), self.of_query[rows[query]], self.of_gallery[column]
        tail = [np.concatenate(both) for both in zip(self.tail, new)]
        if len(tail[0]) > self.tail_size:
            nearest = np.argpartition(tail[0], self.tail_size)[: self.tail_size]
            tail = [part[nearest] for part in tail]
        self.tail = tuple(tail)


def distance_bin(distance: Float[np.ndarray, '*p']) -> Int[np.ndarray, '*p']:
    """The bin of each distance, 0 to BINS; distances from 0 to 2 are divided evenly."""
    return np.clip((distance * (BINS / 2)).astype(np.int64), 0, BINS)
