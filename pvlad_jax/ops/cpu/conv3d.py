"""3D convolution for XLA:CPU, whose own one is naive: 2D convolutions of frames forward, matrix products for the
kernel's gradient.

Kernels of three frames go by `winograd_time` where that saves work, all else as a sum over temporal taps. What each
trick gave stands beside it, and for whole networks in docs/notes/cpu_convolution.md.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu import direct_conv, winograd_time
from pvlad_jax.ops.cpu.frame_conv import frame_conv, output_size
from pvlad_jax.ops.cpu.kernel_gradient import frame_kernel_gradient
from pvlad_jax.ops.padding import Padding, Pair, Triple

# Below this many input channels a 2D convolution is too thin to be efficient: all temporal taps go into one.
THIN_CHANNELS = 8
# Up to this many, all temporal taps of a kernel of kt x 1 x 1 go into one product (`_taps_together`).
FEW_CHANNELS = 24
# The kernel's gradient is taken as products where this many times the locations of the output are at least C x D.
MIN_LOCATIONS = 64


def _outputs(x, kernel, strides: Triple, padding: Padding) -> Triple:
    return tuple(output_size(*about) for about in zip(x.shape[1:4], kernel.shape[:3], strides, padding))


def _taps_seen(tap: int, frames: int, outputs: int, stride: int, front: int) -> Pair:
    """(first, end) of the output frames that see a frame of the clip, not padding, through this tap of the kernel."""
    first = max(0, -(-(front - tap) // stride))
    end = min(outputs, (frames - 1 + front - tap) // stride + 1)
    return first, max(first, end)


def _frames_seen(x, tap: int, outputs: int, stride: int, front: int) -> tuple[Array | None, int, int]:
    """Frames of the clip that a tap of the kernel sees (None if it sees padding only), and the output frames (first,
    end) that see them.
    """
    first, end = _taps_seen(tap, x.shape[1], outputs, stride, front)
    if first == end:
        return None, first, end
    start = first * stride + tap - front
    return lax.slice_in_dim(x, start, start + (end - first - 1) * stride + 1, stride, axis=1), first, end


def _saves_in_time(x, kernel, strides: Triple, padding: Padding) -> bool:
    """Whether `winograd_time` is the faster way. In float32 alone: half precision would round its sums of frames."""
    kt, kh, kw, _, _ = kernel.shape
    if kt != 3 or strides[0] != 1 or kh * kw == 1 or x.dtype != jnp.float32:
        return False
    (front, back), frames = padding[0], x.shape[1]
    outputs = output_size(frames, kt, 1, (front, back))
    seen = [_taps_seen(tap, frames, outputs, 1, front) for tap in range(kt)]
    return winograd_time.saves_convolutions(sum(end - first for first, end in seen), outputs)


def _time_taps_in_channels(x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int):
    """[N, t, H, W, k·C]: what each temporal tap sees, zeros outside, side by side."""
    end = (outputs - 1) * stride + k - front - x.shape[1]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (front, end, 0), *[(0, 0, 0)] * 3])
    return jnp.concatenate(
        [lax.slice_in_dim(x, i, i + (outputs - 1) * stride + 1, stride, 1) for i in range(k)], axis=-1
    )


def _time_taps_of_kernel(kernel: Float[Array, 'kt kh kw C D']) -> Float[Array, 'kh kw kt*C D']:
    kt, kh, kw, c, d = kernel.shape
    return kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * c, d)


def _is_product(kernel, padding: Padding) -> bool:
    """Whether each temporal tap is a matrix product: a kernel of kt x 1 x 1."""
    return kernel.shape[1:3] == (1, 1) and padding[1:] == ((0, 0), (0, 0))


def _taps_together(x, kernel, padding: Padding) -> bool:
    """Whether all temporal taps go into one 2D convolution, side by side in its channels.

    Thin inputs (pixels) would be too thin for one each. Products of few channels are bound by memory, so a single one
    is faster though it also multiplies the padding: 128 frames in clips of 4, one core, ms, 16 -> 64 channels at 32 x
    16 locations 28 -> 7, 24 -> 96 at 16 x 8 3.8 -> 2.8; but 32 -> 128 at 8 x 4 0.93 -> 1.02.
    """
    kt, c, d = kernel.shape[0], *kernel.shape[3:]
    few = c <= FEW_CHANNELS and c < d and x.shape[1] > 2
    return kt > 1 and (c <= THIN_CHANNELS or (few and _is_product(kernel, padding)))


def forward(x, kernel, strides: Triple, padding: Padding):
    """A sum over temporal taps of 2D convolutions (matrix products where the kernel is kt x 1 x 1), or `winograd_time`.

    A tap is computed at the output frames only where it sees the clip: of clips of 8, 4, 2, 1 frames, 8, 17, 33 and 67
    % of the products of a 3x3x3 kernel are with padding. Where `_taps_together`, there is a single 2D convolution.
    """
    kt = kernel.shape[0]
    t = _outputs(x, kernel, strides, padding)[0]
    stride, front = strides[0], padding[0][0]
    if _taps_together(x, kernel, padding):
        stacked = _time_taps_in_channels(x, kt, t, stride, front)
        return frame_conv(stacked, _time_taps_of_kernel(kernel), strides[1:], padding[1:])
    if _saves_in_time(x, kernel, strides, padding):
        return winograd_time.forward(x, kernel, t, front, strides[1:], padding[1:])
    parts = []
    for tap in range(kt):
        seen, first, end = _frames_seen(x, tap, t, stride, front)
        if seen is not None:
            part = frame_conv(seen, kernel[tap], strides[1:], padding[1:])
            # Partial sums in float32, as one native convolution would keep them.
            part = part if kt == 1 else part.astype(jnp.float32)
            parts.append(jnp.pad(part, ((0, 0), (first, t - end), (0, 0), (0, 0), (0, 0))))
    return sum(parts).astype(x.dtype)


def input_gradient(x, kernel, strides: Triple, padding: Padding, g):
    """At stride 1 a convolution of the output's gradient with the reversed kernel, by the ways above; else as JAX
    derives it.
    """
    back = tuple((k - 1 - p[0], k - 1 - p[1]) for k, p in zip(kernel.shape, padding))
    if strides == (1, 1, 1) and all(p >= 0 for pair in back for p in pair):
        reversed_kernel = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
        if back[0] == (2, 2) and _saves_in_time(g, reversed_kernel, strides, ((1, 1), *back[1:])):
            # One tap sees the first frame, one the last: all frames between them are `winograd_time`'s fours.
            between = forward(g, reversed_kernel, strides, ((1, 1), *back[1:]))
            first = frame_conv(g[:, :1], reversed_kernel[2], (1, 1), back[1:])
            last = frame_conv(g[:, -1:], reversed_kernel[0], (1, 1), back[1:])
            return jnp.concatenate([first, between, last], axis=1)
        return forward(g, reversed_kernel, strides, back)
    return jax.vjp(lambda x: forward(x, kernel, strides, padding), x)[1](g)[0]


def matrix_gradient(x: Float[Array, 'M C'], g: Float[Array, 'M D']) -> Float[Array, 'C D']:
    """xᵀ g, the gradient of w in x @ w, in float32. What JAX derives of a product over several axes, XLA:CPU takes of
    transposed copies.

    OSNet's 1x1 convolutions: such a copy is written number by number, by a loop that computes g again.

    The factor that lies across memory should be the narrow one: 64 and 16 channels, 65,536 locations, one core, 5.7 ms,
    and 2.4 as (gᵀ x)ᵀ. XLA would exchange them again if it saw both transpositions.
    """

    def product(first, second):
        return lax.dot_general(first, second, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    if x.shape[1] <= g.shape[1]:
        return product(x, g)
    return lax.optimization_barrier(product(g, x)).T


def kernel_gradient(x, kernel, strides: Triple, padding: Padding, g):
    """As products, or as JAX derives it where the kernel is large for the number of locations, or is a single location.

    Two cores, ms derived, as products: 64 channels at 4 x 8 x 64 x 32 locations 120, 59; 128 -> 192 at 4 x 4 x 16 x 8
    11, 9; 128 -> 256 at 4 x 8 x 8 x 4 12, 8; 256 -> 256 at 4 x 2 x 16 x 8 14, 14; but 512 -> 512 at 4 x 4 x 16 x 8 101,
    201: there reading and writing the products of all taps takes longer than making them.
    """
    c, d = kernel.shape[3:]
    if _is_product(kernel, padding):

        def of_tap(tap):
            seen, first, end = _frames_seen(x, tap, g.shape[1], strides[0], padding[0][0])
            if seen is None:
                return jnp.zeros((c, d), jnp.float32)
            seen = seen[:, :, :: strides[1], :: strides[2]]
            return matrix_gradient(seen.reshape(-1, c), g[:, first:end].reshape(-1, d))

        taps = [of_tap(tap) for tap in range(kernel.shape[0])]
        return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)
    if kernel.shape[1:3] != (1, 1) and math.prod(g.shape[:4]) * MIN_LOCATIONS >= c * d:
        return kernel_gradient_as_products(x, kernel, strides, padding, g)
    return jax.vjp(lambda kernel: forward(x, kernel, strides, padding), kernel)[1](g)[0]


def _pixels_kernel_gradient(x, kernel: Float[Array, 'kh kw C D'], g, strides: Sequence[int], padding: Sequence[Pair]):
    if direct_conv.suits_gradient(kernel):
        return direct_conv.kernel_gradient(x, kernel, g, strides, padding)
    return frame_kernel_gradient(x, g, kernel.shape[:2], strides, padding)


def kernel_gradient_as_products(x, kernel, strides: Triple, padding: Padding, g):
    """`frame_kernel_gradient` of every temporal tap, or of `winograd_time`'s six convolutions; thin inputs have all
    taps at once.
    """
    kt, kh, kw, c_in, c_out = kernel.shape
    (stride, *strides), (time, *padding) = strides, padding
    if kt > 1 and c_in <= THIN_CHANNELS:
        stacked = _time_taps_in_channels(x, kt, g.shape[1], stride, time[0])
        gradient = _pixels_kernel_gradient(stacked, _time_taps_of_kernel(kernel), g, strides, padding)
        return gradient.reshape(kh, kw, kt, c_in, c_out).transpose(2, 0, 1, 3, 4).astype(kernel.dtype)
    if _saves_in_time(x, kernel, (stride, *strides), (time, *padding)):
        return winograd_time.kernel_gradient(x, g, (kh, kw), time[0], strides, padding)

    def of_tap(tap):
        seen, first, end = _frames_seen(x, tap, g.shape[1], stride, time[0])
        if seen is None:
            return jnp.zeros((kh, kw, c_in, c_out), jnp.float32)
        if c_in <= THIN_CHANNELS:
            return _pixels_kernel_gradient(seen, kernel[tap], g[:, first:end], strides, padding)
        return frame_kernel_gradient(seen, g[:, first:end], (kh, kw), strides, padding)

    return jnp.stack([of_tap(tap) for tap in range(kt)]).astype(kernel.dtype)


def gradients(x, kernel, g, strides: Triple, padding: Padding):
    """Of the input and of the kernel, for the gradient g of the output."""
    return input_gradient(x, kernel, strides, padding, g), kernel_gradient(x, kernel, strides, padding, g)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cpu_conv3d(x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kt kh kw C D'], strides: Triple, padding: Padding):
    """The convolution of `pvlad_jax.ops.conv3d` with the gradients above."""
    return forward(x, kernel, strides, padding)


cpu_conv3d.defvjp(
    lambda x, kernel, strides, padding: (forward(x, kernel, strides, padding), (x, kernel)),
    lambda strides, padding, residuals, g: gradients(*residuals, g, strides, padding),
)
