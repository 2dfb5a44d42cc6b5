"""3D convolution, exact, in the formulation that suits the platform.

GPU and TPU get XLA's own 3D convolution. XLA:CPU runs that one naively, but its 2D convolutions and matrix products
are good, so on CPU the same sum is written with those (`ops/cpu`).
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu.conv3d import cpu_conv3d, forward, gradients
from pvlad_jax.ops.padding import Padding, Triple, centred_padding


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

    return lax.platform_dependent(
        *residuals, cotangent, cpu=partial(gradients, strides=strides, padding=padding), default=of_native
    )


_by_platform = jax.custom_vjp(_chosen, nondiff_argnums=(2, 3))
_by_platform.defvjp(
    lambda x, kernel, strides, padding: (_chosen(x, kernel, strides, padding), (x, kernel)), _chosen_gradients
)


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
    """Layers of one shape share a trace, in all programs of a process.

    Half the tracing at the start of a run was of convolutions.
    """
    choices: dict[str, Callable] = {'auto': _by_platform, 'native': native, 'cpu': cpu_conv3d}
    return choices[formulation](x, kernel, strides, padding)
