"""The mean of the results of all splits of a benchmark, and its table."""

import dataclasses

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import console, printable
from pvlad_jax.evaluation.result import COUNTS, METRICS, Result, skipped_of, trained_on

# Fields of a result that differ from split to split.
_SIZES = ('n_query', 'n_query_valid', 'n_gallery', 'n_junk')
_OF_A_SPLIT = {*METRICS.values(), *COUNTS, *_SIZES, 'cmc', 'split', 'step', 'checkpoint'}
STD = 'sample standard deviation over the splits (n - 1)'


def mean_of_splits(results: dict[str, dict]) -> dict:
    """Mean and standard deviation of the splits' results (`Result.to_json()`), and the results themselves.

    Metrics at the top are the means. What results say of themselves (protocol, distance...) must be the same in all;
    UserError where not.
    """
    conditions = [f.name for f in dataclasses.fields(Result) if f.name not in _OF_A_SPLIT]
    first = next(iter(results.values()))
    differing = [name for name in conditions if any(r.get(name) != first.get(name) for r in results.values())]
    if differing:
        raise UserError(
            f'The splits were not scored alike: {", ".join(differing)} differ. Score them again, with --mode=eval.'
        )
    values = {name: np.array([r[name] for r in results.values()]) for name in METRICS.values()}
    return {
        **{name: first.get(name) for name in conditions},
        'split': f'mean of {len(results)} splits',
        'std_kind': STD,
        **{name: float(v.mean()) for name, v in values.items()},
        'mean': {name: float(v.mean()) for name, v in values.items()},
        'std': {name: float(v.std(ddof=1)) for name, v in values.items()},
        **{name: sum(r.get(name, 0) for r in results.values()) for name in COUNTS},
        'cmc': np.mean([r['cmc'] for r in results.values()], axis=0).tolist(),
        'splits': results,
    }


def print_mean(report: dict) -> None:
    """A row a split, then mean and standard deviation, in per cent."""
    from rich.table import Table
    from rich.text import Text

    shown = {'rank-1': 'rank_1', 'rank-5': 'rank_5', 'rank-10': 'rank_10', 'rank-20': 'rank_20', 'mAP': 'mAP'}
    title = ' '.join(filter(None, [report['dataset'], 'PARTIAL DATA' if report['partial'] else '']))
    table = Table(title=Text(printable(title)))
    for name in ('split', *shown, 'queries', 'step'):
        table.add_column(name, justify='right')
    for name, r in report['splits'].items():
        queries = f'{r["n_query_valid"]} of {r["n_query"]}'
        table.add_row(name, *(f'{100 * r[m]:.2f}' for m in shown.values()), queries, str(r['step']))
    table.add_section()
    for name in ('mean', 'std'):
        table.add_row(name, *(f'{100 * report[name][m]:.2f}' for m in shown.values()), '', '')
    said = [
        f'protocol {report["protocol"]}',
        report['convention'],
        f'distance {report["distance"]}' + (', re-ranked' if report['rerank'] else ''),
        f'frames {report["frames"]}',
        f'unknown cameras: {report["unknown_cameras"]}' if report['unknown_cameras'] != 'refuse' else '',
        f'std: {STD}',
        skipped_of(report),
        trained_on(report),
    ]
    table.caption = Text(printable('; '.join(filter(None, said))))
    console().print(table)
