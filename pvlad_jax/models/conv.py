"""The convolutional layer: parameters and dtype around `pvlad_jax.ops.conv3d`."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from pvlad_jax.ops.conv3d import conv3d
from pvlad_jax.ops.padding import Padding, Triple


class Conv3D(nn.Module):
    """`conv3d` with its parameters `kernel` [kt, kh, kw, C, features] and, if asked for, `bias`, computed in
    `dtype`.
    """

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
            # In float32, as is then the bias's gradient: a sum over all locations, of which bfloat16 loses most.
            y = (y.astype(jnp.float32) + jnp.expand_dims(bias, (0, 1, 2, 3))).astype(self.dtype)
        return y
