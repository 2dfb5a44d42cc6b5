"""The font of captions, for names of tracklets and cameras in any script."""

import importlib.util
from pathlib import Path
from typing import Any

from PIL import ImageFont

_NO_GLYPH = '\uffff'  # of no font


def caption_font(size: int) -> Any:
    """DejaVu Sans, which comes with Matplotlib (Latin, Greek, Cyrillic and more); Pillow's own font where that is not
    installed, which has little more than ASCII."""
    found = importlib.util.find_spec('matplotlib')
    if found and found.origin:
        path = Path(found.origin).parent / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def drawable(text: str, font: Any) -> str:
    """The text, its characters that the font does not have as their numbers, such as \\u674e: two names that differ
    must not look alike."""
    missing = bytes(font.getmask(_NO_GLYPH))

    def shown(character: str) -> str:
        if character.isascii() or bytes(font.getmask(character)) != missing:
            return character
        return ascii(character)[1:-1]

    return ''.join(map(shown, text))
