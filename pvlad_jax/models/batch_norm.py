"""Batch normalisation (Ioffe and Szegedy 2015) that does not see padding frames."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.frame_mask import mask_frames


class BatchNorm(nn.Module):
    """Normalises channels over batch, time and space; float32 throughout, result in `dtype` and zero at invalid frames.

    Statistics of a training batch are taken over valid frames only. Under jit over a sharded batch they are those of
    the whole batch (the sums run over all devices). `frozen` uses the running statistics in training as well.
    Parameters `scale` (unless `use_scale` is false) and `bias`; `batch_stats` `mean` and `var` (biased).
    """

    frozen: bool = False
    epsilon: float = 1e-5
    momentum: float = 0.9  # share of the old running value: PyTorch calls this 0.1
    use_scale: bool = True
    scale_init: Any = nn.initializers.ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W C']:
        shape = (x.shape[-1],)
        axes = (0, 1, 2, 3)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        running_var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        x32 = x.astype(jnp.float32)
        if train and not self.frozen and not self.is_initializing():
            # Distances from the running mean keep E[x²] - E[x]² free of cancellation; any shift gives the same result.
            shift = lax.stop_gradient(running_mean.value)
            centred = mask_frames(x32 - jnp.expand_dims(shift, axes), valid)
            # A batch without a single valid frame has zero statistics, not NaN.
            count = jnp.maximum(valid.sum(dtype=jnp.float32), 1) * (x.shape[2] * x.shape[3])
            offset = centred.sum(axes) / count
            var = jnp.maximum(jnp.square(centred).sum(axes) / count - jnp.square(offset), 0)
            mean = shift + offset
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * lax.stop_gradient(mean)
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * lax.stop_gradient(var)
        else:
            mean, var = running_mean.value, running_var.value
        gain = lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            gain = gain * self.param('scale', self.scale_init, shape, jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, shape, jnp.float32)
        mean, gain, bias = (jnp.expand_dims(v, axes) for v in (mean, gain, bias))
        return mask_frames((x32 - mean) * gain + bias, valid).astype(self.dtype)
