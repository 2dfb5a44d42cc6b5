"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), in memory that grows with tracklets x neighbours,
not tracklets².

Every tracklet i gets a sparse vector V_i over all tracklets: exp(-d) on its expanded set of k1-reciprocal neighbours,
scaled to sum 1 and averaged over its k2 nearest. The new distance is (1 - λ) · Jaccard(V_i, V_j) + λ · d(i, j), with d
divided by the largest of its row. Parameters and order of steps are those of the authors' public code; neighbours at
equal distance are taken in the order of their rows.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from pvlad_jax.evaluation.blocks import padded_size
from pvlad_jax.evaluation.distances import BilinearDistance
from pvlad_jax.evaluation.ranked_lists import smallest_k

_BLOCK = 256  # rows of distances at a time


@dataclasses.dataclass(frozen=True)
class RerankedDistance:
    """Re-ranked distances of queries to a gallery, a block of queries at a time."""

    pairwise: BilinearDistance  # of all_tracklets to all_tracklets
    largest: Float[np.ndarray, 'A']  # distance from each
    encoding: scipy.sparse.csr_array  # V [A, A]
    by_neighbour: scipy.sparse.csc_array  # the same, by columns
    query_rows: Int[np.ndarray, 'Q']  # of all_tracklets
    columns: Int[np.ndarray, 'J']  # of the gallery that scores are for, the first J of all_tracklets in this order
    shape: tuple[int, int]
    share: float  # λ of the original distance

    def rows(self, index: Int[np.ndarray, 'b']) -> Float[Array, 'b N']:
        return jnp.asarray(np.pad(self.distances(index), ((0, 0), (0, padded_size(self.shape[1]) - self.shape[1]))))

    def distances(self, index: Int[np.ndarray, 'b']) -> Float[np.ndarray, 'b N']:
        """Columns that took no part (junk) are 2, farther than any other."""
        rows = self.query_rows[index]
        original = self.pairwise.distances(rows) / self.largest[rows, None]
        jaccard = np.stack([self._jaccard(row) for row in rows.tolist()])
        final = np.full((len(index), self.shape[1]), 2, np.float32)
        final[:, self.columns] = ((1 - self.share) * jaccard + self.share * original)[:, : len(self.columns)]
        return final

    def _jaccard(self, row: int) -> Float[np.ndarray, 'A']:
        """1 - Σ min(V_i, V_j) / Σ max(V_i, V_j) to all j; both sums need only the columns in which V_i is not 0, as
        rows sum to 1.
        """
        start, end = self.encoding.indptr[row : row + 2]
        neighbours = self.by_neighbour[:, self.encoding.indices[start:end]]
        limit = np.repeat(self.encoding.data[start:end], np.diff(neighbours.indptr))
        shared = np.bincount(neighbours.indices, np.minimum(neighbours.data, limit), minlength=self.encoding.shape[0])
        return 1 - shared / (2 - shared)


def k_reciprocal(
    pairwise: BilinearDistance,
    query_rows: Int[np.ndarray, 'Q'],
    columns: Int[np.ndarray, 'J'] | None = None,
    n_columns: int | None = None,
    k1: int = 20,
    k2: int = 6,
    share: float = 0.3,
) -> RerankedDistance:
    """Prepares the encoding; distances are then made a block of queries at a time.

    Args:
      pairwise: distances of all_tracklets (gallery first, then queries that are not in it) to all_tracklets.
      query_rows: the queries' rows.
      columns: of the resulting gallery, which of its columns the first of all_tracklets are; None = all of
        all_tracklets, in order.
      n_columns: size of the resulting gallery.
      k1, k2, share: neighbours, neighbours averaged over, λ.
    """
    n = pairwise.shape[0]
    columns = np.arange(n) if columns is None else columns
    k1, k2 = min(k1, n - 1), min(k2, n)
    nearest, largest = _nearest(pairwise, max(k1 + 1, k2))
    reciprocal = _reciprocal(nearest[:, : k1 + 1])
    half = _reciprocal(nearest[:, : int(np.around(k1 / 2)) + 1])
    # A neighbour's own (half-sized) set joins, if more than two thirds of it are in the set already.
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    joins = shared.data > 2 / 3 * half.sum(axis=1)[shared.col]
    joining = scipy.sparse.csr_array(
        (np.ones(joins.sum(), np.float32), (shared.row[joins], shared.col[joins])), shape=(n, n)
    )
    expanded = (reciprocal + joining @ half).tocsr()
    expanded.sort_indices()
    weight = np.exp(-_distances_of(pairwise, expanded) / np.repeat(largest, np.diff(expanded.indptr)))
    encoding = scipy.sparse.csr_array((weight, expanded.indices, expanded.indptr), shape=(n, n))
    encoding = scipy.sparse.dia_array((1 / encoding.sum(axis=1)[None, :], 0), shape=(n, n)) @ encoding
    if k2 > 1:
        average = scipy.sparse.csr_array(
            (np.full(n * k2, 1 / k2), nearest[:, :k2].ravel(), np.arange(n + 1) * k2), shape=(n, n)
        )
        encoding = average @ encoding
    encoding = encoding.tocsr()
    shape = (len(query_rows), n if n_columns is None else n_columns)
    return RerankedDistance(pairwise, largest, encoding, encoding.tocsc(), query_rows, columns, shape, share)


def _nearest(pairwise: BilinearDistance, k: int) -> tuple[Int[np.ndarray, 'A k'], Float[np.ndarray, 'A']]:
    """(the k nearest of each, itself first and then the nearest; the largest distance of each)."""
    n = pairwise.shape[0]
    nearest, largest = np.empty((n, k), np.int64), np.empty(n, np.float32)
    for start in range(0, n, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, n))
        distances = pairwise.distances(rows)
        distances[np.arange(len(rows)), rows] = 0  # to itself, which rounding can miss
        largest[rows] = np.abs(distances).max(axis=1)  # a learned metric may give negative ones
        distances[np.arange(len(rows)), rows] = -np.inf  # before all that are as near, however many
        nearest[rows] = smallest_k(distances, k)
    return nearest, np.maximum(largest, np.finfo(np.float32).tiny)


def _reciprocal(nearest: Int[np.ndarray, 'A k']) -> scipy.sparse.csr_array:
    """1 where i is among the nearest of j and j among those of i."""
    n, k = nearest.shape
    forward = scipy.sparse.csr_array((np.ones(n * k, np.float32), nearest.ravel(), np.arange(n + 1) * k), shape=(n, n))
    return forward.multiply(forward.T).tocsr()


def _distances_of(pairwise: BilinearDistance, pairs: scipy.sparse.csr_array) -> Float[np.ndarray, 'L']:
    """Distances of the stored pairs of a sparse matrix, in its order."""
    result = np.empty(pairs.nnz)
    for start in range(0, pairwise.shape[0], _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, pairwise.shape[0]))
        first, last = pairs.indptr[rows[0]], pairs.indptr[rows[-1] + 1]
        row = np.repeat(np.arange(len(rows)), np.diff(pairs.indptr[start : rows[-1] + 2]))
        result[first:last] = pairwise.distances(rows)[row, pairs.indices[first:last]]
    return result
