"""Batch normalisation (Ioffe and Szegedy 2015) that does not see padding frames."""

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.ops.frame_mask import mask_frames
from pvlad_jax.ops.hidden_zero import zero_after

_groups = contextvars.ContextVar('groups', default=1)


@contextlib.contextmanager
def statistics_by_group(groups: int) -> Iterator[None]:
    """While a network is traced inside, training statistics are those of each of `groups` equal, consecutive parts of
    the batch separately.

    With as many groups as devices nothing of the backbone's BatchNorm crosses devices, and its statistics are those
    that training on one device with a device's share of the batch would have. Running statistics are the mean over the
    groups. The BNNeck takes those of the whole batch always: it sees one vector a video.
    """
    token = _groups.set(groups)
    try:
        yield
    finally:
        _groups.reset(token)


def _rows(value: Float[Array, 'G C'], clips: int) -> Float[Array, '...']:
    """What each group has, to be multiplied with [N, T, H, W, C]."""
    if value.shape[0] == 1:
        return value[0]
    return jnp.repeat(value, clips // value.shape[0], 0)[:, None, None, None]


def _sums(x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], groups: int) -> Float[Array, 'G C']:
    """Sums over the valid frames of each group. Each frame is summed first: nothing as large as x is masked."""
    frames = jnp.where(valid[..., None], x.sum((2, 3)), 0)
    return frames.reshape(groups, -1, x.shape[-1]).sum(1)


def _num_locations(x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], groups: int) -> Float[Array, 'G 1']:
    """How many valid locations a group has; at least one frame's, so that a batch without any has zero statistics, not
    NaN.
    """
    frames = valid.reshape(groups, -1).sum(1, dtype=jnp.float32)
    return jnp.maximum(frames, 1)[:, None] * (x.shape[2] * x.shape[3])


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def normalise(
    x: Float[Array, 'N T H W C'],
    valid: Bool[Array, 'N T'],
    shift: Float[Array, 'C'],
    scale: Float[Array, 'C'],
    bias: Float[Array, 'C'],
    groups: int,
    epsilon: float,
) -> tuple[Float[Array, 'N T H W C'], Float[Array, 'G C'], Float[Array, 'G C']]:
    """(x normalised by the statistics of its valid frames, zero at the others; mean; biased variance).

    shift: about the mean; any gives the same result, but distances from it keep E[x²] - E[x]² free of cancellation.
    Its own derivative keeps x alone; what JAX derives keeps masked and centred copies of x. Mean and variance have no
    gradient.
    """
    return _normalise(x, valid, shift, scale, bias, groups, epsilon)[0]


def _normalise(x, valid, shift, scale, bias, groups, epsilon):
    x32, clips, count = x.astype(jnp.float32), x.shape[0], _num_locations(x, valid, groups)
    centred = x32 - shift
    offset = _sums(centred, valid, groups) / count
    var = jnp.maximum(_sums(centred * centred, valid, groups) / count - jnp.square(offset), 0)
    mean, deviation = shift + offset, lax.rsqrt(var + epsilon)
    y = (x32 - _rows(mean, clips)) * _rows(deviation * scale, clips) + bias
    return (mask_frames(y, valid).astype(x.dtype), mean, var), (x, valid, shift, scale, mean, deviation)


def _normalise_gradients(groups, epsilon, residuals, cotangents):
    x, valid, shift, scale, mean, deviation = residuals
    clips, count = x.shape[0], _num_locations(x, valid, groups)
    g = cotangents[0].astype(jnp.float32)
    # Not x - mean or x - shift, which the forward pass has, and not before g is known: XLA would keep it, beside x
    # (with OSNet-x0.25 a quarter of what a training step holds at once).
    beyond = _rows(mean, clips) + zero_after(g) - x.astype(jnp.float32)
    of_bias = _sums(g, valid, groups)
    of_scale = -_sums(g * beyond, valid, groups) * deviation
    gain = scale * deviation
    slope = gain * deviation * of_scale / count
    of_x = _rows(gain, clips) * g + _rows(slope, clips) * beyond - _rows(gain * of_bias / count, clips)
    return mask_frames(of_x, valid).astype(x.dtype), None, jnp.zeros_like(shift), of_scale.sum(0), of_bias.sum(0)


normalise.defvjp(_normalise, _normalise_gradients)


class BatchNorm(nn.Module):
    """Normalises channels over batch, time and space; float32 throughout, result in `dtype` and zero at invalid frames.

    Statistics of a training batch are taken over valid frames only. Under jit over a sharded batch they are those of
    the whole batch (the sums run over all devices), or see `statistics_by_group`. `frozen` uses the running statistics
    in training as well. Parameters `scale` (unless `use_scale` is false) and `bias`; `batch_stats` `mean` and `var`
    (biased).
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
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        running_var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        scale = self.param('scale', self.scale_init, shape, jnp.float32) if self.use_scale else jnp.ones(shape)
        bias = self.param('bias', nn.initializers.zeros, shape, jnp.float32)
        if train and not self.frozen and not self.is_initializing():
            y, mean, var = normalise(x, valid, running_mean.value, scale, bias, _groups.get(), self.epsilon)
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * lax.stop_gradient(mean).mean(0)
            running_var.value = keep * running_var.value + (1 - keep) * lax.stop_gradient(var).mean(0)
            return y.astype(self.dtype)
        gain = lax.rsqrt(running_var.value + self.epsilon) * scale
        y = (x.astype(jnp.float32) - running_mean.value) * gain + bias
        return mask_frames(y, valid).astype(self.dtype)
