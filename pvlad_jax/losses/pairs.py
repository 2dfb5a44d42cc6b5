"""Which two videos of a batch show the same person, and how alike their embeddings are."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def positive_pairs(labels: Int[Array, 'B']) -> Bool[Array, 'B B']:
    """True where row and column are the same person but not the same video."""
    same = labels[:, None] == labels[None, :]
    return same & ~jnp.eye(labels.shape[0], dtype=bool)


def negative_pairs(labels: Int[Array, 'B']) -> Bool[Array, 'B B']:
    """True where row and column are two people."""
    return labels[:, None] != labels[None, :]


def similarities(a: Float[Array, 'B E'], b: Float[Array, 'C E']) -> Float[Array, 'B C']:
    """Products of all rows of a with all rows of b: cosines, where they are unit vectors."""
    # Accelerators multiply float32 matrices in bfloat16 or TF32 unless set otherwise, which would move 1 -
    # cos by more than margins bear.
    return jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32).T, precision='highest')


def mean_over(values: Float[Array, 'B'], keep: Bool[Array, 'B']) -> Float[Array, '']:
    """Mean of the values kept; 0 where none is."""
    return jnp.sum(jnp.where(keep, values, 0.0)) / jnp.maximum(jnp.sum(keep), 1)
