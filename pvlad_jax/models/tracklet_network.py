"""The whole network: clips of a tracklet -> one embedding (flow and shapes: docs/design.md)."""

from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8

from pvlad_jax.config import ModelConfig
from pvlad_jax.models.backbones import BACKBONES, build_backbone
from pvlad_jax.models.backbones.inflation import check_effect
from pvlad_jax.models.part_embedding import PartEmbedding
from pvlad_jax.models.pooling import Intermediates, Statistics, build_pooling
from pvlad_jax.models.pooling.interface import mean_of, merge_clips, total_of
from pvlad_jax.ops.colour_segmentation import colour_segmentation
from pvlad_jax.ops.l2_normalise import l2_normalise


@flax.struct.dataclass
class Output:
    """What a forward pass over whole videos gives."""

    __no_type_check__ = (
        True  # of __init__: JAX fills pytrees with placeholders too, which no annotation of an array fits
    )

    feature: Float[Array, 'B E']  # before normalisation
    embedding: Float[Array, 'B E']  # unit vectors, for retrieval
    logits: Float[Array, 'B I']  # over the I training people
    part_masks: Float[Array, 'B S t h w P'] | None
    soft_assignment: Float[Array, 'B S t h w P K'] | None
    part_descriptors: Float[Array, 'B S t h w P D'] | None
    valid: Bool[Array, 'B S t']  # of the feature map's times
    mean_feature: Float[Array, 'B C']  # of the valid locations of all clips


