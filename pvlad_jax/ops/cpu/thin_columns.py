"""Columns side by side in the channels, for strided convolutions of pixels on XLA:CPU.

Three channels are too few for XLA's 2D convolution, which gathers what a window sees number by number. With as many
columns of a row as one location as the stride is, it is a convolution of fewer taps and more channels: the same sums
with zeros among them.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Up to this many channels of the input.
THIN_CHANNELS = 8


def columns_in_channels(
    x: Float[Array, 'N T H W C'], columns: int, front: int, locations: int
) -> Float[Array, 'N T H {locations} {columns}*C']:
    """Behind `front` columns of zeros, and before as many as are missing; what is beyond is cut off.

    Padded as whole rows: a loop over three channels at a time takes three times as long.
    """
    n, t, height, width, c = x.shape
    end = columns * locations - front - width
    widths = [(0, 0, 0), (0, 0, 0), (0, 0, 0), (front * c, end * c, 0)]
    padded = lax.pad(x.reshape(n, t, height, width * c), jnp.zeros((), x.dtype), widths)
    return padded.reshape(n, t, height, locations, columns * c)


def kernel_of_columns(kernel: Float[Array, 'kh kw C D'], columns: int):
    """[kh, k, columns C, D] with k = ceil(kw / columns): zeros behind the last tap."""
    kh, kw, c, d = kernel.shape
    taps = -(-kw // columns)
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [(0, 0, 0), (0, taps * columns - kw, 0), *[(0, 0, 0)] * 2])
    return kernel.reshape(kh, taps, columns * c, d)
