"""Small pictures in every format, and what their pixels are."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

RGB = cv2.resize(
    np.random.default_rng(0).integers(0, 255, (4, 3, 3), dtype=np.uint8), (12, 20), interpolation=cv2.INTER_CUBIC
)
IMAGE = Image.fromarray(RGB)
SAVE = {
    'jpeg': {'format': 'JPEG', 'quality': 100, 'subsampling': 0},
    'png': {'format': 'PNG'},
    'bmp': {'format': 'BMP'},
    'webp': {'format': 'WEBP', 'lossless': True, 'exact': True},
    'tiff': {'format': 'TIFF'},
}
TOLERANCE = {'jpeg': 4}  # of 255, against the pixels that were saved; the others are lossless


def saved(form: str, image: Image.Image = IMAGE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **SAVE[form] | options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


def deep(form: str, pixels: np.ndarray) -> bytes:
    """PNG or TIFF of 16 bits a sample; `pixels` grey, RGB or RGBA."""
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[
        pixels.ndim if pixels.ndim == 2 else pixels.shape[2]
    ]
    return cv2.imencode(f'.{form}', pixels if order is None else cv2.cvtColor(pixels, order))[1].tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """The PNG with a chunk behind its header."""
    return png[:33] + chunk(kind, content) + png[33:]


def tiff_with(tag: int, value: int, count: int = 1) -> bytes:
    """The TIFF picture with another value of a tag of type SHORT or LONG."""
    data = bytearray(saved('tiff'))
    (at,) = struct.unpack_from('<I', data, 4)
    for i in range(at + 2, at + 2 + 12 * struct.unpack_from('<H', data, at)[0], 12):
        found, kind, n = struct.unpack_from('<HHI', data, i)
        if found == tag:
            place = i + 8 if n * {3: 2, 4: 4}[kind] <= 4 else struct.unpack_from('<I', data, i + 8)[0]
            for k in range(n):
                struct.pack_into({3: '<H', 4: '<I'}[kind], data, place + k * {3: 2, 4: 4}[kind], value)
            return bytes(data)
    raise KeyError(tag)


def start_of_frame(jpeg: bytes) -> int:
    """The place of the frame header's marker."""
    return jpeg.index(b'\xff\xc0')
