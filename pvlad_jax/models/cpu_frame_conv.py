"""2D convolution of every frame of clips by itself on XLA:CPU, and the gradient of its kernel; the parts of `cpu_conv3d`.

XLA:CPU hands 2D convolutions and matrix products to YNNPACK, which reaches the processor's peak with them, but shares out among threads
only (places along the width) x (channels of the result) of *one* picture. The narrow pictures of walking people are one share: 64 channels
at 64 x 32 places run on a single thread, however many frames there are. So frames are put side by side.
"""

import math
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Triple = tuple[int, int, int]
Pair = tuple[int, int]

THREADS = os.cpu_count() or 1  # of XLA:CPU and YNNPACK


def output_size(size: int, kernel: int, stride: int, padding: Pair) -> int:
    """Of one axis."""
    return (size + sum(padding) - kernel) // stride + 1


def busy(width: int, terms: int, channels: int, threads: int = THREADS) -> float:
    """The share of the threads' time that is used, 0 to 1, for a picture row of so many places and channels, each a sum of so many terms.

    Of ynnpack/subgraph/dot.cc in google/XNNPACK (August 2026): a thread gets up to 64 places x 64 channels at a time, or twice as many
    places, and so on, until places and channels together are 65536 by the terms (1024 at most).
    """
    places, across = min(width, 64), 64
    while places + across < 65536 / min(terms, 1024) and (places < width or across < channels):
        if places < width and places <= 4 * across:
            places *= 2
        else:
            across *= 2
    columns = -(-channels // across)
    whole, rest = width // places * columns, width % places / places * columns
    rounds = -(-whole // threads) if whole % threads else whole // threads + rest / min(columns, threads)
    return (whole + rest) / (threads * max(rounds, 1))


def side_by_side(width: int, terms: int, channels: int, clips: int, frames: int, threads: int = THREADS) -> tuple[int, int]:
    """(clips, frames) to be convolved as one wide picture, for so many output places in width; (1, 1) = every frame by itself.

    The column of zeros between two frames costs 1 / width of the products. Clips are put together only where it pays, since those of a
    sharded batch lie on several devices.
    """
    def worth(together):
        several = math.prod(together) * (width + 1) if together != (1, 1) else width
        used = busy(several, terms, channels, threads) * math.prod(together) * width / several
        return used * (0.9 if together[0] > 1 else 1)

    return max((1, 1), (1, frames), (clips, frames), key=worth)


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
    clips, frames = side_by_side(w, kh * kw * c, d, n, t)
    if clips * frames == 1:
        return _conv2d(x.reshape(n * t, height, width, c), kernel, strides, padding).reshape(n, t, h, w, d)
    # Every frame begins a multiple of the stride after the last, with zeros between them for the windows of both.
    step, stride = -(-(width + max(left, right)) // strides[1]), strides[1]
    x = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (0, step * stride - width, 0), (0, 0, 0)])
    x = x.reshape(n // clips, clips * t, height, step * stride, c).swapaxes(1, 2).reshape(n // clips, height, -1, c)
    y = _conv2d(x, kernel, strides, (padding[0], (left, kw - stride - left)))
    y = y.reshape(n // clips, h, clips * t, step, d)[:, :, :, :w]
    return y.swapaxes(1, 2).reshape(n, t, h, w, d)


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


def phases(x: Array, axis: int, taps: int, stride: int, front: int) -> list[tuple[Array, int]]:
    """For every tap of a strided kernel (what it may see of x, offset): place o of the output sees place o + offset of it.

    Cut once for all taps that share it, before windows are made: cutting rows and frames out of windows took 97 ms of a step of R3D-18.
    """
    parts = {}
    for tap in range(taps):
        first = (tap - front) % stride
        if first not in parts:
            parts[first] = x if stride == 1 else lax.slice_in_dim(x, first, None, stride, axis)
    return [(parts[(tap - front) % stride], (tap - front) // stride) for tap in range(taps)]


def shifted(g: Array, axis: int, offset: int, size: int) -> Array | None:
    """g moved along an axis to the places that its places see: g of place o stands at o + offset of `size`. None where nothing is seen."""
    outputs = g.shape[axis]
    if offset + outputs <= 0 or offset >= size:
        return None
    # A negative width of padding cuts off.
    widths = [(offset, size - outputs - offset, 0) if i == axis else (0, 0, 0) for i in range(g.ndim)]
    return lax.pad(g, jnp.zeros((), g.dtype), widths)


def frame_kernel_gradient(
    x: Float[Array, 'N T H W C'], g: Float[Array, 'N T h w D'], kernel: Pair, strides: Sequence[int], padding: Sequence[Pair]
) -> Float[Array, 'kh kw C D']:
    """Of `frame_conv`, float32. kernel: (kh, kw).

    Over all places, the sum of (output gradient) x (what a tap sees): gᵀ [D, places] @ x [places, kw·C] for each of kh taps. What JAX
    derives is a convolution whose window is the whole picture and whose result has 3 x 3 places, far from what any convolution is made
    for. It is g that is shifted against x, since its copies are smaller. gᵀ comes first, because the factor that lies across memory
    should be the narrow one.
    """
    (kh, kw), c, (w, d) = kernel, x.shape[-1], g.shape[-2:]
    windows: dict[int, Array] = {}
    products = []
    for part, offset in phases(x, 2, kh, strides[0], padding[0][0]):
        gradient = shifted(g, 2, offset, part.shape[2])
        if gradient is None:
            products.append(jnp.zeros((d, kw * c), jnp.float32))
            continue
        if id(part) not in windows:
            windows[id(part)] = width_windows(part, kw, w, strides[1], padding[1][0]).reshape(-1, kw * c)
        factors = gradient.reshape(-1, d), windows[id(part)]
        products.append(lax.dot_general(*factors, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32))
    return jnp.stack(products).reshape(kh, d, kw, c).transpose(0, 2, 3, 1)
