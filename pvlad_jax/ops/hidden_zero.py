"""An index that XLA does not know, for slices that it must not see through."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def hidden_zero(numbers: Float[Array, '...']) -> Int[Array, '']:
    """0, from the bits of the first of some numbers; only the compiler of the machine code can tell that it is 0.

    XLA takes a slice of a padded array that sees no padding from the array itself, and then computes what that comes
    from again in every loop that reads one. With a start that it does not know it reads the padded array, which it
    writes once.
    """
    bits = lax.bitcast_convert_type(numbers[(0,) * numbers.ndim].astype(jnp.float32), jnp.uint32)
    one_bit = lax.shift_right_logical(bits, jnp.uint32(31))
    return lax.shift_right_logical(one_bit, jnp.uint32(1)).astype(jnp.int32)
