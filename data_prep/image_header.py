"""Format and size of an encoded image, and whether its bytes are all there, without decoding it.

JPEG: ITU-T T.81 annex B (markers). PNG: ISO/IEC 15948 (chunks).
"""

import struct
import zlib
from typing import NamedTuple

JPEG_START = b'\xff\xd8'
JPEG_END = b'\xff\xd9'
PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Start-of-frame markers carry the size; C4, C8 and CC in their range are tables and a reserved code.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])


class ImageHeader(NamedTuple):
    format: str  # 'jpeg' or 'png'
    width: int  # pixels
    height: int  # pixels


class ImageError(Exception):
    """The bytes are not a whole JPEG or PNG image; the message is the end of a sentence that begins with the file's name."""


def read_header(data: bytes) -> ImageHeader:
    """Returns the header of a whole JPEG or PNG image. Raises ImageError for anything else, truncated images included."""
    if not data:
        raise ImageError('is empty')
    if data.startswith(JPEG_START):
        header = _jpeg_header(data)
    elif data.startswith(PNG_SIGNATURE):
        header = _png_header(data)
    else:
        raise ImageError('is not a JPEG or PNG image')
    if header.width == 0 or header.height == 0:
        raise ImageError(f'has the size {header.width}x{header.height}')
    return header


def _jpeg_header(data: bytes) -> ImageHeader:
    # Some writers pad the file with zeros behind the end marker; every decoder takes that.
    if not data.rstrip(b'\0').endswith(JPEG_END):
        raise ImageError('is truncated (JPEG without its end marker)')
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError(f'is damaged (no JPEG marker at byte {at})')
        code = data[at + 1]
        if code == 0xFF:  # fill byte before a marker
            at += 1
            continue
        if code in _WITHOUT_LENGTH:
            at += 2
            continue
        if code == _START_OF_SCAN:
            break
        (length,) = struct.unpack_from('>H', data, at + 2)
        if code in _START_OF_FRAME:
            if length < 8 or at + 9 > len(data):
                break
            height, width = struct.unpack_from('>HH', data, at + 5)
            if data.find(b'\xff\xda', at + 2 + length) < 0:
                raise ImageError('is truncated (JPEG without a scan)')
            return ImageHeader('jpeg', width, height)
        at += 2 + length
    raise ImageError('is damaged (JPEG without a frame header)')


def _png_header(data: bytes) -> ImageHeader:
    at = len(PNG_SIGNATURE)
    header = None
    while at + 12 <= len(data):
        (length,) = struct.unpack_from('>I', data, at)
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        (crc,) = struct.unpack_from('>I', data, end - 4)
        if zlib.crc32(data[at + 4 : end - 4]) != crc:
            raise ImageError(f'is damaged (check sum of PNG chunk {kind.decode("latin-1")})')
        if kind == b'IHDR' and length >= 8:
            header = ImageHeader('png', *struct.unpack_from('>II', data, at + 8))
        if kind == b'IEND':
            if header is None:
                raise ImageError('is damaged (PNG without a header)')
            return header
        at = end
    raise ImageError('is truncated (PNG without its end chunk)')
