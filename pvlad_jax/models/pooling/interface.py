"""Aggregators: local features of any number of clips -> one descriptor a video.

Each has two halves. `__call__` turns clips into statistics, one set a clip. Statistics of clips are merged by addition (`merge = 'add'`) or
by maximum, in any order and in any number of goes, which is what lets a video of any length pass through in constant memory. `finish`
turns the merged statistics into the descriptor and has no parameters. `size` is the descriptor's, F, for a backbone of C channels.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pvlad_jax.config import ModelConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import find_backbone
from pvlad_jax.models.pooling.part_alignment import PartAlignment
from pvlad_jax.models.pooling.pretrained_head import PretrainedHead
from pvlad_jax.models.pooling.vlad_codebook import VladWords, vlad_descriptor

Statistics = dict[str, Array]  # leading axis: clips, or videos once merged


class Looks(NamedTuple):
    """What may be looked at, where there is any: masks [N,t,h,w,P], word assignments [N,t,h,w,P,K], part descriptors [N,t,h,w,P,D]."""

    part_masks: Array | None = None
    word_assignments: Array | None = None
    part_descriptors: Array | None = None


class PersonVlad(nn.Module):
    """3D part alignment and VLAD words a part. `parts = 0`: VLAD without parts (NetVLAD; on a 2D backbone ActionVLAD)."""

    parts: int
    words: int
    descriptor: int
    mask_kernel: int = 1
    shared_codebook: bool = False
    position_term: bool = False
    dtype: DTypeLike = jnp.float32
    merge: ClassVar[str] = 'add'

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        n, t, h, w, _ = x.shape
        masks, u = PartAlignment(self.parts, self.descriptor, self.mask_kernel, self.position_term, self.dtype,
                                 name='part_alignment')(x)
        weight = masks * valid[:, :, None, None, None]
        parts = masks.shape[-1]
        sums, assignment = VladWords(parts, self.words, self.descriptor, self.shared_codebook, name='vlad')(
            u.reshape(n, t * h * w, parts, self.descriptor), weight.reshape(n, t * h * w, parts))
        return {'residual': sums}, Looks(masks, assignment.reshape(n, t, h, w, parts, self.words), u)

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return vlad_descriptor(statistics['residual'])

    def size(self, channels: int) -> int:
        return max(self.parts, 1) * self.words * self.descriptor


class PartAttention(nn.Module):
    """Part alignment and the average of each part's attended descriptors (Zhao 2017, lifted to 3D)."""

    parts: int
    descriptor: int
    mask_kernel: int = 1
    position_term: bool = False
    dtype: DTypeLike = jnp.float32
    merge: ClassVar[str] = 'add'

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        masks, u = PartAlignment(self.parts, self.descriptor, self.mask_kernel, self.position_term, self.dtype,
                                 name='part_alignment')(x)
        weight = masks * valid[:, :, None, None, None]
        total = jnp.einsum('nthwp,nthwpd->npd', weight, u)
        return {'total': total, 'count': _places(x, valid)}, Looks(masks, None, u)

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return _mean(statistics).reshape(statistics['count'].shape[0], -1)

    def size(self, channels: int) -> int:
        return max(self.parts, 1) * self.descriptor


class Average(nn.Module):
    """The mean of all valid local features."""

    merge: ClassVar[str] = 'add'

    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        total = jnp.einsum('nthwc,nt->nc', x.astype(jnp.float32), valid.astype(jnp.float32))
        return {'total': total, 'count': _places(x, valid)}, Looks()

    def finish(self, statistics: Statistics) -> Float[Array, 'B C']:
        return _mean(statistics)

    def size(self, channels: int) -> int:
        return channels


class HeadAverage(nn.Module):
    """The mean over all valid frames of the feature that the pretrained image network's own head gives."""

    features: int  # F
    merge: ClassVar[str] = 'add'

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        frames = PretrainedHead(self.features, name='head')(x, valid)
        return {'total': frames.sum(1), 'count': jnp.sum(valid, axis=1).astype(jnp.float32)}, Looks()

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return _mean(statistics)

    def size(self, channels: int) -> int:
        return self.features


class Maximum(nn.Module):
    """The largest value of each channel over all valid places."""

    merge: ClassVar[str] = 'max'

    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        x = jnp.where(valid[:, :, None, None, None], x.astype(jnp.float32), -jnp.inf)
        return {'largest': jnp.max(x, axis=(1, 2, 3))}, Looks()

    def finish(self, statistics: Statistics) -> Float[Array, 'B C']:
        largest = statistics['largest']
        return jnp.where(jnp.isneginf(largest), 0.0, largest)  # a video without a valid frame

    def size(self, channels: int) -> int:
        return channels


