"""The layer that published image networks have between their global average and the classifier."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.ops.frame_mask import mask_frames


class PretrainedHead(nn.Module):
    """Each frame's global average, a linear layer to F, BatchNorm, ReLU; float32, zero at invalid frames.

    Parameters `kernel` [C, F], `bias`, `scale`, `shift`; `batch_stats` `mean` and `var`, which training does not change: with imported
    statistics the head is the published function, at test and in training. Names as in a weights file (`weights.HEAD`).
    """

    features: int  # F
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> Float[Array, 'N t F']:
        shape = (self.features,)
        kernel = self.param('kernel', nn.initializers.normal(0.01), (x.shape[-1], self.features), jnp.float32)
        bias, shift = (self.param(name, nn.initializers.zeros, shape, jnp.float32) for name in ('bias', 'shift'))
        scale = self.param('scale', nn.initializers.ones, shape, jnp.float32)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        frames = mask_frames(x.astype(jnp.float32), valid).mean((2, 3)) @ kernel + bias
        frames = nn.relu((frames - mean.value) * lax.rsqrt(var.value + self.epsilon) * scale + shift)
        return jnp.where(valid[:, :, None], frames, 0)
