"""Instance normalisation (Ulyanov 2016) of single frames, and its mixture with BatchNorm of IBN-Net (Pan 2018)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.ops.frame_mask import mask_frames


class InstanceNorm(nn.Module):
    """Normalises each channel of each frame over its locations, in training and at test alike; float32, zero at invalid
    frames.

    Parameters `scale` and `bias`.
    """

    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T']) -> Float[Array, 'N T H W C']:
        scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        x = mask_frames(x.astype(jnp.float32), valid)
        centred = x - x.mean((2, 3), keepdims=True)
        gain = lax.rsqrt(jnp.square(centred).mean((2, 3), keepdims=True) + self.epsilon) * scale
        return mask_frames(centred * gain + bias, valid).astype(self.dtype)


class InstanceBatchNorm(nn.Module):
    """IBN-a: InstanceNorm for the first half of the channels, BatchNorm for the rest.

    Parameters `instance`, `batch`.
    """

    frozen: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W C']:
        half = x.shape[-1] // 2
        first = InstanceNorm(dtype=self.dtype, name='instance')(x[..., :half], valid)
        rest = BatchNorm(self.frozen, dtype=self.dtype, name='batch')(x[..., half:], valid, train)
        return jnp.concatenate([first, rest], axis=-1)
