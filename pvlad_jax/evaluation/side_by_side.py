"""Results of one network on several data sets, in one table."""

from collections.abc import Mapping
from typing import Any

from pvlad_jax.core.terminal import console, printable
from pvlad_jax.evaluation.result import protocol_line

SHOWN = {'rank-1': 'rank_1', 'rank-5': 'rank_5', 'rank-10': 'rank_10', 'mAP': 'mAP', 'mINP': 'mINP'}


def print_side_by_side(results: Mapping[str, Mapping[str, Any]], mean: Mapping[str, Any] | None = None) -> None:
    """A row a data set, in per cent, and below them what each was measured by.

    results: by name, as `Result.to_json` gives them; those of former versions may lack fields.
    mean: over the data sets, for a last row.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column('data set', no_wrap=True)
    for metric in SHOWN:
        table.add_column(metric, justify='right')
    for name, result in [*results.items(), *([('mean', mean)] if mean else [])]:
        if result is mean:
            table.add_section()
        values = (f'{100 * result[metric]:.2f}' if metric in result else '' for metric in SHOWN.values())
        table.add_row(Text(printable(name)), *values)
    screen = console()
    screen.print(table)
    for name, result in results.items():
        partial = 'PARTIAL DATA; ' if result.get('partial') else ''
        screen.print(Text(printable(f'{name}, {result.get("split", "")}: {partial}{_measured(result)}')))


def _measured(result: Mapping[str, Any]) -> str:
    try:
        return protocol_line(result)
    except KeyError:  # a former version's, or a mean of splits
        return f'protocol {result.get("protocol", "unknown")}'
