"""Pictures that are refused, each in a sentence, before memory is taken for their pixels."""

import contextlib
import struct

import numpy as np
import pytest
from PIL import Image

from pvlad_jax.images import MAX_PIXELS, ImageError, decode_image, read_header
from pvlad_jax.images.header import check_size
from tests.helpers.pictures import IMAGE, RGB, chunk, deep, saved, start_of_frame, tiff_with, with_chunk


def refused(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        decode_image(data)


def taken(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(data), RGB)


def test_animations_and_pages_are_refused():
    second = [IMAGE.rotate(180)]
    refused(saved('png', save_all=True, append_images=second), 'is an animated PNG')
    refused(saved('webp', save_all=True, append_images=second), 'is an animated WebP')
    refused(saved('tiff', save_all=True, append_images=second), 'is a TIFF of several pages')
    taken(with_chunk(saved('png'), b'tEXt', b'Comment\0acTL'))
    taken(saved('tiff', save_all=True, append_images=[IMAGE.resize((3, 5))], tiffinfo={254: 1}))  # a small copy behind


def test_deep_tiff_of_separate_colours():
    """Of 16 bits OpenCV would take the first plane for all three, of 8 bits Pillow reads them."""
    together = struct.pack('<HHIHH', 284, 3, 1, 1, 0)
    data = deep('tiff', RGB.astype(np.uint16) << 8)
    assert data.count(together) == 1
    taken(data)
    refused(data.replace(together, struct.pack('<HHIHH', 284, 3, 1, 2, 0)), 'each colour in a plane of its own')


def test_tiff_of_other_numbers():
    refused(saved('tiff', IMAGE.convert('F')), 'floating-point')
    refused(saved('tiff', IMAGE.convert('I')), 'floating-point or signed|32 bits')
    refused(tiff_with(258, 12), 'is a TIFF of 12 bits a sample')
    big = saved('tiff', big_tiff=True)
    assert big[2] == 43
    taken(big)
    taken(saved('tiff', compression='tiff_lzw'))


def test_tiff_with_tags_without_a_value():
    data = saved('tiff')
    (at,) = struct.unpack_from('<I', data, 4)
    for i in range(at + 2, at + 2 + 12 * struct.unpack_from('<H', data, at)[0], 12):
        without = bytearray(data)
        struct.pack_into('<I', without, i + 4, 0)
        with contextlib.suppress(ImageError):
            decode_image(bytes(without))
        if struct.unpack_from('<H', data, i)[0] in (256, 257):
            refused(bytes(without), 'TIFF without a size')


def test_tiff_with_a_palette_of_other_numbers():
    data = bytearray(saved('tiff', IMAGE.convert('P')))
    (at,) = struct.unpack_from('<I', data, 4)
    entries = range(at + 2, at + 2 + 12 * struct.unpack_from('<H', data, at)[0], 12)
    (palette,) = (i for i in entries if struct.unpack_from('<H', data, i)[0] == 320)
    for kind in (6, 8):  # signed
        struct.pack_into('<H', data, palette + 2, kind)
        with contextlib.suppress(ImageError):
            decode_image(bytes(data))


def test_sizes_are_refused_before_decoding():
    side = int(MAX_PIXELS**0.5) + 1
    check_size(side - 1, side - 1)  # the largest
    png = saved('png')
    jpeg = saved('jpeg')
    at = start_of_frame(jpeg)
    webp = (
        b'RIFF'
        + struct.pack('<I', 22)
        + b'WEBPVP8X'
        + struct.pack('<IB3x', 10, 0)
        + (side - 1).to_bytes(3, 'little') * 2
    )
    bmp = bytearray(saved('bmp'))
    struct.pack_into('<ii', bmp, 18, side, side)
    wide = {
        'jpeg': jpeg[: at + 5] + struct.pack('>HH', side, side) + jpeg[at + 9 :],
        'png': png[:8] + chunk(b'IHDR', struct.pack('>II', side, side) + png[24:29]) + png[33:],
        'webp': webp,
        'bmp': bytes(bmp),
    }
    for data in wide.values():
        refused(data, f'{side}x{side} pixels; at most')
    refused(tiff_with(257, 1 << 30), 'pixels; at most')
    nothing = wide['png'].replace(struct.pack('>II', side, side), bytes(8))
    refused(nothing[:8] + chunk(b'IHDR', bytes(8) + png[24:29]) + png[33:], 'has the size 0x0')
    refused(tiff_with(256, 0), 'has the size 0x20')
    refused(jpeg[: at + 5] + bytes(4) + jpeg[at + 9 :], 'has the size 0x0')


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'', 'is empty'),
        (b'GIF89a', 'is a GIF'),
        (b'\0\0\0\x1cftypheic', 'HEIC, AVIF or video'),
        (b'no image', 'is not an image'),
        (b'version https://git-lfs.github.com/spec/v1', 'Git LFS pointer'),
        (b'<!doctype html>', 'HTML'),
        (b'\xff\xd8', 'is truncated'),
        (b'\xff\xd8\xff\xd9', 'is truncated'),
        (b'\x89PNG\r\n\x1a\n', 'is truncated'),
        (b'BM', 'is truncated'),
        (b'II*\0', 'is truncated'),
        (b'RIFF\x04\0\0\0WEBP', 'is truncated'),
    ],
)
def test_what_is_no_picture(data, says):
    refused(data, says)


def test_a_bitmap_from_top_to_bottom_that_was_cut():
    data = bytearray(saved('bmp', IMAGE.transpose(Image.Transpose.FLIP_TOP_BOTTOM)))
    struct.pack_into('<i', data, 22, -RGB.shape[0])
    taken(bytes(data))
    with pytest.raises(ImageError, match='is truncated'):
        read_header(bytes(data[:-1]))
