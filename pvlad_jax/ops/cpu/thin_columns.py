"""Columns side by side in the channels, for strided convolutions of pixels on XLA:CPU.

Three channels are too few for XLA's 2D convolution, which gathers what a window sees number by number, and copies of
windows of 7 x 3 numbers are no whole vectors. With `columns` columns of a row as one location the convolution is
another one: fewer, longer windows along the width, and in the gradient of the kernel several columns of the output in
one product. The same sums with zeros among them.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.padding import Pair

# Up to this many channels of the input.
THIN_CHANNELS = 8
# Channels of the output in one product of the kernel's gradient.
WIDE = 64


def columns_in_channels(
    x: Float[Array, 'N T H W C'], columns: int, front: int, locations: int, rows: Pair = (0, 0)
) -> Float[Array, 'N T h {locations} {columns}*C']:
    """Behind `front` columns of zeros, and before as many as are missing; what is beyond is cut off.

    rows: of zeros, above and below. Everything is padded as whole rows: a loop over three channels at a time takes
    three times as long.
    """
    n, t, height, width, c = x.shape
    end = columns * locations - front - width
    widths = [(0, 0, 0), (0, 0, 0), (*rows, 0), (front * c, end * c, 0)]
    padded = lax.pad(x.reshape(n, t, height, width * c), jnp.zeros((), x.dtype), widths)
    return padded.reshape(n, t, -1, locations, columns * c)


def kernel_of_columns(kernel: Float[Array, 'kh kw C D'], columns: int):
    """[kh, k, columns C, D] with k = ceil(kw / columns): zeros behind the last tap."""
    kh, kw, c, d = kernel.shape
    taps = -(-kw // columns)
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [(0, 0, 0), (0, taps * columns - kw, 0), *[(0, 0, 0)] * 2])
    return kernel.reshape(kh, taps, columns * c, d)


def columns_of_output(channels: int, width: int) -> int:
    """How many columns of an output of so many channels and locations in a row are taken as one, for the kernel's
    gradient.
    """
    return max(1, min(WIDE // channels, width))


def taps_of_columns(gradient: Float[Array, 'kh k XC OD'], kw: int, stride: int, columns: int, c: int):
    """[kh, kw, C, D]: the gradient of a kernel from that of one with `columns` columns O of the output as one location,
    and X = stride x columns of the input: the sum over them, each from `stride` columns on behind the last.
    """
    kh, d = gradient.shape[0], gradient.shape[-1] // columns
    taps = gradient.reshape(kh, -1, c, columns, d)
    return sum(taps[:, stride * i : stride * i + kw, :, i] for i in range(columns))
