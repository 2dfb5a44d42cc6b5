"""A sheet of search results: a row for each query, its pictures, then those of its hits with distance and decision."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.terminal import printable
from pvlad_jax.gallery.caption_font import caption_font, drawable
from pvlad_jax.images import ImageError, decode_image, read_header

_PICTURES, _HEIGHT, _WIDTH = 3, 96, 48  # of a tracklet; pixels of each
_BORDER, _GAP, _CAPTION, _LINES = 3, 10, 13, 3
_COLOURS = {
    'query': (60, 90, 160),
    'same': (30, 140, 60),
    'not sure': (190, 130, 20),
    'other': (110, 110, 110),
    'nobody here': (110, 110, 110),
    '': (110, 110, 110),
}
_MAX_PIXELS = 50_000_000  # of a stored picture: more is no crop of a person
_MAX_SIDE = 30_000  # pixels of a sheet

Cell = tuple[str, Sequence[Path], Sequence[str]]  # decision or 'query', pictures, lines of the caption


def draw_sheet(
    path: str | PathLike,
    rows: Sequence[dict[str, Any]],
    crops: Callable[[str], Sequence[Path]],
    query_crops: Callable[[str], Sequence[Path]],
) -> None:
    """Writes a PNG.

    Args:
      rows: of each search `query`, `decision`, and `hits` with `tracklet`, `camera`, `distance`, `decision`.
      crops, query_crops: the pictures of a tracklet by its name; grey where there are none.

    UserError where the sheet would be too large.
    """
    table = []
    for row in rows:
        cells: list[Cell] = [('query', query_crops(row['query']), [row['query'], row['decision']])]
        cells += [
            (
                hit['decision'],
                crops(hit['tracklet']),
                [
                    f'{rank}: {hit["tracklet"]}',
                    f'{hit["distance"]:.3f}  {hit["decision"]}',
                    f'camera {hit["camera"]}' if hit['camera'] else '',
                ],
            )
            for rank, hit in enumerate(row['hits'], start=1)
        ]
        table.append(cells)
    width, height = _PICTURES * _WIDTH + 2 * _BORDER, _HEIGHT + 2 * _BORDER + _LINES * _CAPTION
    size = (max(map(len, table), default=1) * (width + _GAP) + 2 * _GAP, len(table) * (height + _GAP) + _GAP)
    if max(size) > _MAX_SIDE:
        raise UserError(
            f'A sheet of {len(table)} queries would be {size[0]} x {size[1]} pixels. Search for fewer at a '
            'time, or lower --k.'
        )
    sheet = Image.new('RGB', size, 'white')
    draw, font = ImageDraw.Draw(sheet), caption_font(10)
    for row, cells in enumerate(table):
        for column, (kind, pictures, lines) in enumerate(cells):
            x, y = _GAP + column * (width + _GAP) + (_GAP if column else 0), _GAP + row * (height + _GAP)
            colour = _COLOURS[kind]
            draw.rectangle((x, y, x + width - 1, y + _HEIGHT + 2 * _BORDER - 1), fill=colour)
            sheet.paste(_strip(pictures), (x + _BORDER, y + _BORDER))
            for number, line in enumerate(lines):
                draw.text(
                    (x, y + _HEIGHT + 2 * _BORDER + number * _CAPTION),
                    _fitting(line, font, width),
                    fill=colour,
                    font=font,
                )
    with atomic_write(path) as partial:
        sheet.save(partial, format='PNG')


def _strip(pictures: Sequence[Path]) -> Image.Image:
    """Pictures side by side, spread over the tracklet; grey where there are fewer."""
    strip = Image.new('RGB', (_PICTURES * _WIDTH, _HEIGHT), (215, 215, 215))
    last = len(pictures) - 1
    shown = sorted({round(i * last / (_PICTURES - 1)) for i in range(_PICTURES)}) if pictures else []
    for place, number in enumerate(shown):
        try:
            content = pictures[number].read_bytes()
            header = read_header(content)
            if header.width * header.height <= _MAX_PIXELS:
                picture = Image.fromarray(decode_image(content))
                strip.paste(picture.resize((_WIDTH, _HEIGHT)), (place * _WIDTH, 0))
        except (OSError, ImageError):
            continue  # a damaged picture must not cost the others
    return strip


def _fitting(text: str, font: Any, width: int) -> str:
    """The text, its beginning left out where it is too long: names of tracklets differ at their ends."""
    text = drawable(' '.join(printable(text).split()), font)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength('...' + text) > width:
        text = text[max(1, len(text) // 20) :]
    return '...' + text
