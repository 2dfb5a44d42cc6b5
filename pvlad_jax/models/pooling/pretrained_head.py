"""The layer that published image networks have between their global average and the classifier."""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.pooling.interface import Intermediates, Pooling, Statistics, mean_of
from pvlad_jax.ops.frame_mask import mask_frames


class PretrainedHead(nn.Module):
    """Each frame's global average, a linear layer to F, BatchNorm, ReLU; float32, zero at invalid frames.

    Parameters `kernel` [C, F], `bias`, `scale`, `shift`; `batch_stats` `mean` and `var`, which training does not
    change: with imported statistics the head is the published function, at test and in training. Names as in a weights
    file (`initialisation.pretrained.HEAD`).
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
        average = mask_frames(x.astype(jnp.float32), valid).mean((2, 3))
        frames = jnp.matmul(average, kernel, precision='highest') + bias
        frames = nn.relu((frames - mean.value) * lax.rsqrt(var.value + self.epsilon) * scale + shift)
        return jnp.where(valid[:, :, None], frames, 0)


class HeadAverage(Pooling):
    """The mean over all valid frames of the feature that the pretrained image network's own head gives."""

    features: int  # F
    pretrained_head: ClassVar[bool] = True

    @classmethod
    def from_config(cls, model: ModelConfig) -> 'HeadAverage':
        features = BACKBONES[model.backbone.name].head_features
        if not features:
            raise UserError(
                f"model.pooling = 'pretrained_head': the published {model.backbone.name} has no layer between its "
                "global average and its classifier. Take 'average'."
            )
        return cls(features)

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Intermediates]:
        frames = PretrainedHead(self.features, name='head')(x, valid)
        return {'total': frames.sum(1), 'count': jnp.sum(valid, axis=1).astype(jnp.float32)}, Intermediates()

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return mean_of(statistics)

    def size(self, channels: int) -> int:
        return self.features

    def head_params(
        self, params: Mapping[str, Any], batch_stats: Mapping[str, Any], head: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return (
            {**params, 'head': {name: head[name] for name in params['head']}},
            {**batch_stats, 'head': {name: head[name] for name in batch_stats['head']}},
        )
