"""What every pooling has in common: local features of any number of clips -> one descriptor a video.

A pooling has two halves. `__call__` turns clips into statistics, one set a clip. Statistics of clips are merged by
addition (`merge = 'add'`) or by maximum, in any order and in any grouping, so that a video of any length is pooled in
constant memory. `finish` turns the merged statistics into the descriptor and has no parameters.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig, VladInitConfig

Statistics = dict[str, Array]  # leading axis: clips, or videos once merged
KMeans = Callable[[Float[np.ndarray, 'n D'], int, int], Float[np.ndarray, 'K D']]  # (unit vectors, K, seed) -> centres


class Intermediates(NamedTuple):
    """What a pooling computes on the way, for pictures, losses and initialisation; None of what it has not."""

    part_masks: Array | None = None  # [N,t,h,w,P]
    soft_assignment: Array | None = None  # [N,t,h,w,P,K]
    part_descriptors: Array | None = None  # [N,t,h,w,P,D], not normalised


class Pooling(nn.Module):
    """Base of the poolings. A subclass is a line in `pooling.POOLINGS`.

    Class attributes:
      merge: how statistics of clips are merged, 'add' or 'max'.
      data_dependent: parameters begin with `initial_params` of local descriptors of the training set.
      pretrained_head: parameters begin with `head_params` of the weights file.
      colour_parts: if above 0, the call is also given the shares [N,t,h,w,P+1] of that many parts and of the background
        by colour (`ops.colour_segmentation`). A class or its instances may set it.
    """

    merge: ClassVar[str] = 'add'
    data_dependent: ClassVar[bool] = False
    pretrained_head: ClassVar[bool] = False
    colour_parts = 0  # no annotation: it would be a field of every pooling

    @classmethod
    def from_config(cls, model: ModelConfig) -> 'Pooling':
        """The pooling with what it reads of the configuration. UserError for a combination that there cannot be."""
        return cls()

    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Intermediates]:
        """(statistics of each clip, arrays [N, ...] by name; what may be looked at). `x` is 0 at times that are not
        valid.
        """
        raise NotImplementedError

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        """The descriptor, from the merged statistics of each video."""
        raise NotImplementedError

    def size(self, channels: int) -> int:
        """F, for a backbone of C channels."""
        raise NotImplementedError

    def initial_params(
        self,
        params: Mapping[str, Any],
        descriptors: Float[np.ndarray, 'n P D'],
        init: VladInitConfig,
        seed: int,
        kmeans: KMeans,
    ) -> dict[str, Any]:
        """The parameters to begin with, if `data_dependent`.

        Args:
          params: the random ones.
          descriptors: `part_descriptors` of a sample of valid locations of training clips.
          init: config.vlad_init.
          seed: of k-means.
        """
        return dict(params)

    def head_params(
        self, params: Mapping[str, Any], batch_stats: Mapping[str, Any], head: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(parameters, statistics) to begin with, given the random ones and the tensors of the published head (if
        `pretrained_head`).
        """
        return dict(params), dict(batch_stats)


def num_locations(x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> Float[Array, 'N']:
    """How many valid locations each clip has."""
    return jnp.sum(valid, axis=1).astype(jnp.float32) * (x.shape[2] * x.shape[3])


def total_of(x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> Statistics:
    """The sum of the local features of each clip (`total`), and of how many (`count`): what `mean_of` is given."""
    total = jnp.einsum('nthwc,nt->nc', x.astype(jnp.float32), valid.astype(jnp.float32), precision='highest')
    return {'total': total, 'count': num_locations(x, valid)}


def mean_of(statistics: Statistics) -> Float[Array, 'B ...']:
    """`total` / `count`; 0 where nothing was counted."""
    total, count = statistics['total'], statistics['count']
    return total / jnp.maximum(count, 1).reshape(-1, *(1,) * (total.ndim - 1))


def merge_clips(statistics: Statistics, merge: str, clips: Any) -> Statistics:
    """Statistics of B·S clips, S = `clips` (a number, or a symbol of jax.export) to a video in order -> those of B
    videos.
    """
    reduce = jnp.sum if merge == 'add' else jnp.max
    return jax.tree.map(lambda s: reduce(s.reshape(-1, clips, *s.shape[1:]), axis=1), statistics)


def merge_by_segment(statistics: Statistics, merge: str, segment: Array, segments: int) -> Statistics:
    """Statistics of N clips -> those of `segments` videos.

    Clip n belongs to video segment[n] (rising); outside 0..segments-1 to none.
    """
    reduce = jax.ops.segment_sum if merge == 'add' else jax.ops.segment_max
    return jax.tree.map(lambda s: reduce(s, segment, num_segments=segments), statistics)


def merge_two(one: Statistics, other: Statistics, merge: str) -> Statistics:
    """Two statistics of the same videos, of some clips each -> those of all these clips."""
    return jax.tree.map(jnp.add if merge == 'add' else jnp.maximum, one, other)


def identity_element(statistics: dict[str, Array | jax.ShapeDtypeStruct], merge: str) -> Statistics:
    """The statistics of no clip, in the shape of those given: merged with any, they change nothing."""
    return jax.tree.map(lambda s: jnp.full(s.shape, 0.0 if merge == 'add' else -jnp.inf, s.dtype), statistics)
