"""Distances between queries and gallery as one product a block: d = left_bias + right_bias - left · right.

Cosine, Euclidean and the learned metrics (a linear map, then signed squares) all have this form, so each streams in
blocks of queries.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.registry import Registry
from pvlad_jax.evaluation.blocks import padded_size
from pvlad_jax.evaluation.embeddings import Embeddings, as_array, check_finite
from pvlad_jax.evaluation.metric_learning import LEARNED, LearnedMetric

# What learns the metric on the training set; None for those that are not learned.
DISTANCES = Registry('distance', {'cosine': None, 'euclidean': None, **LEARNED})
_ROWS = 4096  # mapped at a time in float64
# Beyond these, squares of numbers and of their differences come near to the ends of float32's range.
_LARGE, _SMALL = 1e15, 1e-6


@dataclasses.dataclass(frozen=True)
class BilinearDistance:
    """Distances of every query to every gallery tracklet, computed where they are asked for.

    Scores leave out the query's own bias: it changes no order within a row, and adding it would cost digits (1 - cosine
    ties where cosine does not).
    """

    left: Float[np.ndarray, 'Q E']
    left_bias: Float[np.ndarray, 'Q']
    right: Float[Array, 'M E']  # padded
    right_bias: Float[Array, 'M']
    shape: tuple[int, int]
    definite: bool = True  # no distance is negative

    def rows(self, index: Int[np.ndarray, 'b']) -> Float[Array, 'b M']:
        return _scores(jnp.asarray(self.left[index]), self.right, self.right_bias)

    def distances(self, index: Int[np.ndarray, 'b']) -> Float[np.ndarray, 'b N']:
        """1 - cosine, the squared Euclidean distance, or the learned one; divided by a power of 4 where the embeddings'
        squares would not fit float32."""
        distances = np.asarray(self.rows(index))[:, : self.shape[1]] + self.left_bias[index, None]
        if self.definite:  # below 0 by rounding only
            distances = np.maximum(distances, 0)
        return distances


@dataclasses.dataclass(frozen=True)
class MatrixDistance:
    """Distances that are given whole."""

    matrix: Float[np.ndarray, 'Q N']

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    def rows(self, index: Int[np.ndarray, 'b']) -> Float[Array, 'b M']:
        rows = self.matrix[index]
        if rows.dtype.itemsize > 4:  # places in the row's order instead: float32 would tie what float64 tells apart
            import scipy.stats  # slow to import, and seldom needed

            rows = scipy.stats.rankdata(rows, method='dense', axis=1)
        padding = padded_size(self.shape[1]) - self.shape[1]
        return jnp.asarray(np.pad(rows.astype(np.float32), ((0, 0), (0, padding))))

    def distances(self, index: Int[np.ndarray, 'b']) -> Float[np.ndarray, 'b N']:
        return np.asarray(self.matrix[index], np.float32)


@jax.jit
def _scores(
    left: Float[Array, 'b E'], right: Float[Array, 'M E'], right_bias: Float[Array, 'M']
) -> Float[Array, 'b M']:
    # 'highest': otherwise GPUs and TPUs multiply with fewer bits.
    product = jax.lax.dot_general(left, right, (((1,), (1,)), ((), ())), precision='highest')
    return right_bias[None, :] - product


def check_matrix(matrix: Any) -> MatrixDistance:
    """A distance matrix, checked. UserError where it is not a finite float matrix."""
    matrix = as_array(matrix, 'The distance matrix')
    if matrix.ndim != 2 or matrix.dtype.kind != 'f':
        raise UserError(f'A distance matrix is floats [queries, gallery]; got {matrix.dtype} of shape {matrix.shape}.')
    check_finite(matrix, 'The distance matrix', kind=np.float64)
    return MatrixDistance(matrix if matrix.dtype.itemsize <= 8 else matrix.astype(np.float64))


def learned_metric(distance: str, train: Embeddings | None) -> LearnedMetric | None:
    """The metric of a distance that is learned, from the training set; None for cosine and Euclidean.

    UserError where a training set is needed and there is none.
    """
    learn = DISTANCES[distance]
    if learn is None:
        return None
    if train is None:
        raise UserError(f'The distance {distance} is learned: it needs the embeddings of the training set.')
    return learn(train)


def pairwise_distance(
    query: Embeddings, gallery: Embeddings, distance: str = 'cosine', learned: LearnedMetric | None = None
) -> BilinearDistance:
    """The distance of every query to every gallery tracklet.

    Args:
      learned: of `learned_metric`, for the distances that are learned.
    """
    if query.embedding.shape[1] != gallery.embedding.shape[1]:
        raise UserError(
            f'Embeddings of queries have {query.embedding.shape[1]} numbers, those of the gallery '
            f'{gallery.embedding.shape[1]}. They must come from the same network.'
        )
    shape, width = (len(query), len(gallery)), padded_size(len(gallery))
    if distance == 'cosine':
        left, right = _unit(query, 'queries', len(query)), _unit(gallery, 'gallery', width)
        return BilinearDistance(
            left, np.ones(len(left), np.float32), jnp.asarray(right), jnp.zeros(width, jnp.float32), shape
        )
    if learned is not None and learned.projection.shape[0] != query.embedding.shape[1]:
        raise UserError(
            f'The metric was learned on embeddings of {learned.projection.shape[0]} numbers, '
            f'these have {query.embedding.shape[1]}.'
        )
    # |q|² + |g|² - 2 q·g loses digits where vectors are far from the origin; distances do not change with it.
    origin = query.embedding.mean(axis=0, dtype=np.float64)
    exponent = _exponent(query, gallery, learned)
    left, right = (_mapped(t, origin, learned, n, exponent) for t, n in ((query, len(query)), (gallery, width)))
    signs = np.ones(left.shape[1]) if learned is None else learned.signs
    left_bias, right_bias = (
        np.einsum('ne,ne,e->n', x, x, signs, dtype=np.float64, optimize=True).astype(np.float32) for x in (left, right)
    )
    left *= 2 * signs.astype(np.float32)
    return BilinearDistance(
        left, left_bias, jnp.asarray(right), jnp.asarray(right_bias), shape, learned is None or learned.definite
    )


def _exponent(query: Embeddings, gallery: Embeddings, learned: LearnedMetric | None) -> int:
    """Of the power of two by which mapped embeddings are divided, so that their squares fit float32; mostly 0."""
    largest = max(float(np.abs(t.embedding[rows]).max()) for t in (query, gallery) for rows in _blocks(len(t)))
    largest *= 1 if learned is None else float(np.abs(learned.projection).max()) * np.sqrt(learned.projection.shape[0])
    return 0 if _SMALL < largest < _LARGE or largest == 0 else int(np.frexp(largest)[1])


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, n, _ROWS))


# Both write into the one padded array that is kept: galleries can be as large as memory.
def _mapped(
    table: Embeddings, origin: Float[np.ndarray, 'E'], learned: LearnedMetric | None, width: int, exponent: int
) -> Float[np.ndarray, 'M R']:
    """Embeddings from a new origin, through the learned map, divided by a power of two; the rest zeros."""
    x = np.zeros((width, table.embedding.shape[1] if learned is None else learned.projection.shape[1]), np.float32)
    for rows in _blocks(len(table)):
        moved = table.embedding[rows] - origin
        moved = moved if learned is None else moved @ learned.projection
        x[: len(table)][rows] = np.ldexp(moved, -exponent) if exponent else moved
    return x


def _unit(table: Embeddings, name: str, width: int) -> Float[np.ndarray, 'M E']:
    """Unit vectors; the rest zeros."""
    x = np.zeros((width, table.embedding.shape[1]), np.float32)
    for rows in _blocks(len(table)):
        block = table.embedding[rows]
        largest = np.abs(block).max(axis=1)
        if not largest.all():
            row = rows.start + int((largest == 0).argmax())
            raise UserError(
                f'The embedding of {str(table.tracklet[row])!r} ({name}) is all zeros: it has no direction, '
                'so no cosine distance.'
            )
        if largest.min() < _SMALL or largest.max() > _LARGE:  # else no square leaves the range
            block = block / largest[:, None].astype(np.float64)
        norm = np.sqrt(np.einsum('ne,ne->n', block, block, dtype=np.float64))
        np.divide(block, norm[:, None].astype(block.dtype), out=x[: len(table)][rows], casting='same_kind')
    return x
