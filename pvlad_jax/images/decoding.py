"""Bytes of a picture -> uint8 RGB. The rules are the same for every format.

- The content decides the format. Bytes behind the picture's end are passed over; a picture without its end is refused.
- Size: refused before decoding where it is 0 or more than MAX_PIXELS.
- Orientation: EXIF's and TIFF's are applied.
- Colour: grey and palettes become RGB, inks (CMYK, YCCK) too; colour profiles and gamma are ignored.
- Transparency: composed over black, which is what padding is.
- Depth: 1 to 8 bits are scaled to 0..255; of 16 bits the 8 upper ones of those in use are kept. Floating point is
  refused.
- One picture a file: animations and pages are refused.
"""

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from pvlad_jax.images import jpeg
from pvlad_jax.images.formats import FORMATS, format_of
from pvlad_jax.images.header import ImageError, ImageHeader


def read_header(data: bytes) -> ImageHeader:
    """Header of a whole picture of any format, without decoding it. Raises ImageError."""
    return FORMATS[format_of(data)].read_header(data)


def decode_image(
    data: bytes, bit_depth: int = 16, out: UInt8[np.ndarray, 'H W 3'] | None = None
) -> UInt8[np.ndarray, 'h w 3']:
    """The picture as it is shown.

    Args:
      bit_depth: Bits in use in pictures of 16 bits a sample (cameras give 10 or 12); the brightest value is then
        2^bit_depth - 1. 0 = unknown: such pictures are refused.
      out: An array that may be filled and returned where its size is the picture's; saves a copy.
    Raises ImageError: the bytes are no picture, are damaged or truncated, or need what the rules above refuse.
    """
    name = format_of(data)
    if name == 'jpeg' and (image := jpeg.read_plain(data, out)) is not None:
        return image
    form = FORMATS[name]
    header = form.read_header(data)
    if header.bits == 16 and not bit_depth:
        raise ImageError(
            f'is a {name.upper()} of 16 bits a sample; say with --bit_depth how many of them are in use (8 to 16)'
        )
    pixels = form.read_pixels(data[: header.end], header)
    if pixels.dtype == np.uint16:
        pixels = _upper_bits(pixels, bit_depth)
    if pixels.shape[2] == 4:
        pixels = _over_black(pixels)
    return np.ascontiguousarray(pixels if form.turned else oriented(pixels, header.orientation))


def largest_value(data: bytes) -> int:
    """The largest colour of a picture of 16 bits a sample; 0 for others."""
    form = FORMATS[format_of(data)]
    header = form.read_header(data)
    return int(form.read_pixels(data, header)[..., :3].max()) if header.bits == 16 else 0


def oriented(pixels: Shaped[np.ndarray, 'H W C'], orientation: int) -> Shaped[np.ndarray, 'h w C']:
    """Applies EXIF's orientation 1-8 (EXIF 2.32, tag 274: which side the first row and the first column are)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _upper_bits(pixels: UInt16[np.ndarray, 'H W C'], bit_depth: int) -> UInt8[np.ndarray, 'H W C']:
    colours = pixels[..., :3]
    if (largest := int(colours.max())) >> bit_depth:
        raise ImageError(f'has values up to {largest:,}, which are more than the {bit_depth} bits said to be in use')
    result = (pixels >> 8).astype(np.uint8)  # alpha has all its bits
    result[..., :3] = colours >> (bit_depth - 8)
    return result


def _over_black(pixels: UInt8[np.ndarray, 'H W 4']) -> UInt8[np.ndarray, 'H W 3']:
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)
