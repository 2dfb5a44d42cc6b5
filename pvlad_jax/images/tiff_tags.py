"""Tags of TIFF files (TIFF 6.0; BigTIFF), and the orientation in EXIF, which is a small TIFF file."""

import struct

from pvlad_jax.images.header import ImageError

ORIENTATION = 274
_NUMBERS = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}  # TIFF's types BYTE, SHORT, LONG and BigTIFF's LONG8
_MAX_VALUES = 1 << 20  # of one tag; a strip or tile each


def read_tags(data: bytes) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Returns the whole-number tags of the first page, and the kinds (NewSubfileType) of the further ones.

    Raises ImageError where the bytes are no TIFF file or end too early.
    """
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    try:
        if order is None:
            raise ImageError('is damaged (TIFF without its byte order)')
        (version,) = struct.unpack_from(f'{order}H', data, 2)
        if version not in (42, 43):
            raise ImageError(f'is damaged (TIFF of version {version})')
        big = version == 43
        (at,) = struct.unpack_from(f'{order}{"Q" if big else "I"}', data, 8 if big else 4)
        tags, at = _directory(data, order, big, at)
        others: list[int] = []
        seen = set()
        while at and at not in seen and len(others) < 2:
            seen.add(at)
            page, at = _directory(data, order, big, at)
            others.append(page.get(254, (0,))[0])
    except (struct.error, IndexError, OverflowError) as error:
        raise ImageError('is truncated (TIFF tags)') from error
    return tags, others


def exif_orientation(exif: bytes) -> int:
    """The orientation that a block of EXIF asks for, 1-8; 1 where it says none or is damaged, as viewers have it."""
    try:
        tags, _ = read_tags(exif.removeprefix(b'Exif\0\0'))
    except ImageError:
        return 1
    return valid_orientation(tags)


def valid_orientation(tags: dict[int, tuple[int, ...]]) -> int:
    """1-8; 1 where the tag is missing or holds anything else."""
    value = (tags.get(ORIENTATION) or (1,))[0]
    return value if 1 <= value <= 8 else 1


def _directory(data: bytes, order: str, big: bool, at: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """The whole-number tags of a directory and the place of the next one, 0 = none."""
    (count,) = struct.unpack_from(f'{order}{"Q" if big else "H"}', data, at)
    at += 8 if big else 2
    entry, word = (20, 'Q') if big else (12, 'I')
    room = struct.calcsize(f'={word}')
    if count * entry > len(data):
        raise ImageError('is truncated (TIFF tags)')
    tags = {}
    for i in range(at, at + count * entry, entry):
        tag, kind, n = struct.unpack_from(f'{order}HH{word}', data, i)
        if kind not in _NUMBERS or not 1 <= n <= _MAX_VALUES:  # a tag without a value says nothing
            continue
        values = f'{order}{n}{_NUMBERS[kind]}'
        place = i + entry - room
        if struct.calcsize(values) > room:
            (place,) = struct.unpack_from(f'{order}{word}', data, place)
        try:
            tags[tag] = struct.unpack_from(values, data, place)
        except struct.error:
            if tag in (273, 279, 324, 325):  # where the pixels are
                raise
    at += count * entry
    if at + room > len(data):  # EXIF of some cameras ends here
        return tags, 0
    return tags, struct.unpack_from(f'{order}{word}', data, at)[0]