class TrackletNetwork(nn.Module):
    """Backbone, pooling, embedding layer, classifier. `__call__` for training; `statistics` and `embed` are its two
    halves at test.

    Attributes:
      aggregator: the pooling (`pooling.Pooling`); checkpoints name its parameters after this field.
      embedding: E. Where `linear` is false it is F, the descriptor's size.
      num_identities: I, the classifier's outputs.
      bnneck: BatchNorm between the embedding layer and the classifier (Luo 2019).
      pixel_mean, pixel_std: of the backbone's input, on a scale of 0 to 1.
      dtype: of the backbone's input.
      linear: whether there is an embedding layer; without one the descriptor itself is the feature.
      embedding_parts: of how many parts each has an embedding layer of its own; 0 = one layer for the descriptor.
      stride_t: the backbone's stride in time, which tells the frames that a segmentation by colour looks at.
    """

    backbone: nn.Module
    aggregator: nn.Module
    embedding: int
    num_identities: int
    bnneck: bool
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    dtype: jnp.dtype
    linear: bool = True
    embedding_parts: int = 0
    stride_t: int = 1

    def setup(self):
        if self.linear and self.embedding_parts:
            self.to_embedding = PartEmbedding(self.embedding_parts, self.embedding)
        elif self.linear:
            self.to_embedding = nn.Dense(self.embedding, precision='highest')
        if self.bnneck:
            self.neck = nn.BatchNorm(momentum=0.9, use_bias=False)
        self.classifier = nn.Dense(
            self.num_identities, use_bias=not self.bnneck, kernel_init=nn.initializers.normal(0.02), precision='highest'
        )

    def local_features(
        self, clips: UInt8[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool = False
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        """The backbone's features, 0 at times that are not valid, and which times are."""
        x = (clips.astype(jnp.float32) / 255 - jnp.array(self.pixel_mean)) / jnp.array(self.pixel_std)
        x = jnp.where(valid[:, :, None, None, None], x, 0).astype(self.dtype)
        x, valid = self.backbone(x, valid, train)
        return jnp.where(valid[:, :, None, None, None], x, 0), valid

    def statistics(
        self, clips: UInt8[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool = False
    ) -> tuple[Statistics, Intermediates, Bool[Array, 'N t']]:
        """(statistics of each clip alone, intermediates, validity of the feature map's times).

        Frames that are not valid change nothing, whatever they hold.
        """
        x, times = self.local_features(clips, valid, train)
        statistics, intermediates = self._pooled(x, times, clips)
        return statistics, intermediates, times

    def _pooled(self, x, times, clips) -> tuple[Statistics, Intermediates]:
        shares = ()
        if self.aggregator.colour_parts:
            cells = x.shape[2:4]
            shares = (colour_segmentation(clips, times, self.aggregator.colour_parts, *cells, self.stride_t),)
        return self.aggregator(x, times, *shares)

    def embed(
        self, statistics: Statistics, train: bool = False
    ) -> tuple[Float[Array, 'B E'], Float[Array, 'B E'], Float[Array, 'B E']]:
        """Merged statistics of videos -> (feature, unit embedding, the classifier's input)."""
        feature = self.aggregator.finish(statistics)
        feature = self.to_embedding(feature) if self.linear else feature
        if not self.bnneck:
            return feature, l2_normalise(feature), feature
        after_bnneck = self.neck(feature, use_running_average=not train)
        # Luo 2019: distances of the losses before the neck, of retrieval after it.
        return feature, l2_normalise(feature if train else after_bnneck), after_bnneck

    def __call__(self, clips: UInt8[Array, 'B S T H W 3'], valid: Bool[Array, 'B S T'], train: bool = False) -> Output:
        b, s = clips.shape[:2]
        clips, valid = clips.reshape(b * s, *clips.shape[2:]), valid.reshape(b * s, -1)
        x, times = self.local_features(clips, valid, train)
        statistics, intermediates = self._pooled(x, times, clips)
        feature, embedding, classified = self.embed(merge_clips(statistics, self.aggregator.merge, s), train)
        masks, assignment, descriptors = (None if x is None else x.reshape(b, s, *x.shape[1:]) for x in intermediates)
        return Output(
            feature=feature,
            embedding=embedding,
            logits=self.classifier(classified),
            part_masks=masks,
            soft_assignment=assignment,
            part_descriptors=descriptors,
            valid=times.reshape(b, s, -1),
            mean_feature=mean_of(merge_clips(total_of(x, times), 'add', s)),
        )


@partial(jax.jit, static_argnums=(0, 1), inline=True)
def init_variables(network: TrackletNetwork, clip: tuple[int, int, int], key: Array) -> dict:
    """What the network begins with: `params` and `batch_stats`. clip: (T, H, W).

    Traced once, for all who ask for the shapes or call it within a larger program.
    """
    return network.init(key, jnp.zeros((1, 1, *clip, 3), jnp.uint8), jnp.ones((1, 1, clip[0]), bool))


@partial(jax.jit, static_argnums=0, inline=True)
def clip_statistics(
    network: TrackletNetwork, variables: dict, clips: UInt8[Array, 'N T H W 3'], valid: Bool[Array, 'N T']
) -> tuple[Statistics, Intermediates, Bool[Array, 'N t']]:
    """`TrackletNetwork.statistics` at test, traced once like `init_variables`."""
    return network.apply(variables, clips, valid, method='statistics')


first_variables = init_variables  # its former name, which programs of others use


def build_network(config: ModelConfig, num_identities: int) -> TrackletNetwork:
    """The network of a configuration for this number of training identities. UserError for an unknown name, or a
    combination that there cannot be.
    """
    b, dtype = config.backbone, jnp.dtype(config.dtype)
    check_effect(b.temporal_blocks, b.inflation, b.temporal, b.weights)
    backbone = build_backbone(
        b.name,
        temporal=b.temporal,
        last_stride=b.last_stride,
        batch_norm=b.batch_norm,
        remat=b.remat,
        dtype=dtype,
        temporal_blocks=b.temporal_blocks,
        time_padding=b.time_padding,
    )
    spec, pooling = BACKBONES[b.name], build_pooling(config)
    return TrackletNetwork(
        backbone=backbone,
        aggregator=pooling,
        embedding=config.embedding_dim or pooling.size(spec.channels),
        num_identities=num_identities,
        bnneck=config.bnneck,
        pixel_mean=spec.pixel_mean,
        pixel_std=spec.pixel_std,
        dtype=dtype,
        linear=config.embedding_dim > 0,
        embedding_parts=config.parts if config.embedding_by_part else 0,
        stride_t=spec.stride_t,
    )
