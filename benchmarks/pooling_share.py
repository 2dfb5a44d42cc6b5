"""What the pooling costs: training step and embedding of one configuration with several poolings, on random clips.

    python benchmarks/pooling_share.py --config=configs/mars.py:weights= --output=share.json
    python benchmarks/pooling_share.py --config=configs/mars_panels.py:weights= --poolings=average,person_vlad

The others are compared with the first pooling: a share is the part of the time that is saved where the first takes
another one's place. All run in turn, in one process; medians (ranges).
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
from absl import app, flags
from interleaved import Times, interleaved
from ml_collections import ConfigDict, config_flags
from random_batch import random_batch
from timed_network import TimedNetwork

from benchmarks.rows import draw, new_file, row, write
from pvlad_jax.config import Config, freeze
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import say
from pvlad_jax.launch.flags import parse_flags
from pvlad_jax.parallel.mesh import global_batch, make_mesh

CONFIG = config_flags.DEFINE_config_file('config')
CHOSEN = flags.DEFINE_list('poolings', ['average', 'part_attention', 'person_vlad'], 'Names, by commas')
ROUNDS = flags.DEFINE_integer('rounds', 10, 'Timed runs of each', lower_bound=1)
OUTPUT = flags.DEFINE_string('output', '', 'JSON file for the rows')
WITH_PARTS = ('part_attention', 'person_vlad')


def with_pooling(config: ConfigDict, pooling: str) -> Config:
    config = config.copy_and_resolve_references()
    config.model.pooling = pooling
    config.model.position_term = config.model.position_term and pooling in WITH_PARTS
    return freeze(config)


def compiled(config: Config, batch: dict, mesh: jax.sharding.Mesh) -> TimedNetwork:
    network = TimedNetwork(config, batch, mesh)
    network.compile_embedding()
    return network


def rows_of(what: str, times: dict[str, Times], tracklets: int) -> list[dict]:
    """One for each pooling; `ratio` is the first one's time divided by its own."""
    first = next(iter(times.values())).median
    return [
        row(
            f'{what}, {name}',
            tracklets / t.median,
            tracklets / first,
            'tracklets/s',
            first / t.median,
            milliseconds=[1000 * x for x in (t.median, min(t.wall), max(t.wall))],
        )
        for name, t in times.items()
    ]


def show(rows: list[dict], title: str) -> None:
    lines = []
    for r in rows:
        median, least, most = r['milliseconds']
        lines.append(
            [r['name'], f'{median:.1f}', f'{least:.1f} - {most:.1f}', f'{r["ours"]:.1f}', f'{1 - r["ratio"]:.1%}']
        )
    draw(title, ['', 'ms', '(spread)', 'tracklets/s', f'share beside {CHOSEN.value[0]}'], lines)


def _output() -> Path | None:
    try:
        return new_file(OUTPUT.value) if OUTPUT.value else None
    except argparse.ArgumentTypeError as error:
        raise UserError(f'--output={error}') from error


def main(_) -> None:
    with one_sentence():
        output = _output()  # refused before anything is measured
        configs = {name: with_pooling(CONFIG.value, name) for name in CHOSEN.value}
        config, mesh = next(iter(configs.values())), make_mesh()
        batch = global_batch(random_batch(config), mesh)
        with ThreadPoolExecutor() as pool:  # XLA compiles one program on one core
            sides = dict(zip(configs, pool.map(lambda config: compiled(config, batch, mesh), configs.values())))
        rows = []
        for what, run in (('training step', 'step'), ('embedding', 'embed')):
            times = interleaved({name: getattr(side, run) for name, side in sides.items()}, ROUNDS.value)
            rows += rows_of(what, times, config.batch.size)
        c, device = config.clips, jax.devices()[0]
        clips = f'{config.batch.size} tracklets of {c.segments} x {c.frames} x {c.height} x {c.width}'
        title = f'{config.model.backbone.name}, {clips}, {config.model.dtype}; {device.device_kind}'
        show(rows, title)
        peak = (device.memory_stats() or {}).get('peak_bytes_in_use')
        if peak:
            say(f'Most memory in use on the device: {peak / 2**30:.1f} GiB.')
        if output:
            write(output, rows, about={'title': title, 'jax': jax.__version__, 'peak_bytes': peak})


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags(lambda: ('config',), Config))
