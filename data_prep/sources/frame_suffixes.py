"""Which files are frames by their names, and which are passed over: side-car texts, tables, videos."""

from typing import no_type_check

from pvlad_jax.images import FRAME_EXTENSIONS

# All pictures, decodable or not: what cannot be decoded must be refused by its content, never passed over by its name.
_OTHER_PICTURES = '.gif .ppm .pgm .pbm .pnm .jp2 .jxl .avif .heic .heif .exr .hdr .tga .psd'.split()
FRAME_SUFFIXES = frozenset(FRAME_EXTENSIONS).union(_OTHER_PICTURES)


@no_type_check  # called for every file of a data set
def suffix(path: str) -> str:
    """'.jpg' of 'a/b.JPG'; '' where what follows the last dot is a number, as in 'frame_0.91'."""
    name = path.rpartition('/')[2]
    head, dot, tail = name.rpartition('.')
    return f'.{tail.lower()}' if dot and head and tail and not tail.isdecimal() else ''


@no_type_check
def stem(path: str) -> str:
    """The file's name without its suffix."""
    name = path.rpartition('/')[2]
    return name[: len(name) - len(suffix(path))]


@no_type_check
def is_frame(path: str) -> bool:
    """Whether a file is a frame: a picture by its suffix, or a number without a suffix."""
    return suffix(path) in FRAME_SUFFIXES or (not suffix(path) and any(c.isdecimal() for c in stem(path)))
