"""Every format of frames by the same rules: what it holds, how it is turned, where it ends, and what is refused."""

import base64
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from pvlad_jax.images import ImageError, decode_image, read_header
from tests.helpers.pictures import IMAGE, RGB, SAVE, TOLERANCE, deep, exif, saved, start_of_frame, tiff_with, with_chunk

FORMATS = list(SAVE)
# 8x16, red over blue, arithmetic coding.
ARITHMETIC = base64.b64decode(
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGB'
    'YUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAQ'
    'AAgDAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ALPo3AOCTI9cNPtLkP/Z'
)

# 8x16 of (200, 60, 30), luma three times as wide and four times as high as chroma.
UNUSUAL = [
    base64.b64decode(
        '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGB'
        'YUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/wAARCAAQ'
        'AAgDATEAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFgEBAQEAAAAAAAAAAAAAAAAAAAcI/8'
        'QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8Al4Iu2AAD/9k='
    ),
    base64.b64decode(
        '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGB'
        'YUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/wAARCAAQ'
        'AAgDARQAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFQEBAQAAAAAAAAAAAAAAAAAABwj/xA'
        'AUEQEAAAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwCXgBdYD//Z'
    ),
]


def close(form: str, data: bytes, expected: np.ndarray, **options) -> None:
    found = decode_image(data, **options)
    assert found.dtype == np.uint8 and found.shape == expected.shape and found.flags.c_contiguous
    header = read_header(data)
    assert (header.format, header.width, header.height) == (form, expected.shape[1], expected.shape[0])
    assert np.abs(found.astype(int) - expected).max() <= TOLERANCE.get(form, 0)


def refused(data: bytes, says: str, **options) -> None:
    with pytest.raises(ImageError, match=says):
        decode_image(data, **options)


@pytest.mark.parametrize('form', FORMATS)
@pytest.mark.parametrize('mode', ['RGB', 'L', '1', 'P', 'LA', 'RGBA', 'CMYK'])
def test_every_kind_of_colour_becomes_rgb(form, mode):
    image = IMAGE.convert(mode)
    try:
        data = saved(form, image)
    except OSError:
        pytest.skip(f'Pillow writes no {form} of mode {mode}')
    close(form, data, np.asarray(image.convert('RGB')))


@pytest.mark.parametrize('form', FORMATS)
def test_orientation_is_applied(form):
    if form == 'bmp':
        return  # has no place for it
    for orientation in range(1, 9):
        shown = ImageOps.exif_transpose(_tagged(orientation))
        close(form, saved(form, exif=exif(orientation)), np.asarray(shown))
    close(form, saved(form, exif=exif(9)), RGB)  # as viewers have it


def _tagged(orientation: int) -> Image.Image:
    image = IMAGE.copy()
    image.getexif()[274] = orientation
    return image


def test_orientation_of_a_deep_tiff():
    tagged = tiff_with(274, 6) if b'\x12\x01\x03\0' in saved('tiff') else saved('tiff', exif=exif(6))
    close('tiff', tagged, np.rot90(RGB, -1))
    for orientation in range(1, 9):
        data = bytearray(deep('tiff', RGB.astype(np.uint16) * 257))
        (at,) = struct.unpack_from('<I', data, 4)
        n = struct.unpack_from('<H', data, at)[0]
        entries = [bytes(data[at + 2 + 12 * i : at + 14 + 12 * i]) for i in range(n)]
        entries = [e for e in entries if struct.unpack_from('<H', e)[0] != 274] + [
            struct.pack('<HHIHH', 274, 3, 1, orientation, 0)
        ]
        entries.sort(key=lambda e: struct.unpack_from('<H', e)[0])
        directory = struct.pack('<H', len(entries)) + b''.join(entries) + struct.pack('<I', 0)
        data += b'\0' * (len(data) % 2)
        struct.pack_into('<I', data, 4, len(data))
        close('tiff', bytes(data) + directory, np.asarray(ImageOps.exif_transpose(_tagged(orientation))))


