"""What a data set keeps of a frame: JPEG and PNG as they are, any other format as PNG with the same pixels."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from pvlad_jax.images import ImageError, decode_image, read_header

_NAMES = {'jpeg': 'JPEG', 'png': 'PNG', 'bmp': 'BMP', 'webp': 'WebP', 'tiff': 'TIFF'}


class StoredFrame(NamedTuple):
    data: bytes
    encoding: str  # 'jpeg' or 'png'
    change: str  # what was done to the frame; '' = nothing


@dataclass
class FrameCounts:
    """Number of frames by what they are stored as, and by what was changed."""

    encodings: Counter = field(default_factory=Counter)
    changes: Counter = field(default_factory=Counter)

    def add(self, other: 'FrameCounts') -> None:
        self.encodings += other.encodings
        self.changes += other.changes

    @property
    def encoding(self) -> str | None:
        """'jpeg', 'png' or 'mixed'; None where nothing was counted."""
        used = sorted(self.encodings)
        return None if not used else used[0] if len(used) == 1 else 'mixed'

    def notes(self) -> list[str]:
        """One sentence a kind of change."""
        return [f'{n:,} {"frame" if n == 1 else "frames"}: {change}.' for change, n in sorted(self.changes.items())]


def stored_frame(
    data: bytes, *, size: tuple[int, int] | None = None, bit_depth: int = 0, jpeg_quality: int = 0, decode: bool = True
) -> StoredFrame:
    """The bytes to store of a frame.

    JPEG and PNG stay as they are, without what was appended to them. PNG of 16 bits a sample and all other formats
    become PNG of 8 bits, grey where they are grey.

    Args:
      size: Width and height that the picture as shown must have; None = any.
      bit_depth: Bits in use of pictures of 16 bits a sample; 0 = unknown, such pictures are refused.
      jpeg_quality: 1-100: frames that are not JPEG become JPEG of this quality; 0 = lossless.
      decode: Decode also what is stored as it is, so that damage inside is found.
    Raises ImageError with the end of a sentence that begins with the frame's name.
    """
    header = read_header(data)
    if size not in (None, (header.width, header.height)):
        raise ImageError(f'is {header.width}x{header.height} pixels, while the data set has {size[0]}x{size[1]}')
    deep = header.bits == 16
    kept = header.format == 'jpeg' or (header.format == 'png' and not deep and not jpeg_quality)
    if kept:
        whole = data[: header.end]
        if decode:
            decode_image(whole)
        name = _NAMES[header.format]
        return StoredFrame(
            whole, header.format, '' if len(whole) == len(data) else f'bytes behind the end of the {name} removed'
        )
    picture = decode_image(data, bit_depth)
    name = f'{_NAMES[header.format]} of 16 bits ({bit_depth} in use)' if deep else _NAMES[header.format]
    if jpeg_quality:
        # No chroma subsampling: crops of 64 pixels have little colour to lose.
        encoded = simplejpeg.encode_jpeg(picture, jpeg_quality, colorspace='RGB', colorsubsampling='444')
        return StoredFrame(encoded, 'jpeg', f'{name} stored as JPEG of quality {jpeg_quality}')
    return StoredFrame(_png(picture), 'png', f'{name} stored as PNG' + (' of 8 bits' if deep else ', without loss'))


def count(frames: Iterable[StoredFrame]) -> FrameCounts:
    """What became of these frames."""
    frames = list(frames)
    return FrameCounts(Counter(f.encoding for f in frames), Counter(f.change for f in frames if f.change))


def same_pixels(a: bytes, b: bytes) -> bool:
    """Whether two stored frames show the same; PNG files of the same pixels differ between versions of zlib."""
    try:
        return np.array_equal(decode_image(a), decode_image(b))
    except ImageError:
        return False


def _png(picture: UInt8[np.ndarray, 'H W 3']) -> bytes:
    grey = picture[..., 0]
    colourless = np.array_equal(grey, picture[..., 1]) and np.array_equal(grey, picture[..., 2])
    return cv2.imencode('.png', grey if colourless else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
