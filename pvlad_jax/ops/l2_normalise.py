"""Unit vectors with finite gradients."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Inside square roots: the gradient of a norm at 0 (an empty cluster, a masked location) stays finite.
EPSILON = 1e-12


def l2_normalise(x: Float[Array, '*batch D'], axis: int = -1) -> Float[Array, '*batch D']:
    """x / |x|, and 0 at 0 with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True) + EPSILON)
