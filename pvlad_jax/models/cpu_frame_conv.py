"""2D convolution of every frame of clips by itself on XLA:CPU, and the gradient of its kernel; the parts of `cpu_conv3d`.

XLA:CPU hands 2D convolutions and matrix products to YNNPACK, which reaches the processor's peak with them, but shares out among threads
only (places along the width) x (channels of the result) of *one* picture. The narrow pictures of walking people are one share: 64 channels
at 64 x 32 places run on a single thread, however many frames there are. So frames are put side by side.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Triple = tuple[int, int, int]
Pair = tuple[int, int]


def output_size(size: int, kernel: int, stride: int, padding: Pair) -> int:
    """Of one axis."""
    return (size + sum(padding) - kernel) // stride + 1


def shares(width: int, terms: int, channels: int) -> int:
    """Into how many shares YNNPACK parts a picture row of so many places and channels, each a sum of so many terms.

    Of ynnpack/subgraph/dot.cc in google/XNNPACK (August 2026): a share has 64 places and 64 channels where the picture has them, and
    places and channels together are at least 65536 by the terms (1024 at most).
    """
    both = 65536 // min(terms, 1024)
    places = max(64, both - 64)
    return -(-width // places) * -(-channels // max(64, both - min(width, places)))


def _side_by_side(width: int, terms: int, channels: int, frames: int) -> bool:
    """Whether frames of so many output places in width should be convolved as one wide picture.

    The column of zeros between two frames costs 1 / width of the products.
    """
    alone = shares(width, terms, channels)
    return (alone == 1 or (width >= 16 and alone < 8)) and shares(frames * width, terms, channels) > alone


def frame_conv(
    x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kh kw C D'], strides: Sequence[int], padding: Sequence[Pair]
) -> Float[Array, 'N T h w D']:
    """Strides and padding in (H, W). 4 x 8 frames of 64 x 32 places, 64 channels, kernel 3x3, two cores: 50 -> 27 ms side by side."""
    n, t, height, width, c = x.shape
    kh, kw, _, d = kernel.shape
    if (kh, kw) == (1, 1) and all(p == (0, 0) for p in padding):
        return x[:, :, :: strides[0], :: strides[1]] @ kernel[0, 0]
    h, w = (output_size(*about) for about in zip((height, width), (kh, kw), strides, padding))
    left, right = padding[1]
    if _side_by_side(w, kh * kw * c, d, t):
        # Every frame begins a multiple of the stride after the last, with zeros between them for the windows of both.
        step, stride = -(-(width + max(left, right)) // strides[1]), strides[1]
        x = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (0, step * stride - width, 0), (0, 0, 0)])
        x = x.transpose(0, 2, 1, 3, 4).reshape(n, height, t * step * stride, c)
        y = _conv2d(x, kernel, strides, (padding[0], (left, kw - stride - left)))
        return y.reshape(n, h, t, step, d)[:, :, :, :w].transpose(0, 2, 1, 3, 4)
    y = _conv2d(x.reshape(n * t, height, width, c), kernel, strides, padding)
    return y.reshape(n, t, h, w, d)


def _conv2d(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def width_windows(x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int) -> Float[Array, 'N T H w kC']:
    """What each tap of a kernel sees along the width, zeros outside, side by side in the channels.

    A window lies together in memory, so each is copied as a whole: 1.7 ms for clips of 2 x 8 x 64 x 32 x 64, against 7.9 for a
    concatenation of shifted copies.
    """
    n, t, h, width, c = x.shape
    if k == 1 and stride == 1:
        return x
    end = (outputs - 1) * stride + k - front - width
    rows = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (front, end, 0), (0, 0, 0)]).reshape(n * t * h, -1)
    starts = jnp.arange(outputs) * (stride * c)
    windows = jax.vmap(lambda start: lax.dynamic_slice(rows, (0, start), (n * t * h, k * c)), out_axes=1)(starts)
    return windows.reshape(n, t, h, outputs, k * c)


def taps_seen(tap: int, size: int, outputs: int, stride: int, front: int) -> Pair:
    """(first, end) of the output places along an axis that see a place of the input, not padding, through this tap of the kernel."""
    first = max(0, -(-(front - tap) // stride))
    end = min(outputs, (size - 1 + front - tap) // stride + 1)
    return first, max(first, end)


def aligned(x, g, axis: int, tap: int, stride: int, front: int):
    """x and g cut or padded so that along an axis the tap of output place o sees place o of x. None where it sees padding alone."""
    size, outputs = x.shape[axis], g.shape[axis]
    first, end = taps_seen(tap, size, outputs, stride, front)
    if first >= end:
        return None
    if stride == 1:
        # Output place o sees place o + tap - front; a negative width of padding cuts off.
        before = tap - front
        widths = [(before, size - outputs - before, 0) if i == axis else (0, 0, 0) for i in range(g.ndim)]
        return x, lax.pad(g, jnp.zeros((), g.dtype), widths)
    start = first * stride + tap - front
    return lax.slice_in_dim(x, start, start + (end - first - 1) * stride + 1, stride, axis), lax.slice_in_dim(g, first, end, axis=axis)


def frame_kernel_gradient(windows: Float[Array, 'N T H w kC'], g: Float[Array, 'N T h w D'], kw: int, kh: int, stride: int, front: int):
    """[kh, kw, C, D], float32: of a kernel of kh x kw over frames. windows: of `width_windows`; stride, front: in height.

    Over all places, the sum of (output gradient) x (what a tap sees): gᵀ [D, places] @ x [places, kw·C] for each of kh taps. What JAX
    derives is a convolution whose window is the whole picture and whose result has 3 x 3 places, far from what any convolution is made
    for. It is g that is shifted against x where the stride is 1, since its copies are smaller. gᵀ comes first, because the factor that
    lies across memory should be the narrow one.
    """
    d, c = g.shape[-1], windows.shape[-1] // kw

    def product(tap):
        pair = aligned(windows, g, 2, tap, stride, front)
        if pair is None:
            return jnp.zeros((d, kw * c), jnp.float32)
        seen, gradient = (a.reshape(-1, a.shape[-1]) for a in pair)
        return lax.dot_general(gradient, seen, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    return jnp.stack([product(tap) for tap in range(kh)]).reshape(kh, d, kw, c).transpose(0, 2, 3, 1)
