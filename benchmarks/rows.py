"""Rows of a comparison, ours against a peer: the table of them, the JSON file, and what prevents either, reported
before anything is measured.

A row is {"name", "ours", "peer", "unit", "ratio"}, a ratio above 1 = ours is better, with "ours_spread" and
"peer_spread" (least, most) where it was measured several times.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.program_errors import run_program
from pvlad_jax.core.terminal import console


def need(*modules: str) -> None:
    """Ends the program, with what to do, where a peer is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f'{Path(sys.argv[0]).name} compares with {" and ".join(missing)}, not installed here: '
            'pip install -r requirements-benchmarks.txt'
        )


def own_path(text: str) -> Path:
    """For `add_argument(type=...)`: `user_path`."""
    try:
        return user_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def at_least_one(text: str) -> int:
    """For `add_argument(type=...)`: a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is no whole number from 1')
    return int(text)


def child_output(command: Sequence[str], what: str, **options) -> str:
    """What a program prints; where it fails, this one ends with the reason that it gave."""
    try:
        return run_program(command, what, **options).stdout
    except UserError as error:
        sys.exit(str(error))


def new_file(text: str) -> Path:
    """For `add_argument(type=...)`: a file that can be written when the measuring is done."""
    path = own_path(text)
    folder = path.parent
    reason = (
        'it is a folder'
        if path.is_dir()
        else f'there is no folder {folder}'
        if not folder.is_dir()
        else 'it cannot be written'
        if not os.access(path if path.exists() else folder, os.W_OK)
        else ''
    )
    if reason:
        raise argparse.ArgumentTypeError(f'{text}: {reason}. Give another file.')
    return path


def row(name: str, ours: float, peer: float | None, unit: str, ratio: float | None = None, **more) -> dict:
    return {'name': name, 'ours': ours, 'peer': peer, 'unit': unit, 'ratio': ratio, **more}


def repeated_row(name: str, ours: Sequence[float], peer: Sequence[float], unit: str, less_is_better: bool) -> dict:
    """The row of what was measured several times: medians and spreads."""
    a, b = statistics.median(ours), statistics.median(peer)
    spreads = {'ours_spread': [min(ours), max(ours)], 'peer_spread': [min(peer), max(peer)]}
    return row(name, a, b, unit, b / a if less_is_better else a / b, **spreads, runs=[len(ours), len(peer)])


def write(path: Path, rows: list[dict], **more) -> None:
    path.write_text(json.dumps({'rows': rows, **more}, indent=1) + '\n')


def draw(title: str, headings: Sequence[str], lines: Iterable[Sequence[str]], width: int = 180, left=('',)) -> None:
    """Prints a table. left: the headings of what is no number."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify='left' if heading in left else 'right')
    for line in lines:
        table.add_row(*line)
    console(width=width).print(table)


def show(rows: list[dict], title: str) -> None:
    lines = []
    for r in rows:
        spreads = ['–'.join(f'{s:.4g}' for s in r.get(f'{side}_spread', ())) for side in ('ours', 'peer')]
        peer, ratio = ('' if r[key] is None else f'{r[key]:.{digits}g}' for key, digits in (('peer', 4), ('ratio', 3)))
        lines.append([r['name'], f'{r["ours"]:.4g}', peer, r['unit'], ratio, *spreads])
    draw(title, ('', 'ours', 'peer', 'unit', 'ratio', 'spread of ours', 'spread of peer'), lines)
