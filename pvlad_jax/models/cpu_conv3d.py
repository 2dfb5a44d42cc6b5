"""3D convolution for XLA:CPU, whose own one is naive: a sum of 2D convolutions forward, matrix products for the kernel's gradient.

Figures here are GFLOP a processor second (clips of 8 x 64 x 32, 64 channels, kernel 3x3x3; one core of 2, jaxlib 0.10.2), which bears other
load on the machine: forward 109, gradient of the input 118, gradient of the kernel 22 if it is left to JAX, 57 to 124 as below.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Triple = tuple[int, int, int]

# Below this many input channels a 2D convolution is too thin to be efficient: all temporal taps go into one.
THIN_CHANNELS = 8
# From this many places of an output frame the kernel's gradient is taken as products.
LARGE_PICTURE = 256


def _frames_seen(tap: int, frames: int, outputs: int, stride: int, front: int) -> tuple[int, int]:
    """(first, end) of the output frames that see a frame of the clip, not padding, through this tap of the kernel."""
    first = max(0, -(-(front - tap) // stride))
    end = min(outputs, (frames - 1 + front - tap) // stride + 1)
    return first, max(first, end)


def _spatial(x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kh kw C D'], strides, padding):
    """2D convolution of every frame by itself, time merged into the batch."""
    n, t = x.shape[:2]
    if kernel.shape[:2] == (1, 1) and all(p == (0, 0) for p in padding):
        return x[:, :, :: strides[0], :: strides[1]] @ kernel[0, 0]
    y = lax.conv_general_dilated(
        x.reshape(n * t, *x.shape[2:]), kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return y.reshape(n, t, *y.shape[1:])


def _outputs(x, kernel, strides: Triple, padding: Padding) -> Triple:
    return tuple((n + sum(p) - k) // s + 1 for n, k, s, p in zip(x.shape[1:4], kernel.shape[:3], strides, padding))


def _time_taps_in_channels(x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int):
    """[N, t, H, W, k·C]: what each temporal tap sees, zeros outside, side by side."""
    end = (outputs - 1) * stride + k - front - x.shape[1]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (front, end, 0), *[(0, 0, 0)] * 3])
    return jnp.concatenate([lax.slice_in_dim(x, i, i + (outputs - 1) * stride + 1, stride, 1) for i in range(k)], axis=-1)


def _width_taps_in_channels(x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int):
    """[N, T, H, w, k·C]: likewise along the width, where a window lies together in memory.

    So each is copied as a whole: 1.7 ms for clips of 2 x 8 x 64 x 32 x 64, against 7.9 for a concatenation of shifted copies.
    """
    n, t, h, _, c = x.shape
    if k == 1 and stride == 1:
        return x
    end = (outputs - 1) * stride + k - front - x.shape[3]
    rows = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (front, end, 0), (0, 0, 0)]).reshape(n * t * h, -1)
    starts = jnp.arange(outputs) * (stride * c)
    windows = jax.vmap(lambda start: lax.dynamic_slice(rows, (0, start), (n * t * h, k * c)), out_axes=1)(starts)
    return windows.reshape(n, t, h, outputs, k * c)


def forward(x, kernel, strides: Triple, padding: Padding):
    """A sum over temporal taps of 2D convolutions (matrix products where the kernel is kt x 1 x 1).

    A tap is computed at the output frames only where it sees the clip: of clips of 8, 4, 2, 1 frames, 8, 17, 33 and 67 % of the products of
    a 3x3x3 kernel are with padding. Thin inputs (pixels) have their taps side by side in the channels and need a single 2D convolution.
    """
    kt, kh, kw, c_in, c_out = kernel.shape
    t = _outputs(x, kernel, strides, padding)[0]
    stride, front = strides[0], padding[0][0]
    if kt > 1 and c_in <= THIN_CHANNELS:
        stacked = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * c_in, c_out)
        return _spatial(_time_taps_in_channels(x, kt, t, stride, front), stacked, strides[1:], padding[1:])
    parts = []
    for tap in range(kt):
        first, end = _frames_seen(tap, x.shape[1], t, stride, front)
        if first < end:
            start = first * stride + tap - front
            seen = lax.slice_in_dim(x, start, start + (end - first - 1) * stride + 1, stride, axis=1)
            part = _spatial(seen, kernel[tap], strides[1:], padding[1:])
            # Partial sums in float32, as one native convolution would keep them.
            part = part if kt == 1 else part.astype(jnp.float32)
            parts.append(jnp.pad(part, ((0, 0), (first, t - end), (0, 0), (0, 0), (0, 0))))
    return sum(parts).astype(x.dtype)


def input_gradient(x, kernel, strides: Triple, padding: Padding, g):
    return jax.vjp(lambda x: forward(x, kernel, strides, padding), x)[1](g)[0]


def _aligned(x, g, axis: int, tap: int, outputs: int, stride: int, front: int):
    """x and g cut or padded so that along an axis the tap of output place o sees place o of x. None where it sees padding alone."""
    size = x.shape[axis]
    first, end = _frames_seen(tap, size, outputs, stride, front)
    if first >= end:
        return None
    if stride == 1:
        # Output place o sees place o + tap - front; a negative width of padding cuts off.
        before = tap - front
        widths = [(before, size - outputs - before, 0) if i == axis else (0, 0, 0) for i in range(g.ndim)]
        return x, lax.pad(g, jnp.zeros((), g.dtype), widths)
    start = first * stride + tap - front
    return lax.slice_in_dim(x, start, start + (end - first - 1) * stride + 1, stride, axis), lax.slice_in_dim(g, first, end, axis=axis)


def kernel_gradient(x, kernel, strides: Triple, padding: Padding, g):
    """As products for large pictures; of small ones what JAX derives is no slower (16 x 8 places, 32 channels: 90 against 78)."""
    if g.shape[2] * g.shape[3] >= LARGE_PICTURE:
        return kernel_gradient_as_products(x, kernel, strides, padding, g)
    return jax.vjp(lambda kernel: forward(x, kernel, strides, padding), kernel)[1](g)[0]


def kernel_gradient_as_products(x, kernel, strides: Triple, padding: Padding, g):
    """Over all places, the sum of (output gradient) x (what a tap sees): gᵀ [D, places] @ x [places, kw·C] for each of kt·kh taps.

    What JAX derives is a convolution whose window is the whole picture and whose result has 3 x 3 places, far from what any convolution is
    made for. Taps along the width stand side by side in the channels (three copies of x); along an axis of stride 1 it is g that is shifted
    against x, since its copies are smaller. gᵀ comes first, because the factor that lies across memory should be the narrow one.
    """
    kt, kh, kw, c_in, c_out = kernel.shape
    t, h, w = _outputs(x, kernel, strides, padding)
    time_taps = range(kt)
    if kt > 1 and c_in <= THIN_CHANNELS:
        x, time_taps = _time_taps_in_channels(x, kt, t, strides[0], padding[0][0]), [None]
    x = _width_taps_in_channels(x, kw, w, strides[2], padding[2][0])

    def product(i, j):
        """Of tap i in time, j in height."""
        pair = (x, g)
        for axis, tap, outputs in ((1, i, t), (2, j, h)):
            if tap is not None and pair is not None:
                pair = _aligned(*pair, axis, tap, outputs, strides[axis - 1], padding[axis - 1][0])
        if pair is None:
            return jnp.zeros((c_out, x.shape[-1]), jnp.float32)
        seen, gradient = (a.reshape(-1, a.shape[-1]) for a in pair)
        return lax.dot_general(gradient, seen, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    products = jnp.stack([product(i, j) for i in time_taps for j in range(kh)])
    if time_taps == [None]:
        out = products.reshape(kh, c_out, kw, kt, c_in).transpose(3, 0, 2, 4, 1)
    else:
        out = products.reshape(kt, kh, c_out, kw, c_in).transpose(0, 1, 3, 4, 2)
    return out.astype(kernel.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cpu_conv3d(x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kt kh kw C D'], strides: Triple, padding: Padding):
    """The convolution of `pvlad_jax.models.conv3d` with the gradients above."""
    return forward(x, kernel, strides, padding)


cpu_conv3d.defvjp(
    lambda x, kernel, strides, padding: (forward(x, kernel, strides, padding), (x, kernel)),
    lambda strides, padding, residuals, g: (
        input_gradient(*residuals, strides, padding, g), kernel_gradient(*residuals, strides, padding, g)
    ),
)
