"""3D convolution and max pooling, exact, in the formulation that suits the platform.

GPU and TPU get XLA's own 3D convolution. XLA:CPU runs that one naively, but its 2D convolutions and matrix products
are good, so on CPU the same sum is written with those (`cpu_formulation`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Triple = tuple[int, int, int]

# Below this many input channels a 2D convolution is too thin to be efficient: all temporal taps go into one.
THIN_CHANNELS = 8


def centred_padding(kernel: Sequence[int]) -> Padding:
    """(k - 1) / 2 zeros on both sides: PyTorch's usual padding of odd kernels. Output size is ceil(size / stride)."""
    return tuple((k // 2, k // 2) for k in kernel)


def same_padding(size: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> Padding:
    """TensorFlow's 'SAME' padding of a clip of size (T, H, W); output size is ceil(size / stride).

    'SAME' puts a different number of zeros *before* the clip for odd and even sizes, so its outputs would depend on
    the amount of padding frames. In time, the front always gets what a multiple of the stride gets (the published
    case: 64 frames) and the end whatever is missing.
    """
    pairs = []
    for axis, (n, k, s) in enumerate(zip(size, kernel, strides)):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        front = max(k - s, 0) // 2 if axis == 0 else total // 2
        pairs.append((front, max((-(-n // s) - 1) * s + k - n - front, 0)))
    return tuple(pairs)


def native(x, kernel, strides: Triple, padding: Padding):
    """XLA's 3D convolution."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'))


def _spatial(x: Float[Array, 'N T H W C'], kernel: Float[Array, 'kh kw C D'], strides, padding):
    """2D convolution of every frame by itself, time merged into the batch."""
    n, t = x.shape[:2]
    if kernel.shape[:2] == (1, 1) and all(p == (0, 0) for p in padding):
        return x[:, :, :: strides[0], :: strides[1]] @ kernel[0, 0]
    y = lax.conv_general_dilated(
        x.reshape(n * t, *x.shape[2:]), kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return y.reshape(n, t, *y.shape[1:])


def _temporal_taps(x, kt: int, stride: int, padding: tuple[int, int]) -> list[Float[Array, 'N t H W C']]:
    """The frames that each of the kt taps of a temporal kernel sees, one array a tap."""
    x = jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0), (0, 0)))
    t = (x.shape[1] - kt) // stride + 1
    return [lax.slice_in_dim(x, tap, tap + (t - 1) * stride + 1, stride, axis=1) for tap in range(kt)]


def cpu_formulation(x, kernel, strides: Triple, padding: Padding):
    """The same convolution as a sum over temporal taps of 2D convolutions (matrix products where the kernel is kt x 1 x 1).

    Thin inputs (pixels) have their taps side by side in the channels instead and need a single 2D convolution.
    """
    kt, kh, kw, c_in, c_out = kernel.shape
    taps = _temporal_taps(x, kt, strides[0], padding[0])
    if kt > 1 and c_in <= THIN_CHANNELS:
        stacked = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * c_in, c_out)
        return _spatial(jnp.concatenate(taps, axis=-1), stacked, strides[1:], padding[1:])
    parts = [_spatial(tap, kernel[i], strides[1:], padding[1:]) for i, tap in enumerate(taps)]
    if kt == 1:
        return parts[0]
    # Partial sums in float32, as one native convolution would keep them.
    return sum(part.astype(jnp.float32) for part in parts).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _by_platform(x, kernel, strides, padding):
    chosen = {'default': partial(native, strides=strides, padding=padding)}
    return lax.platform_dependent(x, kernel, cpu=partial(cpu_formulation, strides=strides, padding=padding), **chosen)


def _by_platform_forward(x, kernel, strides, padding):
    return _by_platform(x, kernel, strides, padding), (x, kernel)


def _by_platform_backward(strides, padding, residuals, cotangent):
    # Derived for each platform by itself: differentiating through the choice would keep residuals of both branches.
    def gradients(formulation):
        return lambda x, kernel, g: jax.vjp(partial(formulation, strides=strides, padding=padding), x, kernel)[1](g)

    return lax.platform_dependent(*residuals, cotangent, cpu=gradients(cpu_formulation), default=gradients(native))


_by_platform.defvjp(_by_platform_forward, _by_platform_backward)


def conv3d(
    x: Float[Array, 'N T H W C'],
    kernel: Float[Array, 'kt kh kw C D'],
    strides: Triple = (1, 1, 1),
    padding: Padding | None = None,
    formulation: str = 'auto',
) -> Float[Array, 'N t h w D']:
    """Cross-correlation of clips with a kernel, zeros outside.

    padding: zeros (before, after) in T, H, W; None = `centred_padding`.
    formulation: 'auto' (by platform), 'native' or 'cpu'. All are the same function up to rounding.
    """
    strides = tuple(strides)
    padding = centred_padding(kernel.shape[:3]) if padding is None else tuple(tuple(p) for p in padding)
    choices: dict[str, Callable] = {'auto': _by_platform, 'native': native, 'cpu': cpu_formulation}
    return choices[formulation](x, kernel, strides, padding)


class Conv3D(nn.Module):
    """`conv3d` with its parameters `kernel` [kt, kh, kw, C, features] and, if asked for, `bias`, computed in `dtype`."""

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    padding: Padding | None = None
    use_bias: bool = False
    dtype: Any = jnp.float32
    # He 2015, fan out: the initial values of the residual networks' publications.
    kernel_init: Callable = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')

    @nn.compact
    def __call__(self, x: Float[Array, 'N T H W C']) -> Float[Array, 'N t h w D']:
        kernel = self.param('kernel', self.kernel_init, (*self.kernel, x.shape[-1], self.features), jnp.float32)
        y = conv3d(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + jnp.expand_dims(bias, (0, 1, 2, 3)).astype(self.dtype)
        return y


def max_pool3d(
    x: Float[Array, 'N T H W C'], kernel: Triple, strides: Triple, padding: Padding
) -> Float[Array, 'N t h w C']:
    """Largest value of each window; padding never wins. An axis of kernel 1 is only strided.

    Taken axis by axis as a maximum of strided slices: exact, and its gradient needs no select-and-scatter, which
    XLA:CPU runs naively. Where values of a window tie, the gradient is shared among them.
    """
    lowest = jnp.array(-jnp.inf, x.dtype)
    for axis, (k, s, (front, back)) in enumerate(zip(kernel, strides, padding), start=1):
        pad = [(0, 0, 0)] * x.ndim
        pad[axis] = (front, back, 0)
        x = lax.pad(x, lowest, pad) if front or back else x
        size = (x.shape[axis] - k) // s + 1
        taps = [lax.slice_in_dim(x, i, i + (size - 1) * s + 1, s, axis) for i in range(k)]
        x = taps[0]
        for tap in taps[1:]:
            x = jnp.maximum(x, tap)
    return x
