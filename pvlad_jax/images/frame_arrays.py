"""Frames that a caller hands in as arrays: one rule for their type, range and shape, wherever they enter the library.

A frame is uint8 RGB [H, W, 3]. Nothing is converted silently: a float in 0..1 cast to uint8 would be a black frame, and
channels in another place or order another picture. The message says what was found and how to convert it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.core.errors import UserError

_NEEDED = 'Frames are uint8 RGB arrays [height, width, 3].'


def checked_frames(frames: Any, what: str = 'frame', one_size: bool = True) -> Iterator[UInt8[np.ndarray, 'H W 3']]:
    """The frames one by one, as they are read, each checked, with `one_size` all of one size.

    Args:
      frames: an array [T, H, W, 3], or any iterable of frames: NumPy, JAX or (on the CPU) PyTorch arrays, or RGB
        pictures of Pillow.
      what: names a frame in messages, such as "tracklet 'a', frame".

    Raises:
      UserError: when it comes to a frame that is wrong, or (with `one_size`) that has another size than the first.
    """
    if isinstance(frames, str | bytes) or not (isinstance(frames, Iterable) or hasattr(frames, '__getitem__')):
        raise UserError(
            f'A video is an iterable of frames, not {type(frames).__name__} {str(frames)[:80]!r}. Decode it first. '
            f'{_NEEDED}'
        )
    if getattr(frames, 'shape', None) == ():
        raise UserError(f'A video is an iterable of frames, not a single number. {_NEEDED}')
    size = None
    for number, frame in enumerate(frames):
        frame = checked_frame(frame, f'{what} {number} (counted from 0)')
        if one_size and size not in (None, frame.shape):
            raise UserError(
                f'{what} {number} (counted from 0) is {frame.shape[0]} x {frame.shape[1]} (height x width), the first '
                f'is {size[0]} x {size[1]}. Resize all frames of a video to the size that the network was trained on.'
            )
        size = frame.shape
        yield frame


def checked_frame(frame: Any, what: str = 'a frame') -> UInt8[np.ndarray, 'H W 3']:
    """The frame as a NumPy array, contiguous, the caller's own where it is that already.

    UserError, which names it by `what`.
    """
    if (mode := getattr(frame, 'mode', 'RGB')) != 'RGB' and hasattr(frame, 'convert'):  # of Pillow: an array says less
        raise UserError(f"{what} is a picture of mode {mode}, not RGB. {_NEEDED} picture.convert('RGB') makes one.")
    try:
        array = np.asarray(frame)
    except Exception as error:  # nested lists of different lengths; tensors on a device or with a gradient
        raise UserError(
            f'{what} cannot be read as an array: {" ".join(str(error).split())} {_NEEDED} A PyTorch tensor: '
            'frames.detach().cpu().numpy().'
        ) from error
    if array.dtype != np.uint8:
        raise UserError(f'{what} is of type {array.dtype}, not uint8. {_NEEDED} {_conversion(array)}')
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UserError(f'{what} has the shape {array.shape}. {_NEEDED} {_rearrangement(array.shape)}'.rstrip())
    return np.ascontiguousarray(array)


def _conversion(array: np.ndarray) -> str:
    """How numbers of another type become uint8."""
    if array.dtype.kind == 'O':
        return 'Arrays of objects hold frames of different sizes or no numbers at all; make one array of each frame.'
    if array.dtype.kind == 'b':
        return 'A mask is no picture.'
    if array.dtype.kind not in 'fiu' or not array.size:
        return 'Only whole numbers from 0 to 255 can be converted to it.'
    low, high = array.min(), array.max()
    span = f'Its values run from {low:g} to {high:g}'
    if array.dtype.kind == 'f':
        if not (np.isfinite(low) and np.isfinite(high)):
            return 'It holds NaN or Inf.'
        if low < 0:
            return (
                f'{span}: undo the normalisation by mean and deviation, then (frames * 255).round().astype(np.uint8).'
            )
        if high <= 1:
            return f'{span}; if white is 1: (frames * 255).round().astype(np.uint8).'
    if 0 <= low and high <= 255:
        rounded = '.round()' if array.dtype.kind == 'f' else ''
        return f'{span}; if white is 255: frames{rounded}.astype(np.uint8).'
    if 0 <= low and high <= 65535:
        return f'{span}; if white is 65535: (frames / 257).round().astype(np.uint8).'
    return f'{span}; scale them to 0..255 and round.'


def _rearrangement(shape: tuple[int, ...]) -> str:
    """What an array of another shape may be."""
    if len(shape) == 2 and shape[1] == 3:
        return 'Is the video a single image? Give [image]. A single video where several are asked for? Give [video].'
    if len(shape) == 2:
        return 'A grey picture: np.repeat(frame[..., None], 3, axis=2).'
    if len(shape) == 4:
        return 'A frame cannot have a time axis: give one video at a time, [T, H, W, 3].'
    if len(shape) != 3 or 0 in shape:
        return ''
    if shape[0] == 3:
        return 'With channels first: frame.transpose(1, 2, 0).'
    if shape[2] == 4:
        return 'With alpha: frame[..., :3], where nothing is transparent.'
    if shape[2] == 1:
        return 'A grey picture: np.repeat(frame, 3, axis=2).'
    if shape[0] in (1, 4):
        return 'Channels come last, and there are three of them: frame.transpose(1, 2, 0), then RGB.'
    return 'Three channels, red, green, blue, come last; the frames of a video are its first axis.'