@pytest.mark.parametrize('form', ['png', 'webp', 'tiff', 'bmp'])
def test_transparency_is_composed_over_black(form):
    alpha = np.linspace(0, 255, RGB[..., 0].size).astype(np.uint8).reshape(RGB.shape[:2])
    pixels = np.dstack([RGB, alpha])
    # Pillow's 32-bit bitmaps say nothing of alpha, OpenCV's do.
    data = (
        saved(form, Image.fromarray(pixels))
        if form != 'bmp'
        else cv2.imencode('.bmp', pixels[..., [2, 1, 0, 3]])[1].tobytes()
    )
    close(form, data, np.round(RGB * (alpha[..., None] / 255.0)).astype(int))
    assert read_header(data).alpha


@pytest.mark.parametrize('bits', [1, 2, 4, 8, 16])
def test_transparency_by_a_grey_value(bits):
    """Every value of 1 to 4 bits, 16 of more; the third (of 1 bit: the second) is transparent."""
    values = np.arange(16) % (1 << bits) if bits < 8 else np.arange(16) * 16
    digits = ''.join(format(v, f'0{bits}b') for v in values)
    row = b'\0' + int(digits, 2).to_bytes(2 * bits, 'big')
    header = struct.pack('>IIBBBBB', 16, 1, bits, 0, 0, 0, 0)
    key = int(values[min(bits, 2)])
    data = b'\x89PNG\r\n\x1a\n'
    for kind, content in (
        (b'IHDR', header),
        (b'tRNS', struct.pack('>H', key)),
        (b'IDAT', zlib.compress(row)),
        (b'IEND', b''),
    ):
        data += struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    shown = np.where(values == key, 0, values * 255 // ((1 << bits) - 1) if bits < 8 else values)
    close('png', data, np.repeat(shown[None, :, None], 3, axis=2), bit_depth=8 if bits == 16 else 16)


def test_transparency_by_palette_and_by_colour():
    key = tuple(int(v) for v in RGB[3, 5])
    keyed = np.where((RGB == key).all(-1, keepdims=True), 0, RGB)
    close('png', saved('png', transparency=key), keyed)
    palette = IMAGE.convert('P')
    shown = np.where(np.asarray(palette)[..., None] == 7, 0, np.asarray(palette.convert('RGB')))
    close('png', saved('png', palette, transparency=7), shown)


@pytest.mark.parametrize('form', ['png', 'tiff'])
@pytest.mark.parametrize('bits', [8, 10, 12, 16])
def test_the_upper_bits_in_use_are_kept(form, bits):
    full = (RGB.astype(np.uint16) << (bits - 8)) + (3 if bits > 9 else 0)
    close(form, deep(form, full), RGB, bit_depth=bits)
    close(form, deep(form, full[..., 0]), np.repeat(RGB[..., :1], 3, 2), bit_depth=bits)
    half = np.full((*RGB.shape[:2], 1), 0x8080, np.uint16)
    close(form, deep(form, np.dstack([full, half])), np.round(RGB * (128 / 255)).astype(int), bit_depth=bits)
    if bits > 8:
        refused(deep(form, full), f'values up to .* more than the {bits - 1} bits', bit_depth=bits - 1)


@pytest.mark.parametrize('form', FORMATS)
def test_bytes_behind_the_end_are_passed_over(form):
    data = saved(form)
    plain = decode_image(data)
    for tail in (b'\r\n', b'\0' * 9, b'SEFH\x6a\0\0\0trailer of a phone', data, b'\xff\xd8\xff\xd9'):
        np.testing.assert_array_equal(decode_image(data + tail), plain)
        if form in ('jpeg', 'png', 'webp'):
            assert read_header(data + tail).end == len(data)


@pytest.mark.parametrize('form', FORMATS)
def test_every_truncation_is_noticed(form):
    data = saved(form, IMAGE.resize((5, 6)))
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            read_header(data[:cut])


@pytest.mark.parametrize('form', FORMATS)
def test_damage_gives_pixels_or_a_sentence(form):
    """Whatever the bytes, no other exception."""
    rng, data = np.random.default_rng(1), saved(form)
    for _ in range(150):
        broken = bytearray(data)
        for place in rng.integers(2, len(data), 3):
            broken[place] = rng.integers(256)
        try:
            assert decode_image(bytes(broken)).shape[2] == 3
        except ImageError as error:
            assert str(error)


def test_jpeg_with_several_pictures_and_scans():
    close('jpeg', saved('jpeg', format='MPO', save_all=True, append_images=[IMAGE.rotate(180)]), RGB)
    close('jpeg', saved('jpeg', progressive=True), RGB)
    close('jpeg', saved('jpeg', exif=_exif_with_thumbnail()), RGB)
    close('jpeg', saved('jpeg', restart_marker_blocks=1), RGB)
    whole = saved('jpeg')
    close('jpeg', whole[:-2] + bytes(500) + whole[-2:], RGB)
    refused(whole[:-60] + bytes(500) + whole[-2:], 'is damaged')
    cut = saved('jpeg', progressive=True)
    refused(cut[: len(cut) // 2] + saved('jpeg'), 'is truncated|is damaged')


def _exif_with_thumbnail() -> bytes:
    return exif(1).tobytes() + saved('jpeg', IMAGE.resize((4, 4)))


def test_zeros_in_front_of_the_end_of_a_jpeg_are_passed_over():
    stuffed = set()
    for seed in range(60):
        noise = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
        data = saved('jpeg', Image.fromarray(noise))
        stuffed.add(data[-4:-2] == b'\xff\0')  # this zero belongs to the pixels
        np.testing.assert_array_equal(decode_image(data[:-2] + bytes(9) + data[-2:]), decode_image(data))
    assert stuffed == {False, True}
    data = saved('jpeg')
    with pytest.raises(ImageError):  # zeros in the place of pixels
        decode_image(data[: len(data) // 2] + bytes(len(data) - len(data) // 2 - 2) + data[-2:])


def test_jpeg_of_inks():
    """Adobe's files hold 255 - ink; those without its marker hold ink. YCCK is CMY as YCbCr."""
    inks = IMAGE.convert('CMYK')
    adobe = saved('jpeg', inks)
    close('jpeg', adobe, np.asarray(inks.convert('RGB')))
    at = adobe.index(b'\xff\xee')
    plain = adobe[:at] + adobe[at + 2 + struct.unpack_from('>H', adobe, at + 2)[0] :]
    close('jpeg', plain, np.asarray(Image.fromarray(255 - np.asarray(inks), 'CMYK').convert('RGB')))
    ycck = bytearray(adobe)
    ycck[at + 15] = 2
    with Image.open(io.BytesIO(ycck)) as image:
        close('jpeg', bytes(ycck), np.asarray(image.convert('RGB')))


def test_jpeg_codings():
    found = decode_image(ARITHMETIC)
    assert (
        np.abs(found[0].astype(int) - (200, 60, 30)).max() < 4
        and np.abs(found[-1].astype(int) - (20, 90, 220)).max() < 4
    )
    for data in UNUSUAL:
        assert np.abs(decode_image(data).astype(int) - (200, 60, 30)).max() < 4
        refused(data[:-3], 'is truncated')
    data = bytearray(saved('jpeg'))
    at = start_of_frame(data)
    data[at + 4] = 12
    refused(bytes(data), 'is a JPEG of 12 bits a sample')
    data[at + 1], data[at + 4] = 0xC3, 8
    refused(bytes(data), 'is a lossless or hierarchical JPEG')


@pytest.mark.parametrize(
    ('kind', 'content'),
    [(b'gAMA', struct.pack('>I', 100_000)), (b'cICP', b'\x09\x10\0\1'), (b'sBIT', b'\5\5\5'), (b'bKGD', bytes(6))],
)
def test_metadata_changes_no_pixel(kind, content):
    close('png', with_chunk(saved('png'), kind, content), RGB)


def test_colour_profiles_are_ignored():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('LAB')).tobytes()
    for form in ('jpeg', 'png', 'webp', 'tiff'):
        close(form, saved(form, icc_profile=profile), RGB)


def test_plain_pictures_decode_as_they_always_have():
    """Data sets that were built before this module: simplejpeg's RGB and OpenCV's colours, to the bit."""
    for options in ({}, {'subsampling': 2, 'quality': 75}, {'progressive': True}):
        for mode in ('RGB', 'L'):
            data = saved('jpeg', IMAGE.convert(mode), **options)
            np.testing.assert_array_equal(decode_image(data), simplejpeg.decode_jpeg(data, 'RGB'))
            out = np.zeros_like(RGB)
            assert decode_image(data, out=out) is out
            np.testing.assert_array_equal(out, simplejpeg.decode_jpeg(data, 'RGB'))
    pngs = [saved('png', IMAGE.convert(mode)) for mode in ('RGB', 'L', '1', 'P')]
    for data in (*pngs, deep('png', RGB.astype(np.uint16) * 255)):
        before = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(decode_image(data), before)
