"""A single video of any length -> its embedding."""

import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.clip_sampling import consecutive_clips
from pvlad_jax.embedding.streaming import embed_batch, initial_carry
from pvlad_jax.images.frame_arrays import checked_frames
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.ops import vector_options


@functools.cache
def _jitted_step(platform: str) -> Callable:
    options = vector_options(platform)
    return jax.jit(embed_batch, static_argnums=(0,), static_argnames=('flip',), compiler_options=options)


def embed_video(
    network: TrackletNetwork,
    variables: dict,
    frames: Iterable,
    clip_frames: int,
    clips_per_step: int = 8,
    flip: bool = False,
) -> Float[np.ndarray, 'E']:
    """The unit embedding of one video, read frame by frame: device memory and compiled program are the same for any
    length.

    Args:
      frames: uint8 RGB arrays [H, W, 3] of one size (`frame_arrays.checked_frames`). It need not be that of the
        network's training, except where the network has a position term, which is learned for one size.
      clip_frames: T, as in training.
      clips_per_step: clips that are computed at a time.
      flip: averages the embedding with the mirror image's.

    Raises:
      UserError: a video without frames, frames of another type or shape, of several sizes, or of a size that does not
        fit the network's position term.
    """
    for name, value in (('clip_frames', clip_frames), ('clips_per_step', clips_per_step)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise UserError(f'{name} is {value!r}; it must be a whole number from 1.')
    carry, embedding, pending = None, None, []
    per_step = clip_frames * clips_per_step

    def take(some: list, unfinished: bool):
        index = consecutive_clips(np.arange(len(some)), clip_frames)
        index = np.concatenate([index, np.full((clips_per_step - len(index), clip_frames), -1)])
        clips = np.where((index >= 0)[..., None, None, None], np.stack(some)[index], 0).astype(np.uint8)
        segment = np.where((index >= 0).any(1), 0, clips_per_step).astype(np.int32)
        start = carry
        if start is None:
            _check_size(network, variables, clips, index >= 0)
            start = initial_carry(network, variables, clips, index >= 0, flip)
        return _jitted_step(jax.default_backend())(
            network, variables, start, clips, index >= 0, segment, np.int32(0), np.bool_(unfinished), flip=flip
        )

    for frame in checked_frames(frames):
        if len(pending) == per_step:
            embedding, carry = take(pending, True)
            pending = []
        pending.append(frame)
    if not pending:
        raise UserError('A video without frames has no embedding.')
    embedding, _ = take(pending, False)
    return np.asarray(embedding[0])


def _check_size(
    network: TrackletNetwork, variables: dict, clips: UInt8[np.ndarray, 'N T H W 3'], valid: Bool[np.ndarray, 'N T']
) -> None:
    """UserError where frames are of another size than that for which the network's position term was learned."""
    position = variables['params'].get('aggregator', {}).get('part_alignment', {}).get('position_term')
    if position is None:
        return
    pixels = jax.ShapeDtypeStruct(clips.shape, network.dtype)
    apply = functools.partial(network.apply, method=lambda module, x, valid: module.backbone(x, valid, False))
    cells, learned = jax.eval_shape(apply, variables, pixels, valid)[0].shape[2:4], position.shape[1:]
    if cells != learned:
        raise UserError(
            f'Frames of {clips.shape[2]} x {clips.shape[3]} pixels (height x width) give a feature map of '
            f'{cells[0]} x {cells[1]} cells, but the position term of this network was learned for {learned[0]} x '
            f'{learned[1]}. Resize all frames to the size that the network was trained on.'
        )
