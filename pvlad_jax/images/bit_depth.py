"""How many bits are in use in pictures of 16 bits a sample: cameras of 10 or 12 bits leave the upper ones at 0."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pvlad_jax.core.errors import UserError
from pvlad_jax.images import png, tiff
from pvlad_jax.images.decoding import largest_value, read_header
from pvlad_jax.images.header import ImageError

DEPTHS = (8, 10, 12, 14, 16)
START = 25  # bytes that `may_have_16_bits` needs

Tracklet = TypeVar('Tracklet')


def check_bit_depth(bit_depth: int) -> None:
    """UserError for a depth that no picture of 16 bits can have; 0 = to be found."""
    if bit_depth and not 8 <= bit_depth <= 16:
        raise UserError(
            f'--bit_depth={bit_depth}: pictures of 16 bits a sample use 8 to 16 of them '
            '(0 = found by the largest value).'
        )


def may_have_16_bits(start: bytes) -> bool:
    """Whether a file that begins so can be a picture of 16 bits a sample: PNG says it here, TIFF further on."""
    return start[24:25] == b'\x10' if start.startswith(png.SIGNATURE) else start.startswith(tiff.MAGICS)


def has_16_bits(picture: bytes) -> bool:
    """Whether it has 16 bits a sample. Not so where it is damaged, which whoever decodes it says."""
    try:
        return read_header(picture).bits == 16
    except ImageError:
        return False


def found_bit_depth(
    read_frames: Callable[[Tracklet], Iterable[bytes]], tracklets: Iterable[Tracklet]
) -> tuple[int, str]:
    """The bits in use in the pictures of 16 bits of all these tracklets, by their largest value, and a sentence that
    says so.

    Args:
      read_frames: the frames of a tracklet, read in threads, several tracklets at a time. Of a tracklet with a frame
        that is damaged or cannot be read those before it count: whoever decodes it reports it.
    """

    def largest_of(tracklet: Tracklet) -> int:
        largest = 0
        try:
            for frame in read_frames(tracklet):
                largest = max(largest, largest_value(frame))
        except (ImageError, OSError):
            pass
        return largest

    with ThreadPoolExecutor() as threads:
        largest = max(threads.map(largest_of, tracklets), default=0)
    found = next(depth for depth in DEPTHS if largest < 1 << depth)
    return found, (
        f'Frames have 16 bits a sample. Their largest value is {largest:,}, so {found} bits are in use and are scaled '
        'to 8; --bit_depth says otherwise.'
    )
