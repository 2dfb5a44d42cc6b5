"""Zeros that XLA does not know: for slices that it must not see through, and for what it must not compute too early."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def hidden_zero(numbers: Float[Array, '...']) -> Int[Array, '']:
    """0, from the bits of the first of some numbers; only the compiler of the machine code can tell that it is 0.

    XLA takes a slice of a padded array that sees no padding from the array itself, and then computes what that comes
    from again in every loop that reads one. With a start that it does not know it reads the padded array, which it
    writes once.
    """
    return _zeros(numbers[(0,) * numbers.ndim])


def zero_after(numbers: Float[Array, 'N *rest']) -> Float[Array, 'N *ones']:
    """0 of each of N clips, [N, 1, ...], from the first of its numbers.

    What it is added to is not changed, and is known only when the numbers are: XLA would compute what a backward pass
    needs of the forward pass alone as soon as it can, and keep it.
    """
    return _zeros(numbers[(slice(None), *[slice(1)] * (numbers.ndim - 1))]).astype(jnp.float32)


def _zeros(numbers):
    bits = lax.bitcast_convert_type(numbers.astype(jnp.float32), jnp.uint32)
    one_bit = lax.shift_right_logical(bits, jnp.uint32(31))
    return lax.shift_right_logical(one_bit, jnp.uint32(1)).astype(jnp.int32)
