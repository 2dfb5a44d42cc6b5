"""3D convolution and max pooling, exact, in the formulation that suits the platform.

GPU and TPU get XLA's own 3D convolution. XLA:CPU runs that one naively, but its 2D convolutions and matrix products
are good, so on CPU the same sum is written with those (`cpu_conv3d`).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu.conv3d import Padding, Triple, cpu_conv3d, forward, gradients


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


def _chosen(x, kernel, strides, padding):
    about = {'strides': strides, 'padding': padding}
    return lax.platform_dependent(x, kernel, cpu=partial(forward, **about), default=partial(native, **about))


def _chosen_gradients(strides, padding, residuals, cotangent):
    # Derived for each platform by itself: differentiating through the choice would keep residuals of both branches.
    # Not by `cpu_conv3d`, whose forward pass would be traced once more for it.
    def of_native(x, kernel, g):
        return jax.vjp(partial(native, strides=strides, padding=padding), x, kernel)[1](g)

    return lax.platform_dependent(*residuals, cotangent, cpu=partial(gradients, strides=strides, padding=padding), default=of_native)


_by_platform = jax.custom_vjp(_chosen, nondiff_argnums=(2, 3))
_by_platform.defvjp(lambda x, kernel, strides, padding: (_chosen(x, kernel, strides, padding), (x, kernel)), _chosen_gradients)


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
    padding = centred_padding(kernel.shape[:3]) if padding is None else tuple(tuple(p) for p in padding)
    return _traced_once(x, kernel, tuple(strides), padding, formulation)


@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _traced_once(x, kernel, strides: Triple, padding: Padding, formulation: str):
    """Layers of one shape share a trace, in all programs of a process. Half the tracing at the start of a run was of convolutions."""
    choices: dict[str, Callable] = {'auto': _by_platform, 'native': native, 'cpu': cpu_conv3d}
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
        # Only the shape is looked at before there are weights: one operation instead of hundreds to be traced.
        formulation = 'native' if self.is_initializing() else 'auto'
        y = conv3d(x.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding, formulation)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + jnp.expand_dims(bias, (0, 1, 2, 3)).astype(self.dtype)
        return y


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _dealt(x: Array, axis: int, hands: int) -> tuple[Array, ...]:
    """Places 0, n, 2n, ... of an axis, places 1, n + 1, ..., and so on: all that strided slices may ask for.

    So their gradients are put together by one copy; those of strided slices are sums of arrays that are mostly zeros: on a CPU, forward and
    backward of I3D's second pooling 2.8 -> 1.6 ms.
    """
    parts = x.reshape(*x.shape[:axis], -1, hands, *x.shape[axis + 1 :])
    return tuple(lax.index_in_dim(parts, i, axis + 1, keepdims=False) for i in range(hands))


def _gathered(axis: int, hands: int, _, gradients: tuple[Array, ...]) -> tuple[Array]:
    shape = gradients[0].shape
    return (jnp.stack(gradients, axis + 1).reshape(*shape[:axis], shape[axis] * hands, *shape[axis + 1 :]),)


_dealt.defvjp(lambda x, axis, hands: (_dealt(x, axis, hands), None), _gathered)


def max_pool3d(
    x: Float[Array, 'N T H W C'], kernel: Triple, strides: Triple, padding: Padding
) -> Float[Array, 'N t h w C']:
    """Largest value of each window; padding never wins. An axis of kernel 1 is only strided.

    Taken axis by axis as a maximum of slices: exact, and its gradient needs no select-and-scatter, which
    XLA:CPU runs naively. Where values of a window tie, the gradient is shared among them.
    """
    lowest = jnp.array(-jnp.inf, x.dtype)
    for axis, (k, s, (front, back)) in enumerate(zip(kernel, strides, padding), start=1):
        size = (x.shape[axis] + front + back - k) // s + 1
        end = s * (size + (k - 1) // s) - front - x.shape[axis]
        widths = [(front, end, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
        parts = _dealt(lax.pad(x, lowest, widths), axis, s) if s > 1 else (lax.pad(x, lowest, widths),)
        taps = [lax.slice_in_dim(parts[i % s], i // s, i // s + size, axis=axis) for i in range(k)]
        x = reduce(jnp.maximum, taps)
    return x
