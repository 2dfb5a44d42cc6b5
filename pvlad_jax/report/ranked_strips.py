"""A picture of rankings: each row a query's frames, then those of its nearest gallery tracklets, green where good, red
where not.
"""

from collections.abc import Callable, Sequence
from os import PathLike

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.labels import camera_label, person_label
from pvlad_jax.data.frame_decoding import resized
from pvlad_jax.evaluation.embeddings import Embeddings, Labels
from pvlad_jax.evaluation.ranked_lists import RankedList, top_ranked
from pvlad_jax.evaluation.scoring import ranked_tables, score_rows
from pvlad_jax.images.frame_arrays import checked_frame

_BORDER, _GAP, _CAPTION = 4, 8, 16  # pixels
_GREEN, _RED, _BLUE = (30, 160, 60), (205, 40, 40), (60, 90, 160)


def ranked_strips(
    query: Embeddings,
    gallery: Embeddings,
    frames: Callable[[str], Sequence],
    protocol: str = 'mars_official',
    distance: str = 'cosine',
    rerank: bool = False,
    *,
    train: Embeddings | None = None,
    unknown_cameras: str = 'refuse',
    n_queries: int = 8,
    top: int = 5,
) -> UInt8[np.ndarray, 'Y X C']:
    """The picture for evenly spread queries; arguments as in `scoring.score` and `draw_strips`."""
    query, gallery, chosen = ranked_tables(query, gallery, protocol, unknown_cameras)
    scores = score_rows(query, gallery, distance, rerank, train)
    ranked = top_ranked(scores, query, gallery, chosen, spread_queries(len(query), n_queries), top, unknown_cameras)
    return draw_strips(ranked, query, gallery, frames)


def spread_queries(n_query: int, n: int) -> Int[np.ndarray, 'b']:
    """n queries evenly spread over the table: always the same ones, none chosen for its result."""
    return np.unique(np.linspace(0, n_query - 1, min(n, n_query)).round().astype(int))


def draw_strips(
    ranked: RankedList,
    query: Labels,
    gallery: Labels,
    frames: Callable[[str], Sequence],
    n_frames: int = 3,
    height: int = 96,
    width: int = 48,
) -> UInt8[np.ndarray, 'Y X C']:
    """The picture.

    Args:
      frames: the frames of a tracklet by its name, uint8 RGB [H, W, 3]; items are only read where they are shown.
      n_frames: shown of each tracklet, evenly spread over it.
      height, width: of a frame, in pixels.
    """
    cell_width, cell_height = n_frames * width + 2 * _BORDER, height + 2 * _BORDER + _CAPTION
    top = ranked.gallery.shape[1]
    columns = 1 + top
    picture = Image.new(
        'RGB', (columns * (cell_width + _GAP) + 2 * _GAP, len(ranked.query) * (cell_height + _GAP) + _GAP), 'white'
    )
    font = ImageFont.load_default(11)
    for row, (query_row, gallery_rows, good) in enumerate(zip(*ranked)):
        y = _GAP + row * (cell_height + _GAP)
        cells = [(query, query_row, _BLUE, 'query')] + [
            (gallery, column, _GREEN if right else _RED, str(place))
            for place, (column, right) in enumerate(zip(gallery_rows, good), start=1)
        ]
        for place, (table, index, colour, caption) in enumerate(cells):
            if index < 0:
                continue
            x = _GAP + place * (cell_width + _GAP) + (_GAP if place else 0)
            draw = ImageDraw.Draw(picture)
            draw.rectangle((x, y, x + cell_width - 1, y + height + 2 * _BORDER - 1), fill=colour)
            tracklet = str(table.tracklet[index])
            strip = _strip(frames(tracklet), f'frame of tracklet {tracklet!r}', n_frames, height, width)
            picture.paste(Image.fromarray(strip), (x + _BORDER, y + _BORDER))
            draw.text(
                (x, y + height + 2 * _BORDER + 1),
                f'{caption}: {person_label(table.person_id[index])}, {camera_label(table.camera_id[index])}',
                fill=colour,
                font=font,
            )
    return np.asarray(picture)


def _strip(
    frames: Sequence | Shaped[np.ndarray, 'T ...'], what: str, n_frames: int, height: int, width: int
) -> UInt8[np.ndarray, 'Y X C']:
    """n_frames frames side by side; a shorter tracklet leaves grey, since a repeated frame would look like a standing
    person.
    """
    strip = np.full((height, n_frames * width, 3), 200, np.uint8)
    shown = np.unique(np.linspace(0, len(frames) - 1, min(n_frames, len(frames))).round().astype(int))
    for place, index in enumerate(shown):
        frame = checked_frame(frames[int(index)], what)
        strip[:, place * width : (place + 1) * width] = resized(frame, height, width)
    return strip


def write_strips(path: str | PathLike, picture: UInt8[np.ndarray, 'Y X C']) -> None:
    """Writes a PNG; a reader sees the old file or the whole new one."""
    with atomic_write(path) as partial:
        Image.fromarray(picture).save(partial, format='PNG')
