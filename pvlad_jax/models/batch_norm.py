"""Batch normalisation (Ioffe and Szegedy 2015) that does not see padding frames."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.frame_mask import mask_frames

_groups = contextvars.ContextVar('groups', default=1)


@contextlib.contextmanager
def statistics_by_group(groups: int) -> Iterator[None]:
    """While a network is traced inside, training statistics are taken over each of so many equal, consecutive parts of the batch apart.

    With as many groups as devices nothing of BatchNorm crosses devices, and its statistics are those that training on one device with a
    device's share of the batch would have. Running statistics are the mean over the groups.
    """
    token = _groups.set(groups)
    try:
        yield
    finally:
        _groups.reset(token)


class BatchNorm(nn.Module):
    """Normalises channels over batch, time and space; float32 throughout, result in `dtype` and zero at invalid frames.

    Statistics of a training batch are taken over valid frames only. Under jit over a sharded batch they are those of
    the whole batch (the sums run over all devices), or see `statistics_by_group`. `frozen` uses the running statistics in training as well.
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
            # A group's statistics [G, C]; G = 1 is the whole batch.
            groups = _groups.get()
            shift = lax.stop_gradient(running_mean.value)
            # Distances from the running mean keep E[x²] - E[x]² free of cancellation; any shift gives the same result.
            centred = mask_frames(x32 - jnp.expand_dims(shift, axes), valid).reshape(groups, -1, *x.shape[1:])
            # A batch without a single valid frame has zero statistics, not NaN.
            seen = valid.reshape(groups, -1).sum(1, dtype=jnp.float32)
            count = jnp.maximum(seen, 1)[:, None] * (x.shape[2] * x.shape[3])
            within = (1, 2, 3, 4)
            offset = centred.sum(within) / count
            var = jnp.maximum(jnp.square(centred).sum(within) / count - jnp.square(offset), 0)
            mean = shift + offset
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * lax.stop_gradient(mean).mean(0)
            running_var.value = keep * running_var.value + (1 - keep) * lax.stop_gradient(var).mean(0)
            if groups == 1:
                mean, var = mean[0], var[0]
            else:  # one row for every clip of the group
                mean, var = (jnp.repeat(v, x.shape[0] // groups, 0) for v in (mean, var))
        else:
            mean, var = running_mean.value, running_var.value
        gain = lax.rsqrt(var + self.epsilon)
        if self.use_scale:
            gain = gain * self.param('scale', self.scale_init, shape, jnp.float32)
        bias = self.param('bias', nn.initializers.zeros, shape, jnp.float32)
        mean, gain, bias = (jnp.expand_dims(v, (1, 2, 3) if v.ndim == 2 else axes) for v in (mean, gain, bias))
        return mask_frames((x32 - mean) * gain + bias, valid).astype(self.dtype)
