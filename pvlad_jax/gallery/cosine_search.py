"""Exact search among stored vectors: one pass over them, a block of rows at a time, whatever their number.

A block's similarities are one matrix product; of these only what exceeds a query's k-th best so far is looked at again,
which after the first blocks is next to nothing. The survivors are scored once more in float64, so that neither the size
of the blocks nor the number of threads changes a result, and equal distances stand in the order of rows. NumPy: its
product is as fast as that of XLA on a CPU, and nothing is compiled.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

_BLOCK_SCORES = 2**21  # 8 MiB: similarities of a block stay in the last cache between the product and the comparison
_MIN_ROWS, _MAX_ROWS = 1024, 65_536
_MAX_QUERIES = 1024  # at a time
_MAX_TIES = 1000  # candidates beyond k that are kept where their scores equal the k-th but for rounding

Allowed = Callable[[Int[np.ndarray, 'c'], Int[np.ndarray, 'c']], Bool[np.ndarray, 'c']]


def search(
    queries: Float[np.ndarray, 'Q E'],
    parts: Sequence[Float[np.ndarray, '_ E']],
    k: int,
    *,
    rows: Bool[np.ndarray, 'N'] | None = None,
    allowed: Allowed | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> tuple[Int[np.ndarray, 'Q k'], Float[np.ndarray, 'Q k']]:
    """(rows, distances) of the k nearest of each query, nearest first; row -1 and distance inf where there are fewer.
    Memory grows with k.

    Args:
      queries, parts: unit vectors, float32; rows are counted over all parts, which may be memory-mapped.
      k: from 1.
      rows: which rows take part; None = all.
      allowed: whether pairs of a query and a row, given by their numbers, may be results; None = all.
      done: called with the number of products of a query and a row that were made.

    Distances are 1 - cosine.
    """
    found = np.full((len(queries), k), -1), np.full((len(queries), k), np.inf)
    for start in range(0, len(queries), _MAX_QUERIES):
        chunk = slice(start, start + _MAX_QUERIES)
        among = allowed and (lambda query, row, start=start: allowed(query + start, row))
        for result, part in zip(found, _search(np.ascontiguousarray(queries[chunk]), parts, k, rows, among, done)):
            result[chunk] = part
    return found


def _search(queries, parts, k, rows, allowed, done):
    best = _Best(queries, parts, k)
    n_rows = int(np.clip(_BLOCK_SCORES // max(len(queries), 1), _MIN_ROWS, _MAX_ROWS))
    for first, block in _blocks(parts, n_rows):
        numbers = None
        if rows is not None:
            chosen = np.flatnonzero(rows[first : first + len(block)])
            if not len(chosen):
                done(len(queries) * len(block))
                continue
            if len(chosen) < len(block):
                block, numbers = block[chosen], first + chosen
        similarity = queries @ block.T
        best.update(similarity, np.arange(first, first + len(block)) if numbers is None else numbers, allowed)
        done(len(queries) * len(block))
    return best.result()


def _blocks(parts: Iterable[np.ndarray], n_rows: int):
    """(number of its first row, block), in order."""
    first = 0
    for part in parts:
        for start in range(0, len(part), n_rows):
            yield first + start, part[start : start + n_rows]
        first += len(part)


class _Best:
    """The candidates of each query so far."""

    def __init__(self, queries: Float[np.ndarray, 'Q E'], parts: Sequence[Float[np.ndarray, '_ E']], k: int):
        self.queries, self.parts, self.k = queries, parts, k
        # What rounding can move a similarity of unit vectors by, twice: the candidate's and the k-th one's.
        self.margin = np.float32(2 * queries.shape[1] * 2.0**-24)
        self.limit = np.full(len(queries), -np.inf, np.float32)  # k-th best - margin
        self.query, self.row, self.score = (np.empty(0, t) for t in (np.int64, np.int64, np.float32))
        self.pending: list[tuple[np.ndarray, ...]] = []
        self.n_pending = 0

    def update(
        self, similarity: Float[np.ndarray, 'Q b'], numbers: Int[np.ndarray, 'b'], allowed: Allowed | None
    ) -> None:
        width = len(numbers)
        hits = similarity > self.limit[:, None]
        if np.count_nonzero(hits) > 4 * self.k * len(hits) and width > self.k:
            if allowed is not None:
                place = np.nonzero(hits)
                hits[place] = allowed(place[0], numbers[place[1]])
                similarity = np.where(hits, similarity, -np.inf)
            kth = np.partition(similarity, width - self.k, axis=1)[:, width - self.k]
            self.limit = np.maximum(self.limit, kth - self.margin)
            hits &= similarity >= self.limit[:, None]
        flat = np.flatnonzero(hits)
        if not len(flat):
            return
        query, column = np.divmod(flat, width)
        row = numbers[column]
        if allowed is not None:
            keep = allowed(query, row)
            query, row, flat = query[keep], row[keep], flat[keep]
        self.pending.append((query, row, similarity.ravel()[flat]))
        self.n_pending += len(query)
        if self.n_pending > 16 * self.k * len(self.queries) ** 0.5 + len(self.queries):
            self._merge()

    def _merge(self) -> None:
        query, row, score = (
            np.concatenate([old, *new]) for old, *new in zip((self.query, self.row, self.score), *self.pending)
        )
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        start = np.searchsorted(query, np.arange(len(self.queries)))
        size = np.diff(np.append(start, len(query)))
        full = size >= self.k
        kth = score[start[full] + self.k - 1]
        self.limit[full] = np.maximum(self.limit[full], kth - self.margin)
        keep = (score >= self.limit[query]) & (np.arange(len(query)) - start[query] < self.k + _MAX_TIES)
        self.query, self.row, self.score = query[keep], row[keep], score[keep]
        self.pending, self.n_pending = [], 0

    def result(self) -> tuple[Int[np.ndarray, 'Q k'], Float[np.ndarray, 'Q k']]:
        self._merge()
        return rescored(self.queries, self.parts, self.query, self.row, self.k)


def rescored(
    queries: Float[np.ndarray, 'Q E'],
    parts: Sequence[Float[np.ndarray, '_ E']],
    query: Int[np.ndarray, 'c'],
    row: Int[np.ndarray, 'c'],
    k: int,
) -> tuple[Int[np.ndarray, 'Q k'], Float[np.ndarray, 'Q k']]:
    """The k nearest of each query among candidates (pairs of a query and a row), by their distance in float64.

    Returns:
      As `search`.
    """
    distance = np.empty(len(row))
    for start in range(0, len(row), 4096):
        pair = slice(start, start + 4096)
        vectors = gather(parts, row[pair]).astype(np.float64)
        distance[pair] = 1 - np.einsum('ce,ce->c', queries[query[pair]].astype(np.float64), vectors)
    distance = np.maximum(distance, 0)  # below 0 by rounding only, and then a tie
    order = np.lexsort((row, distance, query))
    query, row, distance = query[order], row[order], distance[order]
    place = np.arange(len(query)) - np.searchsorted(query, np.arange(len(queries)))[query]
    keep = place < k
    rows, distances = np.full((len(queries), k), -1), np.full((len(queries), k), np.inf)
    rows[query[keep], place[keep]], distances[query[keep], place[keep]] = row[keep], distance[keep]
    return rows, distances


def gather(parts: Sequence[Float[np.ndarray, '_ E']], row: Int[np.ndarray, 'c']) -> Float[np.ndarray, 'c E']:
    """The vectors of these rows, counted over all parts."""
    starts = np.cumsum([0, *map(len, parts)])
    vectors = np.empty((len(row), parts[0].shape[1] if len(parts) else 0), np.float32)
    part = np.searchsorted(starts, row, side='right') - 1
    for number in np.unique(part):
        chosen = part == number
        vectors[chosen] = parts[number][row[chosen] - starts[number]]
    return vectors
