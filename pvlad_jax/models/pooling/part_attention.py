"""Attention over parts without a codebook (Zhao et al., ICCV 2017, lifted to 3D)."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig
from pvlad_jax.models.pooling.interface import Intermediates, Pooling, Statistics, mean_of, num_locations
from pvlad_jax.models.pooling.part_alignment import PartAlignment


class PartAttention(Pooling):
    """Part alignment, and the mean of each part's descriptors times its mask (Zhao 2017, lifted to 3D). F = P·D.

    Statistics: `total` [N,P,D], the weighted sums, and `count` [N], the valid locations, over all of which the mean is
    taken. Attributes as of `PersonVlad`.
    """

    parts: int
    descriptor_dim: int
    mask_kernel: int = 1
    position_term: bool = False
    dtype: DTypeLike = jnp.float32
    colour_parts: int = 0

    @classmethod
    def from_config(cls, model: ModelConfig) -> 'PartAttention':
        return cls(
            parts=model.parts,
            descriptor_dim=model.descriptor_dim,
            mask_kernel=model.mask_kernel,
            position_term=model.position_term and model.parts > 0,
            dtype=jnp.dtype(model.dtype),
            colour_parts=model.parts if model.colour_masks else 0,
        )

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t'], shares: Float[Array, 'N t h w R'] | None = None
    ) -> tuple[Statistics, Intermediates]:
        masks, u = PartAlignment(
            self.parts, self.descriptor_dim, self.mask_kernel, self.position_term, self.dtype, name='part_alignment'
        )(x, shares)
        weight = masks * valid[:, :, None, None, None]
        total = jnp.einsum('nthwp,nthwpd->npd', weight, u, precision='highest')
        return {'total': total, 'count': num_locations(x, valid)}, Intermediates(part_masks=masks, part_descriptors=u)

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return mean_of(statistics).reshape(statistics['count'].shape[0], -1)

    def size(self, channels: int) -> int:
        return max(self.parts, 1) * self.descriptor_dim
