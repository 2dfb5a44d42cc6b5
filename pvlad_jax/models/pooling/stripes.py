"""Horizontal stripes: the part-based baseline without learned parts."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.pooling.interface import Intermediates, Pooling, Statistics, mean_of


class Stripes(Pooling):
    """Means over P horizontal stripes (PCB, Sun 2018), each with its own linear layer to D; strong where people stand
    upright.

    Where P does not divide the height, stripes overlap by a row, as adaptive pooling does.
    """

    parts: int
    descriptor_dim: int

    @classmethod
    def from_config(cls, model: ModelConfig) -> 'Stripes':
        return cls(model.parts, model.descriptor_dim)

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Intermediates]:
        h = x.shape[2]
        if not 1 <= self.parts <= h:
            raise UserError(
                f"model.parts = {self.parts} stripes do not fit the {h} rows of the backbone's feature map. "
                f'Set --config.model.parts to 1..{h}.'
            )
        rows = jnp.arange(h)
        low, high = (jnp.arange(self.parts) * h) // self.parts, -((-(jnp.arange(self.parts) + 1) * h) // self.parts)
        member = ((rows >= low[:, None]) & (rows < high[:, None])).astype(jnp.float32)
        member /= member.sum(1, keepdims=True) * x.shape[3]
        x, seen = x.astype(jnp.float32), valid.astype(jnp.float32)
        means = jnp.einsum('nthwc,nt,ph->npc', x, seen, member, precision='highest')
        kernel = self.param(
            'stripe_kernel',
            nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0),
            (self.parts, x.shape[-1], self.descriptor_dim),
        )
        return {
            'total': jnp.einsum('npc,pcd->npd', means, kernel, precision='highest'),
            'count': jnp.sum(valid, axis=1).astype(jnp.float32),
        }, Intermediates()

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return mean_of(statistics).reshape(statistics['count'].shape[0], -1)

    def size(self, channels: int) -> int:
        return self.parts * self.descriptor_dim
