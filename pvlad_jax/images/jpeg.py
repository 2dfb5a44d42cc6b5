"""JPEG (ITU-T T.81): markers, and pixels by libjpeg-turbo."""

import re
import struct

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from pvlad_jax.images.header import ImageError, ImageHeader, check_size
from pvlad_jax.images.pillow_pixels import pillow_pixels
from pvlad_jax.images.tiff_tags import exif_orientation

START = b'\xff\xd8'
_EXIF = b'Exif\0\0'
# Start-of-frame markers carry the size; C4, C8 and CC in their range are tables and a reserved code.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, with Huffman or arithmetic coding; the others are lossless or hierarchical.
_SUPPORTED = frozenset([0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xE1, 0xEE
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])
# Behind a scan's pixels, in which 0xFF is followed by 0 or is a restart marker.
_MARKER = re.compile(rb'\xff[^\x00\x01\xd0-\xd7]')
_COLOURS = frozenset(['RGB', 'YCbCr', 'Gray'])


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole JPEG; `end` is behind the end marker of the first picture (MPO files hold several)."""
    size, orientation = None, 1
    for code, start, end in _segments(data):
        if code == _APP1 and data.startswith(_EXIF, start):
            orientation = exif_orientation(data[start:end])
        if code in _START_OF_FRAME:
            if code not in _SUPPORTED:
                raise ImageError(
                    f'is a lossless or hierarchical JPEG (marker FF{code:02X}), which is not read; convert it to PNG'
                )
            if end - start < 6:
                raise ImageError('is damaged (JPEG without a frame header)')
            bits, height, width = struct.unpack_from('>BHH', data, start)
            if bits != 8:
                raise ImageError(f'is a JPEG of {bits} bits a sample, which is not read; convert it to PNG')
            size = (width, height)
            check_size(*size)
        if code == _START_OF_SCAN:
            if size is None:
                raise ImageError('is damaged (JPEG without a frame header)')
            return ImageHeader('jpeg', *size, orientation, end=_end(data, end))
    raise ImageError('is truncated (JPEG without a scan)')


def read_pixels(data: bytes, header: ImageHeader) -> UInt8[np.ndarray, 'H W C']:
    """RGB as stored. CMYK and YCCK become RGB by R = (255 - C)(255 - K) / 255; Adobe's files hold 255 - C and so on."""
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in _COLOURS:
            return simplejpeg.decode_jpeg(data, 'RGB')
        inks = simplejpeg.decode_jpeg(data, 'CMYK').astype(np.uint16)
    except (ValueError, KeyError) as error:
        if _is_unusual(error):
            return pillow_pixels(data, 'JPEG')
        if (shorter := _without_padding(data, error)) is not None:
            return read_pixels(shorter, header)
        raise ImageError(f'is damaged ({error})') from error
    if not any(code == _APP14 and data.startswith(b'Adobe', start) for code, start, _ in _segments(data)):
        inks = 255 - inks
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)


def read_plain(data: bytes, out: UInt8[np.ndarray, 'H W 3'] | None) -> UInt8[np.ndarray, 'h w 3'] | None:
    """The fast path of training: RGB of a JPEG without EXIF and inks, decoded into `out` where that has its size.

    Returns None where the picture needs the rules of the general path. ImageError where it is broken.
    """
    if _EXIF in data:  # anywhere, which is found sooner than the markers are read
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height)
        if colours not in _COLOURS:
            return None
        if out is not None and out.shape[:2] == (height, width):
            simplejpeg.decode_jpeg(data, 'RGB', buffer=out)
            return out
        return simplejpeg.decode_jpeg(data, 'RGB')
    except ImageError:
        raise
    except (ValueError, KeyError) as error:
        header = read_header(data)  # raises what is wrong in better words
        if _is_unusual(error) or _without_padding(data[: header.end], error) is not None:
            return None
        raise ImageError(f'is damaged ({error})') from error


def _is_unusual(error: Exception) -> bool:
    """Whether TurboJPEG refuses the picture for its chroma subsampling alone (such as 4:4:1), as libjpeg does not."""
    return isinstance(error, KeyError) or 'subsampling' in str(error)


def _without_padding(data: bytes, error: Exception) -> bytes | None:
    """The picture without zeros in front of its end marker; None where it has none. Some cameras fill up with them.

    It must then decode without any warning. Zeros in the place of pixels leave too little for that.
    """
    if 'extraneous bytes before marker 0xd9' not in str(error):
        return None
    scan = data[:-2].rstrip(b'\0')
    if scan.endswith(b'\xff'):  # a stuffed zero, which belongs to it
        scan += b'\0'
    return None if len(scan) == len(data) - 2 else scan + data[-2:]


def _segments(data: bytes):
    """Yields (marker, start and end of its contents) up to the first scan, that included. Raises ImageError."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError(f'is damaged (no JPEG marker at byte {at})')
        code = data[at + 1]
        if code == 0xFF:  # fill byte before a marker
            at += 1
        elif code in _WITHOUT_LENGTH:
            at += 2
        elif code == _END_OF_IMAGE:
            raise ImageError('is damaged (JPEG without a picture)')
        else:
            (length,) = struct.unpack_from('>H', data, at + 2)
            if length < 2:
                raise ImageError(f'is damaged (JPEG segment of {length} bytes)')
            if at + 2 + length > len(data):
                break
            yield code, at + 4, at + 2 + length
            if code == _START_OF_SCAN:
                return
            at += 2 + length


def _end(data: bytes, at: int) -> int:
    """The place behind the end marker. A progressive picture has more scans than the first, with tables between."""
    while found := _MARKER.search(data, at):
        code, at = data[found.end() - 1], found.end()
        if code == _END_OF_IMAGE:
            return at
        if code == 0xFF:  # fill byte before a marker
            at -= 1
            continue
        if code == _START_OF_IMAGE:
            break
        if at + 2 > len(data):
            break
        at += struct.unpack_from('>H', data, at)[0]
    raise ImageError('is truncated (JPEG without its end marker)')
