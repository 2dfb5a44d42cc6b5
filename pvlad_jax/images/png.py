"""PNG (ISO/IEC 15948): chunks, and pixels by OpenCV's libpng."""

import functools
import struct
import zlib

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from pvlad_jax.images.header import ImageError, ImageHeader, check_size
from pvlad_jax.images.tiff_tags import exif_orientation

SIGNATURE = b'\x89PNG\r\n\x1a\n'

# Of the chunks that a decoder may pass over (lower-case names) only transparency counts.
_TRANSPARENCY = b'tRNS'
_COLOUR_TYPE, _GREY = 25, 0  # its place in a file, and its value


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole PNG, every check sum compared; `end` is behind its IEND chunk."""
    at = len(SIGNATURE)
    size, bits, alpha, orientation, pixels = None, 8, False, 1, False
    while at + 12 <= len(data):
        (length,) = struct.unpack_from('>I', data, at)
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        (crc,) = struct.unpack_from('>I', data, end - 4)
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != crc:
            raise ImageError(f'is damaged (check sum of PNG chunk {kind.decode("latin-1")})')
        content = at + 8
        if kind == b'IHDR' and length >= 10:
            *size, bits, colour = struct.unpack_from('>IIBB', data, content)
            check_size(*size)
            alpha = colour in (4, 6)
        elif kind == b'IDAT':
            pixels = True
        elif kind == _TRANSPARENCY:
            alpha = True
        elif kind == b'eXIf':
            orientation = exif_orientation(data[content : end - 4])
        elif kind == b'acTL' and length >= 4 and struct.unpack_from('>I', data, content)[0] > 1:
            raise ImageError('is an animated PNG; give its frames as files of their own')
        elif kind == b'IEND':
            if size is None or not pixels:
                raise ImageError(f'is damaged (PNG without {"a header" if size is None else "pixels"})')
            return ImageHeader('png', *size, orientation, bits, alpha, end)
        at = end
    raise ImageError('is truncated (PNG without its end chunk)')


def read_pixels(data: bytes, header: ImageHeader) -> UInt8[np.ndarray, 'H W C'] | UInt16[np.ndarray, 'H W C']:
    """RGB or RGBA as stored; grey and palettes become RGB."""
    plain = header.bits <= 8 and not header.alpha
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if plain else cv2.IMREAD_UNCHANGED
    pixels = opencv_pixels(_without_metadata(data), flags)
    if header.alpha and data[_COLOUR_TYPE] == _GREY:  # whose one transparent value OpenCV passes over
        grey = pixels[..., :1]
        opaque = grey != _transparent_grey(data, header.bits)
        return np.concatenate([pixels, np.where(opaque, np.iinfo(grey.dtype).max, 0).astype(grey.dtype)], axis=2)
    return pixels


def _transparent_grey(data: bytes, bits: int) -> int:
    """As OpenCV gives it, which scales 1, 2 and 4 bits to 8; -1 where the chunk is cut short."""
    at = len(SIGNATURE)
    while data[at + 4 : at + 8] != _TRANSPARENCY:
        at += 12 + struct.unpack_from('>I', data, at)[0]
    if struct.unpack_from('>I', data, at)[0] < 2:
        return -1
    value = struct.unpack_from('>H', data, at + 8)[0] & ((1 << bits) - 1)
    return value * 255 // ((1 << bits) - 1) if bits < 8 else value


def _without_metadata(data: bytes) -> bytes:
    """The PNG without what does not count: libpng prints a warning for every file with an odd colour profile."""
    parts, at, odd = [SIGNATURE], len(SIGNATURE), False
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from('>I', data, at)[0]
        kind = data[at + 4 : at + 8]
        if kind[:1].islower() and kind != _TRANSPARENCY:
            odd = True
        else:
            parts.append(data[at:end])
        at = end
    return b''.join(parts) if odd else data


@functools.cache
def _quiet_opencv() -> None:
    """Keeps OpenCV's messages of oddities in files that decode from the terminal; what does not decode raises."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def opencv_pixels(data: bytes, flags: int) -> UInt8[np.ndarray, 'H W C'] | UInt16[np.ndarray, 'H W C']:
    """RGB or RGBA of what OpenCV decodes."""
    _quiet_opencv()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f'is damaged ({error.err})') from error
    if image is None:
        raise ImageError('is damaged (no pixels can be read)')
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
