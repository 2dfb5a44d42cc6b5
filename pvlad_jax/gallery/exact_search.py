"""Exact search: the k nearest gallery tracklets of every query, a block of queries at a time."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pvlad_jax.evaluation.blocks import ScoreRows, padded_size, queries_at_a_time

_MAX_GROUP = 256  # columns; padded galleries are multiples of it


def top_k(scores: ScoreRows, k: int) -> tuple[Int[np.ndarray, 'Q k'], Float[np.ndarray, 'Q k']]:
    """(gallery rows, scores), nearest first, equal scores in the order of rows; k is cut to the size of the gallery."""
    n_query, n_gallery = scores.shape
    k = min(k, n_gallery)
    columns, nearest = np.empty((n_query, k), np.int64), np.empty((n_query, k), np.float32)
    block = queries_at_a_time(padded_size(n_gallery))
    for start in range(0, n_query, block):
        index = np.arange(start, min(start + block, n_query))
        filled = np.pad(index, (0, block - len(index)), mode='edge')  # one compiled shape
        found = _smallest(scores.rows(filled), n_gallery, k)
        columns[index], nearest[index] = (np.asarray(part)[: len(index)] for part in found)
    return columns, nearest


@functools.partial(jax.jit, static_argnames='k')
def _smallest(
    scores: Float[Array, 'b M'], n_gallery: Int[Array, ''], k: int
) -> tuple[Int[Array, 'b k'], Float[Array, 'b k']]:
    """The k smallest of each row among its first n_gallery columns.

    They lie in the k groups of columns with the smallest minima, so only these are searched: jax.lax.top_k over whole
    rows of a large gallery takes longer on CPU than the scores themselves.
    """
    b, width = scores.shape
    scores = jnp.where(jnp.arange(width)[None, :] < n_gallery, scores, jnp.inf)
    # The two searches are over width / size and k · size columns: least where these are equal.
    size = min(_MAX_GROUP, 1 << max(0, round(math.log2(width / k) / 2)))
    groups = scores.reshape(b, width // size, size)
    _, group = jax.lax.top_k(-groups.min(axis=2), min(k, width // size))
    group = jnp.sort(group, axis=1)  # in the order of columns, so that equal scores stay in it
    candidates = jnp.take_along_axis(groups, group[:, :, None], axis=1).reshape(b, group.shape[1] * size)
    nearest, place = jax.lax.top_k(-candidates, k)
    return jnp.take_along_axis(group, place // size, axis=1) * size + place % size, -nearest
