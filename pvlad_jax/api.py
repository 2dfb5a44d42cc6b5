"""A trained network as a library: frames in, embeddings out.

model = pvlad_jax.load('runs/mars')
a, b = model.embed(frames_a), model.embed(frames_b)      # uint8 RGB [T, H, W, 3] of any size and length
model.distance(a, b)                                     # 0: the same direction; 2: the opposite one
"""

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.paths import user_path
from pvlad_jax.embedding.interleaved import Embedded, InterleavedEmbedder, TrackletEnd, TrackletFrame
from pvlad_jax.evaluation.embeddings import check_finite
from pvlad_jax.export.artifact import is_export
from pvlad_jax.images.frame_arrays import checked_frames
from pvlad_jax.runs.exported_model import load_exported
from pvlad_jax.runs.trained_model import TrainedModel, load_trained

_CLIPS_PER_STEP = {'cpu': 4}  # a single short tracklet costs a whole step; accelerators need many clips to be busy
_CLIPS_PER_STEP_ELSEWHERE = 32


def load(
    workdir: str | PathLike,
    checkpoint: str | int | None = None,
    clips_per_step: int | None = None,
    flip: bool | None = None,
) -> 'Embedder':
    """The network of a working directory or of an export. Needs neither its data set nor its configuration file.

    Args:
      workdir: of a training, or of an evaluation of imported weights (configs/zero_shot.py); or the folder that
        main.py --mode=export has written (docs/export.md).
      checkpoint: 'last', 'best' by the validation people, or the number of a step that is kept, such as 900; None = as
        the run's evaluation chooses it. An export holds one alone.
      clips_per_step: clips that are computed at a time; None = 4 on a CPU, 32 elsewhere.
      flip: whether embeddings are averaged with those of the mirror image; None = as the run's evaluation does.

    Raises:
      UserError: no working directory and no export, or one that is damaged.
    """
    if clips_per_step is not None and (not isinstance(clips_per_step, int | np.integer) or clips_per_step < 1):
        raise UserError(f'clips_per_step = {clips_per_step!r} is not a whole number from 1.')
    if flip is not None and not isinstance(flip, bool | np.bool_):
        raise UserError(f'flip = {flip!r} is neither True nor False.')
    if not is_export(workdir):
        model = load_trained(workdir, checkpoint if checkpoint is None else str(checkpoint))
    elif checkpoint is None:
        model = load_exported(user_path(str(workdir)))
    else:
        raise UserError(f'{workdir} is an export, which holds one checkpoint: it cannot be asked for {checkpoint!r}.')
    return Embedder(model, clips_per_step, model.config.evaluation.flip if flip is None else bool(flip))


class Embedder:
    """Tracklets -> unit vectors. The first call compiles; later ones do not, whatever their length and size.

    Attributes:
      size: E, numbers of an embedding.
      clip: (T, H, W): frames of a clip, and the pixels that frames are resized to.
      fingerprint: tells embeddings that can be compared; hexadecimal.
    """

    def __init__(self, model: TrainedModel, clips_per_step: int | None, flip: bool):
        self.model, self.clip, self.size = model, model.clip, model.network.embedding
        self.fingerprint = model.fingerprint(flip)
        per_step = clips_per_step or _CLIPS_PER_STEP.get(jax.default_backend(), _CLIPS_PER_STEP_ELSEWHERE)
        self.interleaved = InterleavedEmbedder(model.network, model.variables, model.clip, per_step, flip)

    def __repr__(self) -> str:
        t, height, width = self.clip
        clip = f'{t} frames of {height} x {width} pixels'
        return f'<Embedder of {self.model.checkpoint}: {self.size} numbers, clips of {clip}>'

    def embed(self, frames: Any) -> Float32[np.ndarray, 'E']:
        """The unit embedding of one tracklet, of all its frames.

        Args:
          frames: uint8 RGB [T, H, W, 3], or an iterable of frames [H, W, 3], whose sizes may differ; read frame by
          frame.

        Raises:
          UserError: no frames, or frames of another type or shape.
        """
        return self.embed_many([frames])[0]

    def embed_many(self, tracklets: Iterable[Any]) -> Float32[np.ndarray, 'N E']:
        """Unit embeddings of tracklets, in their order. Clips of several tracklets are computed together, so that this
        is faster than one call each. Tracklets are read one after the other, frame by frame.
        """
        found = {done.key: done.embedding for done in self.interleaved(_events(tracklets))}
        return np.stack([found[i] for i in range(len(found))]) if found else np.zeros((0, self.size), np.float32)

    def stream(self, events: Iterable[TrackletFrame | TrackletEnd]) -> Iterator[Embedded]:
        """Embeddings of tracklets whose frames come in any order, each soon after its end."""
        return self.interleaved(events)

    def distance(self, a: Any, b: Any) -> Float[np.ndarray, '...'] | float:
        """Cosine distance, 0 (same) to 2, of embeddings of this model: [E] and [E] -> a number, [N, E] and [M, E] ->
        [N, M].

        Lengths do not matter. UserError where they do not have this model's size, are all zeros, or hold NaN, Inf or a
        number beyond the range of float32.
        """
        names = 'The first embedding of a distance', 'The second embedding of a distance'
        a, b = (_float32(x, name) for x, name in zip((a, b), names))
        for x, name in zip((a, b), names):
            if x.ndim not in (1, 2) or x.shape[-1] != self.size:
                raise UserError(
                    f'An embedding of this model has {self.size} numbers; got an array of shape {x.shape}. '
                    'Embeddings of different models cannot be compared.'
                )
            check_finite(np.atleast_2d(x), name)
            silent = ~np.atleast_2d(x).any(axis=1)
            if silent.any():
                raise UserError(
                    f'{name} is all zeros, first in row {int(silent.argmax())}: it has no direction, so no cosine '
                    'distance.'
                )
        result = np.clip(1 - _unit(a) @ _unit(b).T, 0, 2)  # rounding leaves the range
        return float(result) if result.ndim == 0 else result


def _float32(x: Any, name: str) -> Float32[np.ndarray, '...']:
    """UserError, which begins with `name`, for what are no numbers. Those beyond the range become Inf."""
    try:
        with np.errstate(over='ignore'):
            return np.asarray(x, np.float32)
    except Exception as error:  # text, lists of different lengths, tensors on a device
        raise UserError(f'{name} is not an array of numbers: {first_line(error)}') from error


def _unit(x: Float32[np.ndarray, '...']) -> Float32[np.ndarray, '...']:
    x = x / np.abs(x).max(axis=-1, keepdims=True).astype(np.float64)  # no square leaves float64's range
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _events(tracklets: Iterable[Any]) -> Iterator[TrackletFrame | TrackletEnd]:
    for number, frames in enumerate(tracklets):
        empty = True
        for frame in checked_frames(frames, f'Tracklet {number}, frame', one_size=False):
            yield TrackletFrame(number, frame)
            empty = False
        if empty:
            raise UserError(f'Tracklet {number} (counted from 0) has no frames, so it has no embedding.')
        yield TrackletEnd(number)
