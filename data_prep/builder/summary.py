"""The tables that a build prints: what was found, and what was expected."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from pvlad_jax.core.terminal import printable


def print_summary(raw: RawDataset, console: Console) -> None:
    """Prints people, tracklets, frames, cameras and lengths of every split, then the scanner's notes."""
    table = Table(title=Text(printable(raw.name)), title_justify='left')
    marked = any(s.person_id <= 0 for sources in raw.splits.values() for s in sources)
    headings = ('split', 'people', *(('junk', 'distr.') if marked else ()), 'tracklets', 'frames', 'cameras', 'length')
    for heading in headings:
        table.add_column(heading, justify='left' if heading == 'split' else 'right')
    for split, sources in raw.splits.items():
        table.add_row(split, *_row(sources, marked))
    console.print(table)
    for note in raw.notes:
        console.print(Text(printable(note)), soft_wrap=True)


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """Prints every count as expected and as found."""
    table = Table(title='Counts', title_justify='left')
    for heading in ('count', 'expected', 'found', ''):
        table.add_column(heading, justify='left' if heading in ('count', '') else 'right')
    for check in checks:
        table.add_row(check.name, _text(check.expected), _text(check.found), '' if check.holds else 'DIFFERS')
    console.print(table)


def _row(sources: Sequence[TrackletSource], marked: bool) -> list[str]:
    ids = np.array([s.person_id for s in sources])
    lengths = np.array([len(s.frames) for s in sources])
    cameras = sorted({s.camera_id for s in sources})
    shown = ' '.join('?' if c < 0 else str(c) for c in cameras) if len(cameras) <= 8 else str(len(cameras))
    people = len(set(ids[ids > 0].tolist()))
    counts = [people, *(((ids == -1).sum(), (ids == 0).sum()) if marked else ()), len(sources), lengths.sum()]
    spread = f'{lengths.min()}-{lengths.max()}, {np.median(lengths):g}'
    return [f'{c:,}' for c in counts] + [shown, spread]


def _text(value: int | str) -> str:
    return f'{value:,}' if isinstance(value, int) else value
