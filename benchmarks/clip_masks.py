"""Part masks of a trained network over tracklets whose limbs are known, frame by frame."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_prep.synthetic_walkers.limbs import label_counts
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.runs.trained_model import TrainedModel

_CLIPS_A_STEP = 16


class LabelledTracklet(NamedTuple):
    """A tracklet of F frames.

    Attributes:
      encoded: its frames.
      labels: the limb (`Limb`) in each pixel; of any size that divides into the cells of the feature map.
      known: whether a frame's labels are; others are left out of every comparison with limbs.
    """

    name: str
    encoded: Sequence[bytes]
    labels: UInt8[np.ndarray, 'F H W']
    known: Bool[np.ndarray, 'F']


class Place(NamedTuple):
    """Masks of the same frames at two places of a clip or of two frames at the same place, mean |difference| a part."""

    ends: Float[np.ndarray, 'P']  # first and last of a clip against its middle; of t = 2 the first against the last
    still: Float[np.ndarray, 'P']  # the same in a clip of one frame repeated: what padding alone does
    motion: Float[np.ndarray, 'P']  # a frame against the next that has features of its own, both at the clip's start


class LimbMasks(NamedTuple):
    """N frames: those for which the feature map has a time, of all clips as at test, and whose limbs are known.

    Attributes:
      masks, shares: part masks, and the part of each cell of the feature map that carries each limb's label.
      tracklet: number of each frame's tracklet, in the order given.
      place: None where no tracklet is long enough, or a feature map has one time only.
    """

    masks: Float[np.ndarray, 'N h w P']
    shares: Float[np.ndarray, 'N h w L']
    tracklet: Int[np.ndarray, 'N']
    place: Place | None


def limb_shares(labels: UInt8[np.ndarray, 'F H W'], h: int, w: int) -> Float[np.ndarray, 'F h w L']:
    """The part of each cell of a grid that carries each limb."""
    return label_counts(labels, h, w) * (h * w / (labels.shape[1] * labels.shape[2]))


def limb_masks(model: TrainedModel, tracklets: Iterable[LabelledTracklet], frames: int = 0) -> LimbMasks:
    """Runs the network over the tracklets. frames: of a clip; 0 = those of the configuration.

    UserError where the pooling has no part masks.
    """
    length, height, width = model.clip
    read = ClipReader(model, frames or length, height, width)
    masks, shares, numbers, ends, still, motion = [], [], [], [], [], []
    for number, (name, encoded, labels, known) in enumerate(tracklets):
        seen = read(encoded, name)
        grid = seen.masks.shape[2:4]
        at, found = seen.as_at_test()
        kept = known[at]
        masks.append(found[kept])
        shares.append(limb_shares(labels[at[kept]], *grid))
        numbers.append(np.full(kept.sum(), number))
        ends += seen.at_ends()
        still += read([encoded[len(encoded) // 2]] * read.length, name).in_one_clip()
        motion += seen.by_motion()
    place = Place(*(np.mean(values, 0) for values in (ends, still, motion))) if ends and motion else None
    return LimbMasks(np.concatenate(masks), np.concatenate(shares), np.concatenate(numbers), place)


class ClipMasks(NamedTuple):
    """Masks of one tracklet's clips, which overlap: clip i begins with frame start[i], and its time o stands for frame
    start[i] + stride·o."""

    masks: Float[np.ndarray, 'S t h w P']
    valid: Bool[np.ndarray, 'S t']
    start: Int[np.ndarray, 'S']
    whole: Bool[np.ndarray, 'S']  # no frame of the clip is padding
    stride: int
    length: int  # frames of a clip

    def as_at_test(self) -> tuple[Int[np.ndarray, 'n'], Float[np.ndarray, 'n h w P']]:
        """Frames and their masks in clips side by side."""
        chosen = self.valid & (self.start % self.length == 0)[:, None]
        frame = self.start[:, None] + self.stride * np.arange(self.valid.shape[1])
        return frame[chosen], self.masks[chosen]

    def at_ends(self) -> Iterator[Float[np.ndarray, 'P']]:
        """Mean |difference| of the masks of one frame at the first or last time of a clip and at the middle one."""
        clip = {int(s): i for i, s in enumerate(self.start) if self.whole[i]}
        for end, middle in self._places():
            for start, i in clip.items():
                other = clip.get(start + self.stride * (end - middle))
                if other is not None:
                    yield np.abs(self.masks[i, end] - self.masks[other, middle]).mean((0, 1))

    def in_one_clip(self) -> Iterator[Float[np.ndarray, 'P']]:
        """The same between the times of the first clip, whatever its frames."""
        for end, middle in self._places():
            yield np.abs(self.masks[0, end] - self.masks[0, middle]).mean((0, 1))

    def _places(self) -> list[tuple[int, int]]:
        """(first or last time of a clip, what it is compared with)."""
        times = self.valid.shape[1]
        middle = times // 2 if times > 2 else times - 1
        return [(end, middle) for end in sorted({0, times - 1} - {middle})]

    def by_motion(self) -> Iterator[Float[np.ndarray, 'P']]:
        """Mean |difference| of the masks of frames `stride` apart, both at the first time of a clip."""
        clip = {int(s): i for i, s in enumerate(self.start) if self.whole[i]}
        for start, i in clip.items():
            if start + self.stride in clip:
                yield np.abs(self.masks[i, 0] - self.masks[clip[start + self.stride], 0]).mean((0, 1))


@functools.partial(jax.jit, static_argnums=0)  # networks alike, of several seeds, are compiled once
def _masks(network: TrackletNetwork, variables: dict, clips, valid):
    _, intermediates, times = clip_statistics(network, variables, clips, valid)
    return intermediates.part_masks, times


class ClipReader:
    """Runs the network over a tracklet's clips."""

    def __init__(self, model: TrainedModel, length: int, height: int, width: int):
        self.size, self.length, self.variables = (height, width), length, model.variables
        self.network = model.network
        blank = (_CLIPS_A_STEP, length)
        clips, valid = np.zeros((*blank, height, width, 3), np.uint8), np.ones(blank, bool)
        shape, _ = jax.eval_shape(functools.partial(_masks, self.network), self.variables, clips, valid)
        if shape is None:
            about = model.config.model
            raise UserError(f'model.pooling = {about.pooling!r} with model.parts = {about.parts} has no part masks.')
        self.stride = self.network.stride_t

    def __call__(self, encoded, name: str) -> ClipMasks:
        count, length = len(encoded), self.length
        start = np.array(sorted({*range(0, count, length), *range(0, count, self.stride)}))
        index = start[:, None] + np.arange(length)
        index[index >= count] = -1
        frames: UInt8[np.ndarray, 'F H W 3'] = decode_clips(encoded, np.arange(count), *self.size, name)
        clips = np.where((index >= 0)[..., None, None, None], frames[index], 0)
        found = []
        for at in range(0, len(start), _CLIPS_A_STEP):
            step, valid = clips[at : at + _CLIPS_A_STEP], (index >= 0)[at : at + _CLIPS_A_STEP]
            more = _CLIPS_A_STEP - len(step)
            padded = [np.concatenate([x, np.zeros((more, *x.shape[1:]), x.dtype)]) for x in (step, valid)]
            found.append([np.asarray(x)[: len(step)] for x in _masks(self.network, self.variables, *padded)])
        masks, valid = (np.concatenate(x) for x in zip(*found))
        return ClipMasks(masks, valid, start, (index >= 0).all(1), self.stride, length)
