"""Windows bitmaps: the header, and pixels by Pillow."""

import struct

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.images.header import ImageError, ImageHeader, check_size
from pvlad_jax.images.pillow_pixels import pillow_pixels

_UNCOMPRESSED = (0, 3, 6)  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole bitmap. What its pixels take is computed: the size in the file's header is often wrong."""
    if len(data) < 30:
        raise ImageError('is truncated (BMP header)')
    pixels, kind = struct.unpack_from('<II', data, 10)
    if kind == 12:  # OS/2
        width, height, _, depth = struct.unpack_from('<HHHH', data, 18)
        compression = 0
    else:
        width, height, _, depth = struct.unpack_from('<iiHH', data, 18)
        if len(data) < 34:
            raise ImageError('is truncated (BMP header)')
        (compression,) = struct.unpack_from('<I', data, 30)
    check_size(width, abs(height))  # a negative height: rows from top to bottom
    end = pixels + (width * depth + 31) // 32 * 4 * abs(height) if compression in _UNCOMPRESSED else len(data)
    if end > len(data):
        raise ImageError(f'is truncated (BMP of {end} bytes, of which {len(data)} are there)')
    return ImageHeader('bmp', width, abs(height), alpha=depth == 32, end=len(data))


def read_pixels(data: bytes, header: ImageHeader) -> UInt8[np.ndarray, 'H W C']:
    """RGB or RGBA."""
    return pillow_pixels(data, 'BMP')
