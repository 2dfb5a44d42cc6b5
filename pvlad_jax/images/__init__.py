"""Encoded pictures -> uint8 RGB: one set of rules for every format and every command (docs/design.md, "Frames")."""

from pvlad_jax.images.decoding import decode_image, read_header
from pvlad_jax.images.formats import FRAME_EXTENSIONS, FRAME_SUFFIX, JPEG_EXTENSIONS
from pvlad_jax.images.header import MAX_PIXELS, ImageError, ImageHeader

__all__ = [
    'FRAME_EXTENSIONS',
    'FRAME_SUFFIX',
    'JPEG_EXTENSIONS',
    'MAX_PIXELS',
    'ImageError',
    'ImageHeader',
    'decode_image',
    'read_header',
]
