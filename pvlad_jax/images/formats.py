"""The formats of frames: how each is recognised, and the two functions that read it."""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pvlad_jax.images import bmp, jpeg, png, tiff, webp
from pvlad_jax.images.header import ImageError, ImageHeader

# What a frame's name may end in, in lower case. The bytes decide the format, not the name.
JPEG_EXTENSIONS = ('.jpg', '.jpeg', '.jpe', '.jfif', '.mpo')
FRAME_EXTENSIONS = (*JPEG_EXTENSIONS, '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff')
FRAME_SUFFIX = '|'.join(re.escape(extension) for extension in FRAME_EXTENSIONS)  # as a regular expression
ACCEPTED = 'JPEG, PNG, BMP, WebP and TIFF are read'


class Format(NamedTuple):
    """`read_header(data)` needs the whole file; `read_pixels(data, header)` gives RGB or RGBA of 8 or 16 bits."""

    read_header: Callable[[bytes], ImageHeader]
    read_pixels: Callable[[bytes, ImageHeader], np.ndarray]
    turned: bool = False  # whether read_pixels has applied the orientation


FORMATS = {
    'jpeg': Format(jpeg.read_header, jpeg.read_pixels),
    'png': Format(png.read_header, png.read_pixels),
    'bmp': Format(bmp.read_header, bmp.read_pixels),
    'webp': Format(webp.read_header, webp.read_pixels),
    'tiff': Format(tiff.read_header, tiff.read_pixels, turned=True),
}
_OTHERS = {  # start of a file -> what it is
    b'GIF8': 'a GIF image',
    b'\0\0\0\x0cjP': 'a JPEG 2000 image',
    b'\xff\x4f\xff\x51': 'a JPEG 2000 image',
    b'\xff\x0a': 'a JPEG XL image',
    b'\0\0\0\x0cJXL': 'a JPEG XL image',
    b'8BPS': 'a Photoshop image',
    b'v/1\x01': 'an OpenEXR image',
    b'version https://git-lfs': 'a Git LFS pointer to the picture, not the picture (git lfs pull fetches it)',
    b'<': 'a text of HTML or XML',
}


def format_of(data: bytes) -> str:
    """The name of the format by its first bytes. Raises ImageError that says what the file is instead."""
    if not data:
        raise ImageError('is empty')
    if data.startswith(jpeg.START):
        return 'jpeg'
    if data.startswith(png.SIGNATURE):
        return 'png'
    if data.startswith(tiff.MAGICS):
        return 'tiff'
    if data.startswith(b'RIFF') and data[8:12] == b'WEBP':
        return 'webp'
    if data.startswith(b'BM'):
        return 'bmp'
    if data[4:8] == b'ftyp':
        raise ImageError(f'is a HEIC, AVIF or video file; {ACCEPTED}')
    for start, what in _OTHERS.items():
        if data.startswith(start):
            raise ImageError(f'is {what}; {ACCEPTED}')
    raise ImageError(f'is not an image; {ACCEPTED}')
