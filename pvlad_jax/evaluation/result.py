"""The result of an evaluation: its numbers with everything that must be reported with them, as JSON and as a printed
table.
"""

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from typing import Any, TypedDict, get_type_hints

import msgspec

from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.saved_files import Finite, Int64, json_object
from pvlad_jax.core.terminal import console as terminal_console
from pvlad_jax.core.terminal import printable
from pvlad_jax.evaluation.cmc_map import TIE_RULE

# What people call the metrics, and the fields of a result.
METRICS = {
    'rank-1': 'rank_1',
    'rank-5': 'rank_5',
    'rank-10': 'rank_10',
    'rank-20': 'rank_20',
    'mAP': 'mAP',
    'mAP trapezoidal': 'mAP_trapezoidal',
    'mINP': 'mINP',
}
COUNTS = ('skipped_query', 'skipped_gallery', 'skipped_train', 'trained_people')  # which add over results
MAIN_METRICS = {name: field for name, field in METRICS.items() if name != 'mAP trapezoidal'}
AP_KIND = 'mAP: mean precision at the good tracklets; mAP_trapezoidal: as the official MARS code'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Metrics are fractions, 0 to 1, over the valid queries."""

    dataset: str
    split: str
    protocol: str
    step: Int64 | None  # of training; None = unknown
    n_query: Int64
    n_query_valid: Int64  # queries with at least one good tracklet
    n_gallery: Int64  # as the protocol makes it up
    n_junk: Int64  # of these, tracklets of person -1, ignored by all
    frames: str  # frame policy of the embeddings: 'all', 'even:N', 'every:N', 'first:N'
    distance: str
    rerank: bool
    mAP: Finite
    mAP_trapezoidal: Finite
    mINP: Finite
    rank_1: Finite
    rank_5: Finite
    rank_10: Finite
    rank_20: Finite
    cmc: list[Finite]  # ranks 1 to 50
    ap_kind: str = AP_KIND
    tie_rule: str = TIE_RULE
    unknown_cameras: str = 'refuse'
    checkpoint: str = ''  # which one of a run: 'last', or 'best' and how that was chosen
    convention: str = ''  # such as which half of a split is test
    partial: bool = False  # the data set lacks something of the benchmark
    # Tracklets that could not be decoded (config.input.on_error = 'skip'): in none of the counts above, neither asked
    # for nor searched.
    skipped_query: Int64 = 0
    skipped_gallery: Int64 = 0
    skipped_train: Int64 = 0  # for distances learned on the training set
    trained_people: Int64 = 0  # people of the test set whom the network was trained on, as far as that is known

    def to_json(self) -> dict:
        return dataclasses.asdict(self)


# Of a former version, or a mean.
PartialResult = TypedDict('PartialResult', get_type_hints(Result, include_extras=True), total=False)


def skipped_of(result: Mapping[str, Any]) -> str:
    """'LEFT OUT, cannot be decoded: 1 query, 2 gallery tracklet(s)', from a result's fields; '' where nothing was."""
    fields = {'query': 'skipped_query', 'gallery': 'skipped_gallery', 'training': 'skipped_train'}
    named = [f'{result[field]} {kind}' for kind, field in fields.items() if result[field]]
    return f'LEFT OUT, cannot be decoded: {", ".join(named)} tracklet(s)' if named else ''


def trained_on(result: Mapping[str, Any]) -> str:
    """'TRAINED ON 3 of the test people', from a result's fields; '' where none is known.

    Former versions did not know.
    """
    count = result.get('trained_people', 0)
    return f'TRAINED ON {count} of the test people' if count else ''


def protocol_line(result: Mapping[str, Any]) -> str:
    """What the metrics were measured by, from a result's fields: protocol, queries, gallery, distance, frames,
    checkpoint.
    """
    conditions = [
        f'protocol {result["protocol"]}',
        f'{result["n_query_valid"]} of {result["n_query"]} queries valid',
        f'gallery {result["n_gallery"]}' + (f' ({result["n_junk"]} junk)' if result['n_junk'] else ''),
        f'distance {result["distance"]}' + (', re-ranked' if result['rerank'] else ''),
        f'frames {result["frames"]}' if result['frames'] else '',
        result['convention'],
        f'step {result["step"]}' if result['step'] is not None else '',
        f'checkpoint {result["checkpoint"]}' if result['checkpoint'] else '',
        f'unknown cameras: {result["unknown_cameras"]}' if result['unknown_cameras'] != 'refuse' else '',
        skipped_of(result),
        trained_on(result),
    ]
    return '; '.join(filter(None, conditions))


def write_result(path: str | PathLike, result: Result) -> None:
    """Writes JSON; a reader sees the old file or the whole new one."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(result.to_json(), indent=2, allow_nan=False) + '\n')


def read_result(path: Any) -> dict[str, Any] | None:
    """The fields of a result (a pathlib.Path or epath.Path), with the defaults of those that came later; None where
    there is no whole result of one evaluation."""
    try:
        return with_defaults(json_object(path.read_bytes()))
    except (OSError, ValueError):
        return None


def with_defaults(saved: Any) -> dict[str, Any]:
    """The fields of a result with the defaults of those that came later. ValueError where one is missing that has none,
    or is of another type."""
    return msgspec.convert(saved, Result).to_json()


def print_table(result: Result, console: Any = None) -> None:
    """Metrics in per cent, and below them what they were measured by.

    Write results first: a table that cannot be printed is given up.
    """
    from rich.table import Table
    from rich.text import Text

    title = ' '.join(filter(None, [result.dataset, result.split, 'PARTIAL DATA' if result.partial else '']))
    table = Table(title=Text(printable(title)) if title else None)
    for name in METRICS:
        table.add_column(name, justify='right')
    table.add_row(*(f'{100 * getattr(result, field):.2f}' for field in METRICS.values()))
    table.caption = Text(printable(protocol_line(result.to_json())))
    (console or terminal_console()).print(table)
