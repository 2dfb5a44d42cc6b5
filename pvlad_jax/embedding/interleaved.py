"""Many tracklets whose frames come in any order, as those of people in a video do -> one embedding of each.

Clips of different tracklets share a step, so that steps are full; what a step gives is statistics of each clip, which
add up (or have a maximum) over a tracklet, wherever its clips were computed. Nothing grows with a tracklet's length:
it has the frames of its unfinished clip and its statistics so far.
"""

import dataclasses
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, UInt8

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import resized
from pvlad_jax.models.pooling.interface import Statistics
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.ops.l2_normalise import l2_normalise


class TrackletFrame(NamedTuple):
    """The next frame of a tracklet, RGB of any size."""

    key: Hashable
    image: UInt8[np.ndarray, 'h w 3']


class TrackletEnd(NamedTuple):
    """No more frames of this tracklet come. Its key may be used again for another. With `drop` no embedding of it is
    wanted."""

    key: Hashable
    drop: bool = False


class Embedded(NamedTuple):
    """A tracklet's unit embedding, and how many frames it was made of."""

    key: Hashable
    embedding: Float32[np.ndarray, 'E']
    frames: int


@partial(jax.jit, static_argnames=('network', 'flip'))
def _step(
    network: TrackletNetwork, variables: dict, clips: UInt8[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], flip: bool
) -> Statistics:
    """Statistics [V, N, ...] of each clip, V = 2 with those of the mirror image."""
    views = [clips, clips[:, :, :, ::-1]] if flip else [clips]
    return jax.tree.map(
        lambda *s: jax.numpy.stack(s), *[clip_statistics(network, variables, view, valid)[0] for view in views]
    )


@partial(jax.jit, static_argnames=('network',))
def _finish(network: TrackletNetwork, variables: dict, statistics: Statistics) -> Float[Array, 'N E']:
    """Unit embeddings of N tracklets from their merged statistics [V, N, ...]."""
    views = next(iter(jax.tree.leaves(statistics))).shape[0]
    embeddings = [
        network.apply(variables, jax.tree.map(itemgetter(view), statistics), method='embed')[1] for view in range(views)
    ]
    return embeddings[0] if views == 1 else l2_normalise(embeddings[0] + embeddings[1])


@dataclasses.dataclass
class _Tracklet:
    """One whose end has not been embedded yet."""

    frames: list = dataclasses.field(default_factory=list)  # of the clip that is being filled
    count: int = 0
    waiting: int = 0  # clips whose statistics are not there yet
    ended: bool = False
    statistics: Statistics | None = None  # [V, ...]


