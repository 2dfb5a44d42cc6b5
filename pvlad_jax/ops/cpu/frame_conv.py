"""2D convolution of every frame of clips by itself on XLA:CPU: what `cpu/conv3d` and `cpu/winograd_time` are made of.

XLA:CPU hands 2D convolutions and matrix products to YNNPACK, which reaches the processor's peak with them, but shares
out among threads only (locations along the width) x (channels of the result) of *one* picture. The narrow pictures of
walking people are one share: 64 channels at 64 x 32 locations run on a single thread, whatever the number of frames. So
frames are joined side by side.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu import direct_conv
from pvlad_jax.ops.cpu.thin_columns import THIN_CHANNELS, columns_in_channels, kernel_of_columns
from pvlad_jax.ops.cpu.threads import planned_threads
from pvlad_jax.ops.padding import Pair


def output_size(size: int, kernel: int, stride: int, padding: Pair) -> int:
    """Of one axis."""
    return (size + sum(padding) - kernel) // stride + 1


def utilisation(width: int, terms: int, channels: int, threads: int) -> float:
    """The share of the threads' time that is used, 0 to 1, for a row of `width` locations and `channels`, each a sum of
    `terms`.

    Of ynnpack/subgraph/dot.cc in google/XNNPACK (August 2026): a thread gets up to 64 locations x 64 channels at a
    time, or twice as many locations, and so on, until locations and channels together are 65536 by the terms (1024 at
    most).
    """
    locations, across = min(width, 64), 64
    while locations + across < 65536 / min(terms, 1024) and (locations < width or across < channels):
        if locations < width and locations <= 4 * across:
            locations *= 2
        else:
            across *= 2
    columns = -(-channels // across)
    whole, rest = width // locations * columns, width % locations / locations * columns
    rounds = -(-whole // threads) if whole % threads else whole // threads + rest / min(columns, threads)
    return (whole + rest) / (threads * max(rounds, 1))


def choose_packing(width: int, terms: int, channels: int, clips: Any, frames: int, threads: int) -> tuple[int, int]:
    """(clips, frames) to be convolved as one wide picture, for `width` output locations in a row; (1, 1) = every frame
    by itself.

    The column of zeros between two frames costs 1 / width of the products. Clips are joined only where it pays, since
    those of a sharded batch lie on several devices, and never where their number is a symbol, as in a program for any
    number of them (jax.export).
    """

    def efficiency(together):
        several = math.prod(together) * (width + 1) if together != (1, 1) else width
        used = utilisation(several, terms, channels, threads) * math.prod(together) * width / several
        return used * (0.9 if together[0] > 1 else 1)

    several_clips = [(clips, frames)] if isinstance(clips, int) else []
    return max((1, 1), (1, frames), *several_clips, key=efficiency)


def frame_conv(
    x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kh kw C D'], strides: Sequence[int], padding: Sequence[Pair]
) -> Float[Array, 'N T h w D']:
    """Strides and padding in (H, W).

    4 x 8 frames of 64 x 32 locations, 64 channels, kernel 3x3, two cores: 50 -> 27 ms side by side. Thin inputs with a
    stride have as many columns in the channels: 128 frames of 128 x 64 x 3, 7x7, strides 2, 16 channels, one core: 51
    -> 32 ms.
    """
    n, t, height, width, c = x.shape
    kh, kw, _, d = kernel.shape
    if (kh, kw) == (1, 1) and all(p == (0, 0) for p in padding):
        return x[:, :, :: strides[0], :: strides[1]] @ kernel[0, 0]
    if c <= THIN_CHANNELS and direct_conv.suits_forward(kernel):
        return direct_conv.forward(x, kernel, strides, padding)
    h, w = (output_size(*about) for about in zip((height, width), (kh, kw), strides, padding))
    left, right = padding[1]
    clips, frames = choose_packing(w, kh * kw * c, d, n, t, planned_threads())
    thin = c <= THIN_CHANNELS and strides[1] > 1
    if clips * frames == 1:
        if thin:
            kernel, stride = kernel_of_columns(kernel, strides[1]), strides[1]
            x = columns_in_channels(x, stride, left, w + kernel.shape[1] - 1)
            strides, padding = (strides[0], 1), (padding[0], (0, 0))
        y = _conv2d(x.reshape(n * t, *x.shape[2:]), kernel, strides, padding)
        return y.reshape(n, t, h, w, d)
    # Every frame begins a multiple of the stride after the last, with zeros between them for the windows of both.
    step, stride = -(-(width + max(left, right)) // strides[1]), strides[1]
    if thin:
        x = columns_in_channels(x, step * stride, 0, 1)
    else:
        x = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (0, step * stride - width, 0), (0, 0, 0)])
    x = x.reshape(n // clips, clips * t, height, step * stride * c).swapaxes(1, 2).reshape(n // clips, height, -1, c)
    if thin:
        kernel = kernel_of_columns(kernel, stride)
        x = columns_in_channels(x[:, None], stride, left, clips * t * step + kernel.shape[1] - 1)[:, 0]
        y = _conv2d(x, kernel, (strides[0], 1), (padding[0], (0, 0)))
    else:
        y = _conv2d(x, kernel, strides, (padding[0], (left, kw - stride - left)))
    y = y.reshape(n // clips, h, clips * t, step, d)[:, :, :, :w]
    return y.swapaxes(1, 2).reshape(n, t, h, w, d)


def _conv2d(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
