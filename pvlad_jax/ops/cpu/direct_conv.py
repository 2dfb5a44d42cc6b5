"""Convolution of pixels for XLA:CPU as sums of products in one loop, without windows and without matrix products.

Three channels are too few for XLA's 2D convolution, and sixteen results too few for its matrix product. Of a sum of
products of slices XLA:CPU makes one loop whose inner one runs over the channels of the result; with vectors of 512 bits
(`vector_width`) sixteen channels are one register, and the other factor is a number that the multiplication spreads.
What it gave stands in docs/notes/osnet_speed.md.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.hidden_zero import hidden_zero, zero_after
from pvlad_jax.ops.padding import Pair

# Channels of the result that one loop computes.
GROUP = 16
# Terms of one sum: more of them no longer become one vectorised loop (441 terms took six times as long as a
# convolution, 147 half as long).
MAX_TERMS = 160
# Sums that do not wait for each other, of which the whole is made: an addition takes four cycles.
CHAINS = 7
# Locations of the output's gradient a block, and at most this many of them in a row.
BLOCK, BLOCK_WIDTH = 128, 32


def suits_forward(kernel: Float[Array, 'kh kw C D']) -> bool:
    """Whether `forward` is the faster way for pixels: for 32 channels and more matrix products are."""
    return math.prod(kernel.shape[:3]) <= MAX_TERMS and kernel.shape[-1] <= GROUP


def suits_gradient(kernel: Float[Array, 'kh kw C D']) -> bool:
    """Whether `kernel_gradient` is the faster way for pixels: not for kernels of several frames (441 taps and more) to
    64 channels.
    """
    return math.prod(kernel.shape[:3]) <= MAX_TERMS or kernel.shape[-1] <= GROUP


def _sum(terms: Sequence[Array]) -> Array:
    """In several sums that do not wait for each other."""
    size = -(-len(terms) // CHAINS)
    sums = [sum(terms[i + 1 : i + size], terms[i]) for i in range(0, len(terms), size)]
    return sum(sums[1:], sums[0])


def _rows(
    x: Float[Array, 'N T H W C'], front: Pair, size: Pair, spare: int = 0
) -> Float[Array, 'N T {size[0]+spare} {size[1]}*C']:
    """Locations of a row side by side, among as many zeros as make `size`; what is beyond is cut off."""
    n, t, height, width, c = x.shape
    end = size[0] - front[0] - height + spare, size[1] - front[1] - width
    widths = [(0, 0, 0), (0, 0, 0), (front[0], end[0], 0), (front[1] * c, end[1] * c, 0)]
    return lax.pad(x.reshape(n, t, height, width * c), jnp.zeros((), x.dtype), widths)


def forward(
    x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kh kw C D'], strides: Sequence[int], padding: Sequence[Pair]
) -> Float[Array, 'N T h w D']:
    """Of every frame; strides and padding in (H, W). Summed in float32."""
    (kh, kw, c, _), (down, across) = kernel.shape, strides
    (n, t), size = x.shape[:2], _seen(x, (kh, kw), strides, padding)
    h, w = (size[0] - kh) // down + 1, (size[1] - kw) // across + 1
    # One row more than is needed, cut off from a start that XLA does not know: it would take the pixels from where they
    # come from once a tap.
    padded = _rows(x, (padding[0][0], padding[1][0]), size, spare=1)
    rows = lax.dynamic_slice(padded, (0, 0, hidden_zero(kernel), 0), (n, t, size[0], size[1] * c))

    def term(i: int, j: int, channel: int):
        first = j * c + channel
        end = i + (h - 1) * down + 1, first + (w - 1) * across * c + 1
        seen = lax.slice(rows, (0, 0, i, first), (n, t, *end), (1, 1, down, across * c))
        return seen.astype(jnp.float32)[..., None] * kernel[i, j, channel].astype(jnp.float32)

    return _sum([term(i, j, k) for i in range(kh) for j in range(kw) for k in range(c)]).astype(x.dtype)


def _seen(x, kernel: Pair, strides: Sequence[int], padding: Sequence[Pair]) -> Pair:
    """(H, W) of the padded frame, without what is behind the last window."""
    sizes = (size + sum(pads) for size, pads in zip(x.shape[2:4], padding))
    return tuple((size - k) // s * s + k for size, k, s in zip(sizes, kernel, strides))


def _overlapping_blocks(x: Array, axis: int, size: int, count: int, overlap: int) -> Array:
    """[..., count, size + overlap, ...]: each block and the beginning of what follows; zeros behind the end."""
    following = -(-overlap // size)
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (0, (size * (count + following) if count > 1 else size + overlap) - x.shape[axis], 0)
    blocks = lax.pad(x, jnp.zeros((), x.dtype), widths)
    if count == 1:
        return jnp.expand_dims(blocks, axis)
    blocks = blocks.reshape(*x.shape[:axis], count + following, size, *x.shape[axis + 1 :])
    pieces = [
        lax.slice_in_dim(
            lax.slice_in_dim(blocks, i, i + count, axis=axis), 0, min(size, size + overlap - i * size), axis=axis + 1
        )
        for i in range(following + 1)
    ]
    return jnp.concatenate(pieces, axis=axis + 1)


def kernel_gradient(
    x: Float[Array, 'N T H W C'],
    kernel: Float[Array, 'kh kw C D'],
    g: Float[Array, 'N T h w D'],
    strides: Sequence[int],
    padding: Sequence[Pair],
) -> Float[Array, 'kh kw C D']:
    """float32; g: gradient of the output.

    The output is cut into blocks of 128 locations. A loop over blocks and taps computes the sum of each tap over a
    block: each location's gradient, a register, times the number that the tap sees from there. A sum over blocks is
    left. Sixteen channels at a time, so that a block's gradients lie in the nearest cache.
    """
    (kh, kw, c, d), (n, t, h, w, _), (down, across) = kernel.shape, g.shape, strides
    columns = -(-w // -(-w // BLOCK_WIDTH))
    rows = min(h, max(BLOCK // columns, 1))
    high, wide = -(-h // rows), -(-w // columns)

    # Not before g is known: XLA would keep the copy from the forward pass on.
    x = (x + zero_after(g)).astype(x.dtype)
    size = (high * rows - 1) * down + kh, (wide * columns - 1) * across + kw
    seen = _rows(x, (padding[0][0], padding[1][0]), size)
    # Of a kernel that is smaller than its stride, what lies between the windows is seen by none.
    seen = _overlapping_blocks(seen, 2, rows * down, high, max(kh - down, 0))
    seen = _overlapping_blocks(seen, 4, columns * across * c, wide, max(kw - across, 0) * c)
    g = lax.pad(
        g, jnp.zeros((), g.dtype), [*[(0, 0, 0)] * 2, (0, high * rows - h, 0), (0, wide * columns - w, 0), (0, 0, 0)]
    )
    g = g.reshape(n, t, high, rows, wide, columns, d)
    zero = hidden_zero(kernel)

    def of_group(channels: slice):
        def term(i: int, j: int):
            # From a start that XLA does not know, as in `forward`.
            at = (0, 0, 0, i * down + zero, 0, j * across * c)
            pixels = lax.dynamic_slice(seen, at, (n, t, high, kh, wide, kw * c))
            return pixels.astype(jnp.float32)[..., None] * g[:, :, :, i, None, :, j, None, channels].astype(jnp.float32)

        sums = _sum([term(i, j) for i in range(rows) for j in range(columns)])
        # As in `depthwise.gradients`: without the reversal XLA would hand products and sum to YNNPACK together.
        return lax.rev(sums, (3,)).sum((0, 1, 2, 4))[::-1]

    groups = [of_group(slice(i, min(i + GROUP, d))) for i in range(0, d, GROUP)]
    return jnp.concatenate(groups, axis=-1).reshape(kh, kw, c, d)
