"""Encoded image -> uint8 RGB of the network's size. Everything here releases the GIL, so threads decode in parallel."""

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from pvlad_jax.errors import UserError

cv2.setNumThreads(1)  # the input pipeline has its own threads; OpenCV's would fight them for the cores


class CorruptRecord(UserError):
    """A frame that cannot be decoded. The message names the tracklet and the frame."""


def decode(encoded: bytes, out: UInt8[np.ndarray, 'H W 3']) -> None:
    """JPEG or PNG -> RGB, resized (area average when it shrinks, bilinear when it grows). ValueError when it is neither, or broken."""
    height, width = out.shape[:2]
    if encoded[:2] == b'\xff\xd8':
        if simplejpeg.decode_jpeg_header(encoded)[:2] == (height, width):
            simplejpeg.decode_jpeg(encoded, 'RGB', buffer=out)
            return
        image = simplejpeg.decode_jpeg(encoded, 'RGB')
    else:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError('neither JPEG nor PNG, or broken')
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.shape[:2] == (height, width):
        out[...] = image
        return
    shrinks = image.shape[0] > height
    out[...] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def decode_clips(encoded, index, height: int, width: int, name: str,
                 out: UInt8[np.ndarray, '*clips H W 3'] | None = None) -> UInt8[np.ndarray, '*clips H W 3']:
    """The frames that `index` (any shape, -1 = none) names out of a sequence of encoded images; a frame named twice is decoded once.

    They go into `out`, an array of zeros, where there is one. Raises CorruptRecord with the tracklet's name and the frame.
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
        except (ValueError, cv2.error, IndexError) as error:
            raise CorruptRecord(f'Tracklet {name!r}, frame {i} (counted from 0) cannot be decoded: {error}. Convert the data set '
                                'again from intact frames, or set --config.input.on_error=skip.') from error
        places[int(i)] = place
    return whole
