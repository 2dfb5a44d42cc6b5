"""TIFF with one page: tags, and pixels by Pillow (8 bits) or OpenCV (16 bits)."""

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from pvlad_jax.images.header import ImageError, ImageHeader, check_size
from pvlad_jax.images.pillow_pixels import pillow_pixels
from pvlad_jax.images.png import opencv_pixels
from pvlad_jax.images.tiff_tags import read_tags, valid_orientation

MAGICS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _EXTRA, _SAMPLE_FORMAT = 256, 257, 258, 262, 277, 338, 339
_PLACES_AND_SIZES = ((273, 279), (324, 325))  # of strips and of tiles
_REDUCED = 1  # bit of NewSubfileType: a small copy of the page
_BLACK_IS_ZERO, _RGB = 1, 2
_PLANES, _SEPARATE = 284, 2  # PlanarConfiguration
_ASSOCIATED = 1  # colours multiplied with alpha


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole TIFF file of one page of whole numbers."""
    tags, others = read_tags(data)
    if any(not kind & _REDUCED for kind in others):
        raise ImageError('is a TIFF of several pages; give its pages as files of their own')
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ImageError('is damaged (TIFF without a size)')
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    check_size(width, height)
    if set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise ImageError('is a TIFF of floating-point or signed numbers; scale it to whole numbers of 8 bits')
    bits, samples = tags.get(_BITS, (1,)), tags.get(_SAMPLES, (1,))[0]
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16):
        raise ImageError(
            f'is a TIFF of {", ".join(map(str, sorted(set(bits))))} bits a sample; 1, 2, 4, 8 and 16 are read'
        )
    colours = tags.get(_PHOTOMETRIC, (_BLACK_IS_ZERO,))[0]
    extra = tags.get(_EXTRA, ())
    alpha = bool(extra) and samples - len(extra) in (1, 3)
    if bits[0] == 16 and (
        (colours, samples) not in ((_BLACK_IS_ZERO, 1), (_RGB, 3), (_RGB, 4)) or _ASSOCIATED in extra
    ):
        raise ImageError('is a TIFF of 16 bits that is neither grey nor RGB; convert it to 8 bits')
    if bits[0] == 16 and samples > 1 and tags.get(_PLANES, (1,))[0] == _SEPARATE:  # which OpenCV reads as one plane
        raise ImageError('is a TIFF of 16 bits with each colour in a plane of its own; store it with colours together')
    _check_pixels_are_there(tags, len(data))
    return ImageHeader('tiff', width, height, valid_orientation(tags), bits[0], alpha, len(data))


def read_pixels(data: bytes, header: ImageHeader) -> UInt8[np.ndarray, 'H W C'] | UInt16[np.ndarray, 'H W C']:
    """RGB or RGBA, turned as it is shown: both libraries do so."""
    if header.bits == 16:
        return opencv_pixels(data, cv2.IMREAD_UNCHANGED)
    return pillow_pixels(data, 'TIFF')


def _check_pixels_are_there(tags: dict[int, tuple[int, ...]], size: int) -> None:
    for places, sizes in _PLACES_AND_SIZES:
        for place, length in zip(tags.get(places, ()), tags.get(sizes, ())):
            if place + length > size:
                raise ImageError('is truncated (TIFF whose pixels are not all there)')
    if not any(places in tags for places, _ in _PLACES_AND_SIZES):
        raise ImageError('is damaged (TIFF without pixels)')
