"""Distances between queries and gallery as one product a block: d = left_bias + right_bias - left · right.

Cosine, Euclidean and the learned metrics (a linear map, then Euclidean) all have this form, so each streams in blocks of queries.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation.cmc_map import padded_size
from pvlad_jax.evaluation.embedding_file import Embeddings, check_finite
from pvlad_jax.evaluation.xqda_kissme import kissme, xqda

DISTANCES = ('cosine', 'euclidean', 'xqda', 'kissme')


@dataclasses.dataclass(frozen=True)
class BilinearDistance:
    """Distances of every query to every gallery tracklet, computed where they are asked for.

    Scores leave out the query's own bias: it changes no order within a row, and adding it would cost digits (1 - cosine ties where cosine
    does not).
    """

    left: Float[np.ndarray, 'Q E']
    left_bias: Float[np.ndarray, 'Q']
    right: Float[Array, 'M E']  # padded
    right_bias: Float[Array, 'M']
    shape: tuple[int, int]

    def rows(self, index: Int[np.ndarray, 'b']) -> Float[Array, 'b M']:
        return _scores(jnp.asarray(self.left[index]), self.right, self.right_bias)

    def distances(self, index: Int[np.ndarray, 'b']) -> Float[np.ndarray, 'b N']:
        """1 - cosine, or the squared Euclidean distance."""
        return np.maximum(np.asarray(self.rows(index))[:, :self.shape[1]] + self.left_bias[index, None], 0)


@dataclasses.dataclass(frozen=True)
class MatrixDistance:
    """Anybody's distances, given whole."""

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
def _scores(left: Float[Array, 'b E'], right: Float[Array, 'M E'], right_bias: Float[Array, 'M']) -> Float[Array, 'b M']:
    # 'highest': otherwise GPUs and TPUs multiply with fewer bits.
    product = jax.lax.dot_general(left, right, (((1,), (1,)), ((), ())), precision='highest')
    return right_bias[None, :] - product


def check_matrix(matrix: Shaped[np.ndarray, '...']) -> MatrixDistance:
    """A distance matrix, checked. UserError where it is not a finite float matrix."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.dtype.kind != 'f':
        raise UserError(f'A distance matrix is floats [queries, gallery]; got {matrix.dtype} of shape {matrix.shape}.')
    check_finite(matrix, 'The distance matrix')
    return MatrixDistance(matrix)


def linear_map(distance: str, train: Embeddings | None) -> Float[np.ndarray, 'E R'] | None:
    """The map that the distance puts before the comparison, learned on the training set; None for cosine and Euclidean."""
    if distance not in DISTANCES:
        raise UserError(f'Unknown distance {distance!r}; known are {", ".join(DISTANCES)}.')
    if distance in ('cosine', 'euclidean'):
        return None
    if train is None:
        raise UserError(f'The distance {distance} is learned: it needs the embeddings of the training set.')
    return (xqda if distance == 'xqda' else kissme)(train)


def between(query: Embeddings, gallery: Embeddings, distance: str = 'cosine',
            learned: Float[np.ndarray, 'E R'] | None = None) -> BilinearDistance:
    """The distance of every query to every gallery tracklet.

    Args:
      learned: of `linear_map`, for the distances that are learned.
    """
    if query.embedding.shape[1] != gallery.embedding.shape[1]:
        raise UserError(f'Embeddings of queries have {query.embedding.shape[1]} numbers, those of the gallery '
                        f'{gallery.embedding.shape[1]}. They must come from the same network.')
    n, width = len(gallery), padded_size(len(gallery))
    if distance == 'cosine':
        left, right = _unit(query, 'queries', len(query)), _unit(gallery, 'gallery', width)
        left_bias, right_bias = np.ones(len(left), np.float32), np.zeros(width, np.float32)
    else:
        if learned is not None and learned.shape[0] != query.embedding.shape[1]:
            raise UserError(f'The metric was learned on embeddings of {learned.shape[0]} numbers, these have {query.embedding.shape[1]}.')
        # |q|² + |g|² - 2 q·g loses digits where vectors are far from the origin; distances do not change with it.
        origin = query.embedding.mean(axis=0, dtype=np.float64).astype(np.float32)
        left, right = _mapped(query, origin, learned, len(query)), _mapped(gallery, origin, learned, width)
        left_bias, right_bias = (np.einsum('ne,ne->n', x, x, dtype=np.float64).astype(np.float32) for x in (left, right))
        left *= 2
    return BilinearDistance(left, left_bias, jnp.asarray(right), jnp.asarray(right_bias), (len(query), n))


# Both write into the one padded array that is kept: galleries can be as large as memory.
def _mapped(table: Embeddings, origin: Float[np.ndarray, 'E'], learned: Float[np.ndarray, 'E R'] | None,
            width: int) -> Float[np.ndarray, 'M R']:
    """Embeddings from a new origin, through the learned map; the rest zeros."""
    x = np.zeros((width, (table.embedding if learned is None else learned).shape[1]), np.float32)
    if learned is None:
        np.subtract(table.embedding, origin, out=x[:len(table)])
    else:
        np.matmul(table.embedding - origin, learned.astype(np.float32), out=x[:len(table)])
    return x


def _unit(table: Embeddings, name: str, width: int) -> Float[np.ndarray, 'M E']:
    """Unit vectors; the rest zeros."""
    norm = np.sqrt(np.einsum('ne,ne->n', table.embedding, table.embedding, dtype=np.float64))
    if not norm.all():
        row = int((norm == 0).argmax())
        raise UserError(f'The embedding of {str(table.tracklet[row])!r} ({name}) is all zeros: it has no direction, so no cosine distance.')
    x = np.zeros((width, table.embedding.shape[1]), np.float32)
    np.divide(table.embedding, norm[:, None].astype(np.float32), out=x[:len(table)])
    return x
