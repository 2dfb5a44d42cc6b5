"""Exponential moving average of parameters and BatchNorm statistics, which may be evaluated instead of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree


def ema_update(ema: PyTree, values: PyTree, decay: float | Float[Array, ''], step: int | Int[Array, '']) -> PyTree:
    """ema + (1 - d) (values - ema), leaf by leaf, with d = min(decay, (1 + step) / (10 + step)).

    Args:
      ema: the average so far; begin with a copy of the values.
      step: updates averaged before this one, from 0. The usual warm-up of d keeps the random start from
        lingering: without it a decay of 0.999 would still hold 37 % of the start after 1,000 steps.
    Leaves that are not floating point (counters) are taken from `values` as they are.
    """
    step = jnp.asarray(step, jnp.float32)
    d = jnp.minimum(decay, (1 + step) / (10 + step))

    def average(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(jnp.result_type(new), jnp.floating):
            return new
        return (old + (1 - d) * (new - old)).astype(old.dtype)

    return jax.tree.map(average, ema, values)
