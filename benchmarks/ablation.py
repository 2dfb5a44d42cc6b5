"""Choices against each other over several seeds: one run of main.py a choice and seed, one table.

    python benchmarks/ablation.py --config=configs/synthetic.py:twins --workdir=runs/twins --output=twins.json \\
        '3D PersonVLAD=' '2D PersonVLAD=temporal=2d' '3D average=pooling=average'

A choice is NAME=ARGUMENTS, the arguments being what follows a configuration's name (README, Choices). Flags of main.py
that all runs share follow `--`. A run that has ended is not made again, and one that was stopped resumes.
"""

import argparse
import json
import re
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from benchmarks.rows import new_file, own_path, write
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.program_errors import run_program
from pvlad_jax.core.terminal import complain, console
from pvlad_jax.evaluation import read_embeddings

MAIN = Path(__file__).resolve().parents[1] / 'main.py'


def result_of(workdir: Path) -> dict[str, float]:
    """rank_1, mAP ... of a run that has ended."""
    config = json.loads((workdir / 'config.json').read_text())
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    return result | (twins(workdir) if config['dataset.build_options'].get('twins') else {})


def twins(workdir: Path) -> dict[str, float]:
    """Shares of the queries whose nearest is the person's twin (people 2i-1 and 2i), and for which in the other cameras
    the person is nearer than the twin, however near other people are: 1/2 where nothing tells twins apart."""

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    query, gallery = (read_embeddings(workdir / 'embeddings' / f'{side}.npz') for side in ('query', 'gallery'))
    both = np.concatenate([gallery.embedding, query.embedding])
    person, camera = (np.concatenate([getattr(gallery, k), getattr(query, k)]) for k in ('person_id', 'camera_id'))
    similarity = unit(query.embedding) @ unit(both).T
    own, same_camera = person == query.person_id[:, None], camera == query.camera_id[:, None]
    twin = ((person + 1) // 2 == (query.person_id[:, None] + 1) // 2) & ~own
    nearest = np.where(own & same_camera, -np.inf, similarity).argmax(1)
    best = [np.where(kind & ~same_camera, similarity, -np.inf).max(1) for kind in (own, twin)]
    return {
        'nearest_is_twin': float(np.take_along_axis(twin, nearest[:, None], 1).mean()),
        'before_twin': float((best[0] > best[1]).mean()),
    }


def result(config: str, arguments: str, seed: int, workdir: Path, flags: list[str]) -> dict:
    """Makes the run where it has not ended, and returns its result. UserError with the reason of a run that fails."""
    file, _, given = config.partition(':')
    together = ','.join(filter(None, (given, arguments, f'seed={seed}')))
    asked = [f'--config={file}:{together}', '--config.evaluation.strips=0', *flags]
    # With these flags; with others, main.py compares the configurations and says what differs.
    ended = workdir / 'ended.json'
    if not ended.exists() or json.loads(ended.read_text()) != asked:
        run_program([sys.executable, str(MAIN), f'--workdir={workdir}', *asked], f'The run in {workdir}')
        ended.write_text(json.dumps(asked) + '\n')
    return result_of(workdir)


def row(name: str, results: list[dict]) -> dict:
    """Mean, standard deviation and each value, in %."""
    measures = [m for m in ('rank_1', 'mAP', 'nearest_is_twin', 'before_twin') if m in results[0]]
    values = {m: [100 * r[m] for r in results] for m in measures}
    return {'name': name, 'unit': '%'} | {
        m: {'mean': statistics.mean(v), 'sd': statistics.stdev(v) if len(v) > 1 else 0.0, 'each': v}
        for m, v in values.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--config', required=True, help='FILE or FILE:ARGUMENTS, what all choices share')
    parser.add_argument('--workdir', required=True, type=own_path, help='the runs go into WORKDIR/CHOICE/seedN')
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument('--at_once', type=int, default=1, help='runs side by side')
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('choices', nargs='+', metavar='NAME=ARGUMENTS')
    end = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
    options, flags = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    choices = dict(choice.partition('=')[::2] for choice in options.choices)
    seeds = [int(s) for s in options.seeds.split(',')]
    plan = [(name, seed) for seed in seeds for name in choices]
    with ThreadPoolExecutor(options.at_once) as pool:
        folders = {name: options.workdir / re.sub(r'\W+', '_', name).lower() for name in choices}
        made = {
            (name, seed): pool.submit(result, options.config, choices[name], seed, folders[name] / f'seed{seed}', flags)
            for name, seed in plan
        }
        try:
            results = {key: future.result() for key, future in made.items()}
        except UserError as error:
            pool.shutdown(cancel_futures=True)
            complain(str(error))
            return 1
    rows = [row(name, [results[name, seed] for seed in seeds]) for name in choices]
    titles = {
        'rank_1': 'rank-1 %',
        'mAP': 'mAP %',
        'nearest_is_twin': 'nearest is the twin %',
        'before_twin': 'before the twin, other cameras %',
    }
    measures = [m for m in titles if m in rows[0]]
    table = Table(title=f'{options.config}, {len(seeds)} seeds: mean ± standard deviation (each)')
    for column in ('', *(titles[m] for m in measures)):
        table.add_column(column, justify='right' if column else 'left')
    for r in rows:
        cells = [
            f'{r[m]["mean"]:.1f} ± {r[m]["sd"]:.1f} ({", ".join(f"{v:.1f}" for v in r[m]["each"])})' for m in measures
        ]
        table.add_row(r['name'], *cells)
    if options.output:
        write(options.output, rows)
    console(width=180).print(table)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
