"""Results of choices over seeds: mean, standard deviation, and differences paired by seed.

Runs of one seed share the order of batches and the augmentation, so a difference within a seed varies less than the
results do. Its 95 % interval is Student's t over the seeds; it assumes that differences are about normal, and says
little with two or three seeds.
"""

import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from benchmarks.rows import draw

MEASURES = {
    'rank_1': 'rank-1 %',
    'mAP': 'mAP %',
    'nearest_is_twin': 'nearest is the twin %',
    'before_twin': 'before the twin, other cameras %',
}
Results = Mapping[int, Mapping[str, float]]  # seed -> measure -> share


def spread(values: Sequence[float]) -> dict:
    """Mean, standard deviation (None of one value) and each value."""
    return {
        'mean': statistics.mean(values),
        'sd': statistics.stdev(values) if len(values) > 1 else None,
        'each': list(values),
    }


def paired(ours: Results, baseline: Results, measure: str) -> dict | None:
    """Differences to the baseline within each seed that both have, in points of %: `spread`, `interval` (95 %, None of
    fewer than two seeds) and how many are above 0. None without a common seed."""
    seeds = sorted(set(ours) & set(baseline))
    if not seeds:
        return None
    differences = [100 * (ours[s][measure] - baseline[s][measure]) for s in seeds]
    interval = None
    if len(seeds) > 1:
        half = stats.t.ppf(0.975, len(seeds) - 1) * statistics.stdev(differences) / len(seeds) ** 0.5
        mean = statistics.mean(differences)
        interval = [mean - half, mean + half]
    return {'seeds': seeds, **spread(differences), 'interval': interval, 'above': sum(d > 0 for d in differences)}


def compare(results: Mapping[str, Results], baseline: str) -> list[dict]:
    """A row a choice: {"name", "unit", "seeds", measure: `spread` with "difference": `paired`}. A choice without any
    result has an empty list of seeds and no measures."""
    rows = []
    for name, of_seeds in results.items():
        row = {'name': name, 'unit': '%', 'seeds': sorted(of_seeds)}
        for measure in MEASURES:
            if of_seeds and all(measure in r for r in of_seeds.values()):
                row[measure] = spread([100 * of_seeds[s][measure] for s in row['seeds']])
                if name != baseline and all(measure in r for r in results[baseline].values()):
                    row[measure]['difference'] = paired(of_seeds, results[baseline], measure)
        rows.append(row)
    return rows


def cells(row: Mapping, measure: str) -> tuple[str, str]:
    """What a table says of a measure: 'mean ± deviation (each)'; of its difference 'mean [interval] above/seeds'."""
    if measure not in row:
        return 'no result', ''
    of = row[measure]
    deviation = '' if of['sd'] is None else f' ± {of["sd"]:.1f} ({", ".join(f"{v:.1f}" for v in of["each"])})'
    difference = of.get('difference')
    if not difference:
        return f'{of["mean"]:.1f}{deviation}', ''
    interval = difference['interval']
    around = '' if interval is None else f' [{interval[0]:+.1f}, {interval[1]:+.1f}]'
    return (
        f'{of["mean"]:.1f}{deviation}',
        f'{difference["mean"]:+.1f}{around} {difference["above"]}/{len(difference["seeds"])}',
    )


def columns_of(rows: Sequence[Mapping], baseline: str) -> tuple[list[str], list[list[str]]]:
    """(headings, cells) of the table: a column a measure that any row has, and one of differences where there are
    several choices."""
    measures = [m for m in MEASURES if any(m in row for row in rows)]
    headings, body = [''], [[row['name']] for row in rows]
    for measure in measures:
        headings += [MEASURES[measure]] + [f'- {baseline}'] * (len(rows) > 1)
        for line, row in zip(body, rows):
            line.extend(cells(row, measure)[: 1 + (len(rows) > 1)])
    return headings, body


def show(rows: Sequence[Mapping], baseline: str, title: str) -> None:
    draw(title, *columns_of(rows, baseline), width=220)


def markdown(rows: Sequence[Mapping], baseline: str, title: str) -> str:
    headings, body = columns_of(rows, baseline)
    lines = [headings, ['---'] + ['---:'] * (len(headings) - 1), *body]
    return f'{title}\n\n' + ''.join(f'| {" | ".join(cell or " " for cell in line)} |\n' for line in lines)
