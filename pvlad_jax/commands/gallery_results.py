"""What `gallery search` has found: a table on the terminal, JSON, or a sheet of pictures."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from pvlad_jax.core import terminal
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.times import shown
from pvlad_jax.gallery.crops import crops_by_name, crops_of
from pvlad_jax.gallery.result_sheet import draw_sheet


def show(rows: list[dict[str, Any]], gallery: Path, output: Path | None, query_crops: Path | None) -> None:
    """Writes the results, or prints them where no output is given.

    Args:
      rows: as `draw_sheet`.
      gallery: its folder, for the pictures.
      output: .json, .png, or None.
      query_crops: pictures of the queries, for the sheet.

    Raises:
      UserError: they cannot be written, or printed.
    """
    if output is None:
        terminal.say_result(_table(rows), 'Give --output=FILE.json.')
        return
    if output.suffix == '.png':
        stored = crops_by_name(gallery)
        draw_sheet(output, rows, stored, partial(crops_of, query_crops) if query_crops else stored)
    else:
        with atomic_write(output) as file:
            file.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + '\n', encoding='utf-8')
    terminal.say(f'{output}: {len(rows):,} queries.')


def _table(rows: list[dict[str, Any]]) -> Table:
    decided = any(row['decision'] for row in rows)
    table = Table()
    decision = ['decision'] if decided else []
    for column in ('query', 'rank', 'tracklet', 'distance', *decision, 'camera', 'source', 'seen at'):
        number = column in ('rank', 'distance', 'seen at')
        table.add_column(column, justify='right' if number else 'left', no_wrap=number, overflow='fold')
    for row in rows:
        said = [f'{row["query"]}: {row["decision"]}' if decided else row['query']]
        if not row['hits']:
            table.add_row(*map(terminal.printable, said), '', 'nothing found')
        for rank, hit in enumerate(row['hits'], start=1):
            time = '' if hit['start_seconds'] is None else shown(hit['start_seconds'])
            cells = [said[0] if rank == 1 else '', str(rank), hit['tracklet'], f'{hit["distance"]:.4f}']
            cells += [hit['decision']] if decided else []
            cells += [hit['camera'], hit['source'], time]
            table.add_row(*map(terminal.printable, cells), end_section=rank == len(row['hits']))
    return table
