"""Encoded frame -> uint8 RGB of the network's size.

JPEG and PNG are decoded without the GIL, so threads work in parallel.
"""

import concurrent.futures

import cv2
import numpy as np
from jaxtyping import UInt8

from pvlad_jax.core.errors import UserError
from pvlad_jax.images import ImageError, decode_image


def decoding_threads(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    """A pool of threads that decode. OpenCV, whose own threads would compete with them for the cores, is left one."""
    cv2.setNumThreads(1)
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix='tracklets')


class CorruptRecord(UserError):
    """A record or a frame that cannot be read. The message names the tracklet and the frame, and says what to do.

    Attributes:
      fault: what is wrong alone, a clause.
    """

    def __init__(self, fault: str):
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return f'{self.fault}. Build the data set again from intact frames, or set --config.input.on_error=skip.'


def decode(encoded: bytes, out: UInt8[np.ndarray, 'H W 3']) -> None:
    """RGB by the rules of pvlad_jax.images, `resized`.

    Raises ImageError.
    """
    height, width = out.shape[:2]
    image = decode_image(encoded, out=out)
    if image is not out:
        out[...] = resized(image, height, width)


def resized(image: UInt8[np.ndarray, 'h w 3'], height: int, width: int) -> UInt8[np.ndarray, 'H W 3']:
    """The image in the network's size: area averages along an axis that shrinks, then bilinear along one that grows."""
    smaller = min(image.shape[0], height), min(image.shape[1], width)
    # OpenCV's INTER_AREA averages only where neither axis grows; otherwise it leaves pixels out.
    if image.shape[:2] != smaller:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def decode_clips(
    encoded, index, height: int, width: int, name: str, out: UInt8[np.ndarray, '*clips H W 3'] | None = None
) -> UInt8[np.ndarray, '*clips H W 3']:
    """The frames that `index` (any shape, -1 = none) names out of a sequence of encoded images; a frame named twice is
    decoded once.

    They go into `out`, an array of zeros, where there is one. Raises CorruptRecord with the tracklet's name and the
    frame.
    """
    index = np.asarray(index)
    whole = np.zeros((*index.shape, height, width, 3), np.uint8) if out is None else out
    clips = whole.reshape(index.size, height, width, 3)
    places: dict[int, int] = {}
    for place, i in enumerate(index.ravel()):
        if i < 0:
            continue
        if int(i) in places:
            clips[place] = clips[places[int(i)]]
            continue
        try:
            decode(encoded[i], clips[place])
        except (ImageError, IndexError) as error:
            fault = f'it {error}' if isinstance(error, ImageError) else 'its record has fewer frames'
            raise CorruptRecord(f'Tracklet {name!r}, frame {i} (counted from 0) cannot be decoded: {fault}') from error
        places[int(i)] = place
    return whole