class Stripes(nn.Module):
    """Means over P horizontal stripes (PCB, Sun 2018), each with its own linear layer to D; strong where people stand upright.

    Where P does not divide the height, stripes overlap by a row, as adaptive pooling does.
    """

    parts: int
    descriptor: int
    merge: ClassVar[str] = 'add'

    @nn.compact
    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Looks]:
        h = x.shape[2]
        if not 1 <= self.parts <= h:
            raise UserError(f'model.parts = {self.parts} stripes do not fit the {h} rows of the backbone\'s feature map. '
                            f'Set --config.model.parts to 1..{h}.')
        rows = jnp.arange(h)
        low, high = (jnp.arange(self.parts) * h) // self.parts, -((-(jnp.arange(self.parts) + 1) * h) // self.parts)
        member = ((rows >= low[:, None]) & (rows < high[:, None])).astype(jnp.float32)
        member /= member.sum(1, keepdims=True) * x.shape[3]
        means = jnp.einsum('nthwc,nt,ph->npc', x.astype(jnp.float32), valid.astype(jnp.float32), member)
        kernel = self.param('stripe_kernel', nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0),
                            (self.parts, x.shape[-1], self.descriptor))
        return {'total': jnp.einsum('npc,pcd->npd', means, kernel), 'count': jnp.sum(valid, axis=1).astype(jnp.float32)}, Looks()

    def finish(self, statistics: Statistics) -> Float[Array, 'B F']:
        return _mean(statistics).reshape(statistics['count'].shape[0], -1)

    def size(self, channels: int) -> int:
        return self.parts * self.descriptor


def _places(x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> Float[Array, 'N']:
    return jnp.sum(valid, axis=1).astype(jnp.float32) * (x.shape[2] * x.shape[3])


def _mean(statistics: Statistics) -> Float[Array, 'B ...']:
    total, count = statistics['total'], statistics['count']
    return total / jnp.maximum(count, 1).reshape(-1, *(1,) * (total.ndim - 1))


def merge_clips(statistics: Statistics, merge: str, clips: int) -> Statistics:
    """Statistics of B·S clips, S = `clips` to a video in order -> those of B videos."""
    reduce = jnp.sum if merge == 'add' else jnp.max
    return jax.tree.map(lambda s: reduce(s.reshape(-1, clips, *s.shape[1:]), axis=1), statistics)


def merge_slots(statistics: Statistics, merge: str, slot: Array, slots: int) -> Statistics:
    """Statistics of N clips -> those of `slots` videos; clip n belongs to video slot[n] (rising), one outside 0..slots-1 to none."""
    reduce = jax.ops.segment_sum if merge == 'add' else jax.ops.segment_max
    return jax.tree.map(lambda s: reduce(s, slot, num_segments=slots), statistics)


def merge_two(one: Statistics, other: Statistics, merge: str) -> Statistics:
    return jax.tree.map(jnp.add if merge == 'add' else jnp.maximum, one, other)


def nothing(statistics: dict[str, Array | jax.ShapeDtypeStruct], merge: str) -> Statistics:
    """The statistics of no clip, in the shape of those given."""
    return jax.tree.map(lambda s: jnp.full(s.shape, 0.0 if merge == 'add' else -jnp.inf, s.dtype), statistics)


def build_aggregator(config: ModelConfig) -> nn.Module:
    """By `config.pooling`."""
    dtype = jnp.dtype(config.dtype)
    match config.pooling:
        case 'person_vlad':
            return PersonVlad(config.parts, config.words, config.descriptor, config.mask_kernel, config.shared_codebook,
                              config.position_term and config.parts > 0, dtype)
        case 'part_attention':
            return PartAttention(config.parts, config.descriptor, config.mask_kernel, config.position_term and config.parts > 0, dtype)
        case 'average':
            return Average()
        case 'max':
            return Maximum()
        case 'stripes':
            return Stripes(config.parts, config.descriptor)
        case 'pretrained_head':
            name = config.backbone.name
            if not find_backbone(name).head_features:
                raise UserError(f"model.pooling = 'pretrained_head': the published {name} has no layer between its global average and its "
                                "classifier. Take 'average'.")
            return HeadAverage(find_backbone(name).head_features)
    raise UserError(f'Unknown pooling {config.pooling!r}: person_vlad, part_attention, average, max, stripes or pretrained_head.')
