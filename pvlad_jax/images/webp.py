"""WebP (RFC 9649): chunks, and pixels by Pillow's libwebp."""

import struct

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.images.header import ImageError, ImageHeader, check_size
from pvlad_jax.images.pillow_pixels import pillow_pixels
from pvlad_jax.images.tiff_tags import exif_orientation

_ANIMATED = 0x02


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole WebP file; `end` is what its RIFF header says."""
    if len(data) < 30:
        raise ImageError('is truncated (WebP header)')
    end = 8 + struct.unpack_from('<I', data, 4)[0]
    if end > len(data):
        raise ImageError(f'is truncated (WebP of {end} bytes, of which {len(data)} are there)')
    at, size, orientation, alpha = 12, None, 1, False
    while at + 8 <= end:
        kind = data[at : at + 4]
        (length,) = struct.unpack_from('<I', data, at + 4)
        content = data[at + 8 : min(at + 8 + length, end)]
        if kind == b'EXIF':
            orientation = exif_orientation(content)
        elif kind in (b'ANIM', b'ANMF') or (kind == b'VP8X' and content[:1] and content[0] & _ANIMATED):
            raise ImageError('is an animated WebP; give its frames as files of their own')
        elif kind == b'ALPH':
            alpha = True
        elif kind == b'VP8X' and len(content) >= 10:
            size = tuple(1 + int.from_bytes(content[i : i + 3], 'little') for i in (4, 7))
        elif kind == b'VP8L' and len(content) >= 5:
            (packed,) = struct.unpack_from('<I', content, 1)
            size = size or (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
            alpha = alpha or bool(packed >> 28 & 1)
        elif kind == b'VP8 ' and len(content) >= 10:
            size = size or tuple(v & 0x3FFF for v in struct.unpack_from('<HH', content, 6))
        at += 8 + length + length % 2
    if size is None:
        raise ImageError('is damaged (WebP without a picture)')
    check_size(*size)
    return ImageHeader('webp', *size, orientation, alpha=alpha, end=end)


def read_pixels(data: bytes, header: ImageHeader) -> UInt8[np.ndarray, 'H W C']:
    """RGB or RGBA as stored."""
    return pillow_pixels(data, 'WEBP')