class InterleavedEmbedder:
    """Two compiled programs, of fixed shapes: clips to statistics, statistics to embeddings.

    Args:
      variables: the network's parameters and BatchNorm statistics; they are put on the device.
      clip: (T, H, W); frames are resized to H x W pixels.
      clips_per_step: N; a lone tracklet costs a whole step.
      flip: averages embeddings with those of the mirror image.
      device: where it computes; the default device otherwise.
    """

    def __init__(
        self,
        network: TrackletNetwork,
        variables: dict,
        clip: tuple[int, int, int],
        clips_per_step: int,
        flip: bool = False,
        device: jax.Device | None = None,
    ):
        if clips_per_step < 1:
            raise UserError(f'clips_per_step is {clips_per_step}; it must be a whole number from 1.')
        self.network, self.clip, self.clips_per_step, self.flip = network, clip, clips_per_step, flip
        self._variables = jax.device_put(variables, device or jax.local_devices()[0])
        self._merge = np.add if network.aggregator.merge == 'add' else np.maximum

    def statistics(self, clips: UInt8[np.ndarray, 'N T H W 3'], valid: Bool[np.ndarray, 'N T']) -> Statistics:
        """Statistics [V, N, ...] of the clips of one step, on the device; V = 2 with those of the mirror image."""
        return _step(self.network, self._variables, clips, valid, self.flip)

    def __call__(self, events: Iterable[TrackletFrame | TrackletEnd]) -> Iterator[Embedded]:
        """Embeddings of tracklets, soon after their ends; those without frames give nothing.

        `events` is read no further than the steps in progress need. Tracklets that have not ended when it does are not
        embedded.
        """
        open_: dict[Hashable, _Tracklet] = {}
        ready: deque = deque()  # (key, tracklet, frames of a clip)
        finished: deque = deque()  # (key, tracklet)
        in_flight = None

        def launch(clips: list):
            nonlocal in_flight
            arrays = self._assembled([frames for *_, frames in clips])
            statistics = self.statistics(*arrays)
            before, in_flight = in_flight, (statistics, [(key, tracklet) for key, tracklet, _ in clips])
            if before is not None:  # fetched while the new one computes
                collect(*before)

        def collect(statistics: Statistics, owners: list) -> None:
            fetched = jax.tree.map(np.asarray, statistics)
            for i, (key, tracklet) in enumerate(owners):
                mine = jax.tree.map(lambda s: s[:, i], fetched)  # noqa: B023  used at once
                tracklet.statistics = (
                    jax.tree.map(np.copy, mine)
                    if tracklet.statistics is None
                    else jax.tree.map(self._merge, tracklet.statistics, mine)
                )
                tracklet.waiting -= 1
                if tracklet.ended and not tracklet.waiting:
                    finished.append((key, tracklet))

        def close_clip(key: Hashable, tracklet: _Tracklet) -> None:
            ready.append((key, tracklet, tracklet.frames))
            tracklet.frames = []
            tracklet.waiting += 1

        for event in events:
            if isinstance(event, TrackletFrame):
                tracklet = open_.setdefault(event.key, _Tracklet())
                tracklet.frames.append(self._compact(event.image))
                tracklet.count += 1
                if len(tracklet.frames) == self.clip[0]:
                    close_clip(event.key, tracklet)
            elif (tracklet := open_.pop(event.key, None)) is not None and not event.drop:
                tracklet.ended = True
                if tracklet.frames:
                    close_clip(event.key, tracklet)
                elif not tracklet.waiting:
                    finished.append((event.key, tracklet))
            if len(ready) >= self.clips_per_step:
                launch([ready.popleft() for _ in range(self.clips_per_step)])
            while len(finished) >= self.clips_per_step:
                yield from self._finished([finished.popleft() for _ in range(self.clips_per_step)])
        # Of tracklets without an end nothing is wanted; clips of others are computed to the last.
        rest = [clip for clip in ready if clip[1].ended]
        for start in range(0, len(rest), self.clips_per_step):
            launch(rest[start : start + self.clips_per_step])
        if in_flight is not None:
            collect(*in_flight)
        while finished:
            yield from self._finished([finished.popleft() for _ in range(min(len(finished), self.clips_per_step))])

    def _compact(self, image: UInt8[np.ndarray, 'h w 3']) -> UInt8[np.ndarray, 'H W 3']:
        """Resized now where that is smaller: a crop may wait for a clip's other frames, thousands at a time."""
        _, height, width = self.clip
        return resized(image, height, width) if image.shape[0] * image.shape[1] > height * width else image

    def _assembled(self, clips: list[list]) -> tuple[UInt8[np.ndarray, 'N T H W 3'], Bool[np.ndarray, 'N T']]:
        n, (t, height, width) = self.clips_per_step, self.clip
        pixels, valid = np.zeros((n, t, height, width, 3), np.uint8), np.zeros((n, t), bool)
        for i, frames in enumerate(clips):
            valid[i, : len(frames)] = True
            for j, frame in enumerate(frames):
                pixels[i, j] = resized(frame, height, width)
        return pixels, valid

    def _finished(self, tracklets: list[tuple[Hashable, _Tracklet]]) -> Iterator[Embedded]:
        padding = self.clips_per_step - len(tracklets)
        statistics = jax.tree.map(
            lambda *s: np.stack([*s, *[s[0]] * padding], axis=1), *[t.statistics for _, t in tracklets]
        )
        embeddings = np.asarray(_finish(self.network, self._variables, statistics))
        for (key, tracklet), embedding in zip(tracklets, embeddings):
            yield Embedded(key, embedding.copy(), tracklet.count)
