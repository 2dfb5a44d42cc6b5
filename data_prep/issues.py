"""What is wrong with a raw data set, grouped by kind, so that a million missing frames make a message of a few
lines."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from data_prep.raw_dataset import RawDataset
from pvlad_jax.core.errors import UserError

_ITEMS_SHOWN = 8
_LINES_SHOWN = 30


class Issues:
    """Collects (what is wrong, where) pairs; `lines()` gives one sentence a kind, in the order of first appearance."""

    def __init__(self):
        self._items: dict[str, list[str]] = {}

    def add(self, what: str, item: str) -> None:
        self._items.setdefault(what, []).append(item)

    def extend(self, what: str, items: Iterable[str]) -> None:
        if items := list(items):
            self._items.setdefault(what, []).extend(items)

    def lines(self) -> list[str]:
        return [f'{what} ({len(items):,}): {shortened(items)}' for what, items in self._items.items()]

    def __bool__(self) -> bool:
        return bool(self._items)


def shortened(items: Sequence[str]) -> str:
    """'a, b, c and 12 more'."""
    more = len(items) - _ITEMS_SHOWN
    return ', '.join(items[:_ITEMS_SHOWN]) + (f' and {more:,} more' if more > 0 else '')


def require_complete(raw: RawDataset, allow_partial: bool) -> RawDataset:
    """Returns the data set as it may be built: itself where it is whole, marked and renamed '_partial' where that is
    allowed.

    Raises UserError with the list of differences otherwise. Contradictions (a table that does not describe the files, a
    wrong query list) are refused even then: what they would make of the protocol is wrong, not partial.
    """
    differences = list(raw.issues) + [
        f'{c.name}: expected {_number(c.expected)}, found {_number(c.found)}' for c in raw.checks if not c.holds
    ]
    if raw.inconsistencies:
        raise UserError(
            _message(f'The source of {raw.name} contradicts itself:', [*raw.inconsistencies, *differences], '')
        )
    if not differences:
        return raw
    if not allow_partial:
        remedy = f'Complete the source, or use --allow_partial to build it as {raw.name}_partial.'
        raise UserError(_message(f'The source of {raw.name} differs from what is documented:', differences, remedy))
    metadata = dict(raw.metadata) | {'partial': True, 'differences': differences}
    return replace(raw, name=f'{raw.name}_partial', metadata=metadata)


def _message(head: str, lines: list[str], tail: str) -> str:
    shown = lines[:_LINES_SHOWN]
    if len(lines) > len(shown):
        shown.append(f'and {len(lines) - len(shown)} more differences')
    return '\n  '.join([head, *shown]) + (f'\n{tail}' if tail else '')


def _number(value: int | float | str) -> str:
    return f'{value:,}' if isinstance(value, int) else str(value)
