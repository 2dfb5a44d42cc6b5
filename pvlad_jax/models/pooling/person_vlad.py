"""PersonVLAD: soft parts over space and time, and the residuals of each part's descriptors from a codebook (formulas:
docs/design.md, "The pooling").
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig, VladInitConfig
from pvlad_jax.models.pooling.interface import Intermediates, KMeans, Pooling, Statistics
from pvlad_jax.models.pooling.part_alignment import PartAlignment
from pvlad_jax.models.pooling.vlad_codebook import NetVlad, initial_codebook, vlad_descriptor


class PersonVlad(Pooling):
    """3D part alignment and a VLAD codebook for each part. Statistics: `residual` [N,P,K,D], the residual sums.

    Attributes:
      parts: P; 0 = VLAD without parts (NetVLAD; on a 2D backbone ActionVLAD).
      clusters, descriptor_dim: K and D, of each part.
      mask_kernel, position_term, dtype: of `PartAlignment`.
      shared_codebook: one codebook for all parts.
      colour_parts: P where masks begin at a segmentation by colour; 0 = they do not.
      norm: of `vlad_descriptor`.
    """

    parts: int
    clusters: int
    descriptor_dim: int
    mask_kernel: int = 1
    shared_codebook: bool = False
    position_term: bool = False
    dtype: DTypeLike = jnp.float32
    colour_parts: int = 0
    norm: str = 'codeword'
    data_dependent: ClassVar[bool] = True

    @classmethod
    def from_config(cls, model: ModelConfig) -> 'PersonVlad':
        return cls(
            parts=model.parts,
            clusters=model.clusters,
            descriptor_dim=model.descriptor_dim,
            mask_kernel=model.mask_kernel,
            shared_codebook=model.shared_codebook,
            position_term=model.position_term and model.parts > 0,
            dtype=jnp.dtype(model.dtype),
            colour_parts=model.parts if model.colour_masks else 0,
            norm=model.vlad_norm,
        )

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t'], shares: Float[Array, 'N t h w R'] | None = None
    ) -> tuple[Statistics, Intermediates]:
        n, t, h, w, _ = x.shape
        masks, u = PartAlignment(
            self.parts, self.descriptor_dim, self.mask_kernel, self.position_term, self.dtype, name='part_alignment'
        )(x, shares)
        weight = masks * valid[:, :, None, None, None]
        parts = masks.shape[-1]
        sums, assignment = NetVlad(parts, self.clusters, self.descriptor_dim, self.shared_codebook, name='vlad')(
            u.reshape(n, t * h * w, parts, self.descriptor_dim), weight.reshape(n, t * h * w, parts)
        )
        return {'residual': sums}, Intermediates(
            part_masks=masks if self.parts else None,  # a mask that is 1 everywhere is none to look at
            soft_assignment=assignment.reshape(n, t, h, w, parts, self.clusters),
            part_descriptors=u,
        )

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return vlad_descriptor(statistics['residual'], self.norm)

    def size(self, channels: int) -> int:
        return max(self.parts, 1) * self.clusters * self.descriptor_dim

    def initial_params(
        self,
        params: Mapping[str, Any],
        descriptors: Float[np.ndarray, 'n P D'],
        init: VladInitConfig,
        seed: int,
        kmeans: KMeans,
    ) -> dict[str, Any]:
        """The codebooks from the descriptors, which `init.centre_descriptors` first moves to mean 0 by their layer's
        bias.

        Features behind a ReLU point into one corner of the space: left there, all û nearly agree, the clusters crowd
        together, α comes out in the hundreds, and the first updates of a backbone that learns carry every û out of
        reach of all clusters but one.
        """
        shift = -descriptors.mean(0) if init.centre_descriptors else np.zeros(descriptors.shape[1:], np.float32)
        codebook = initial_codebook(
            descriptors + shift,
            self.clusters,
            seed,
            kmeans,
            rule=init.rule,
            alpha=init.alpha,
            alpha_scale=init.alpha_scale,
            shared_codebook=self.shared_codebook,
            limit=init.max_descriptors,
        )
        alignment = params['part_alignment']
        layer = alignment['part_descriptor']
        layer = {**layer, 'bias': np.asarray(layer['bias']) + shift.reshape(-1)}
        return {**params, 'part_alignment': {**alignment, 'part_descriptor': layer}, 'vlad': codebook}
