"""Depthwise spatial convolution, 3x3, stride 1, zeros outside: exact, in the formulation that suits the platform.

GPU and TPU get XLA's grouped convolution. XLA:CPU runs that one 50 to 300 times slower than PyTorch, so on CPU the same
sum is written with shifted products (`cpu_depthwise`), and so are its gradients.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu.depthwise import cpu_depthwise, forward, gradients


def native(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """XLA's convolution with as many groups as channels."""
    frames = x.reshape(-1, *x.shape[2:])
    axes, padding = ('NHWC', 'HWIO', 'NHWC'), ((1, 1), (1, 1))
    y = lax.conv_general_dilated(
        frames, kernel[:, :, None], (1, 1), padding, dimension_numbers=axes, feature_group_count=x.shape[-1]
    )
    return y.reshape(x.shape)


@jax.custom_vjp
def _by_platform(x, kernel):
    return lax.platform_dependent(x, kernel, cpu=forward, default=native)


def _gradients_by_platform(residuals, g):
    # Derived for each platform by itself: differentiating through the choice would keep residuals of both branches.
    def of_native(x, kernel, g):
        return jax.vjp(native, x, kernel)[1](g)

    return lax.platform_dependent(*residuals, g, cpu=gradients, default=of_native)


_by_platform.defvjp(lambda x, kernel: (_by_platform(x, kernel), (x, kernel)), _gradients_by_platform)


def depthwise_conv(
    x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C'], formulation: str = 'auto'
) -> Float[Array, 'N T H W C']:
    """Every channel of every frame with its own 3x3 kernel: y[h, w] = Σ_ij kernel[i, j] x[h+i-1, w+j-1], zeros outside.

    float32, or half precision with sums in float32; the result has the type of x. Differentiable in reverse mode, of
    the first and of higher order, not in forward mode. ValueError for shapes that do not fit.
    formulation: 'auto' (by platform), 'native' or 'cpu'. All are the same function up to rounding.
    """
    if x.ndim != 5 or kernel.shape != (3, 3, x.shape[-1]):
        shapes = f'x is {x.shape}, the kernel {kernel.shape}'
        raise ValueError(f'x must be [N, T, H, W, C] and the kernel [3, 3, C]: {shapes}.')
    return _traced_once(x, kernel, formulation)


@partial(jax.jit, static_argnums=2, inline=True)
def _traced_once(x, kernel, formulation: str):
    """Layers of one shape share a trace."""
    choices: dict[str, Callable] = {'auto': _by_platform, 'native': native, 'cpu': cpu_depthwise}
    return choices[formulation](x, kernel)
