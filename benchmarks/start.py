"""How long a training run takes to its first step, and on what: a first start, a second one, and one that resumes from
a checkpoint.

    python benchmarks/start.py --output=start.json

The demo (configs/synthetic.py, its data built before) is started in a new process each time. A first start compiles
everything into WORKDIR/compile_cache. The second start has that cache and nothing else of the run, so it makes all of
it again: data, initial weights, codebooks, evaluation of the untrained network, first step. The third resumes from the
first's checkpoint, as an interrupted run does. `--rounds` repeats them in turn. torch, which tensorboardX imports where
it is installed (1.3 s) and which the demo's requirements do not install, is hidden.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import at_least_one, child_output, draw, new_file, own_path, row, write
from pvlad_jax.core.environment_errors import one_sentence

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {'/jax/compilation_cache/cache_hits': 'fetched', '/jax/compilation_cache/cache_misses': 'compiled'}
DURATIONS = {
    '/jax/core/compile/jaxpr_trace_duration': 'tracing',
    '/jax/core/compile/jaxpr_to_mlir_module_duration': 'lowering',
    '/jax/core/compile/backend_compile_duration': 'compiling or fetching',
}
STARTS = ('first', 'second', 'resumed')
IMPORTS, REST, TOTAL = 'interpreter and imports', 'everything else', 'to the end of the first step'


class Clock:
    """(seconds, seconds of the CPU) of named stretches, each without the stretches inside it."""

    def __init__(self):
        self.spent: dict[str, tuple[float, float]] = {}
        self._inside = [(0.0, 0.0)]

    def timed(self, name: str, function):
        def run(*args, **kwargs):
            began = time.time(), time.process_time()
            self._inside.append((0.0, 0.0))
            try:
                return function(*args, **kwargs)
            finally:
                took = time.time() - began[0], time.process_time() - began[1]
                inside, outside = self._inside.pop(), self._inside.pop()
                self._inside.append((outside[0] + took[0], outside[1] + took[1]))
                before = self.spent.get(name, (0.0, 0.0))
                self.spent[name] = (before[0] + took[0] - inside[0], before[1] + took[1] - inside[1])

        return run


class Compilation:
    """What JAX tells of compilation and of its cache."""

    def __init__(self):
        import jax

        self.told = dict.fromkeys([*COUNTS.values(), *DURATIONS.values()], 0)
        jax.monitoring.register_event_listener(lambda event, **_: self._add(COUNTS.get(event), 1))
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, seconds, **_: self._add(DURATIONS.get(event), seconds)
        )

    def _add(self, name, amount) -> None:
        if name:
            self.told[name] += amount


class NoTorch:
    """An environment without torch."""

    def find_spec(self, name, path=None, target=None):
        if name == 'torch':
            raise ModuleNotFoundError('torch is hidden here')


def child(options) -> None:
    """Runs the demo to the end of its first step, writes the split as JSON, and leaves; with --save once that step is
    saved.
    """
    sys.meta_path.insert(0, NoTorch())
    from absl import flags

    import main as program
    from configs.synthetic import get_config

    flags.FLAGS.mark_as_parsed()  # Grain reads flags
    config = get_config()
    config.dataset.data_dir = options.data
    if options.save:
        config.training.checkpoint_every = 1

    import jax

    from pvlad_jax.runs import experiment
    from pvlad_jax.runs import run as job
    from pvlad_jax.runs import training_run as train

    clock, compilation, imported = Clock(), Compilation(), (time.time() - options.since, time.process_time())
    job.prepare = clock.timed('data set, network, mesh', job.prepare)
    experiment.init_state = clock.timed('initial weights', experiment.init_state)
    experiment.data_dependent_params = clock.timed('codebooks', experiment.data_dependent_params)
    evaluation = train.TrainingEvaluation
    evaluation.intermediate = clock.timed('evaluation of the untrained network', evaluation.intermediate)
    train.Checkpoints.__init__ = clock.timed('checkpoints', train.Checkpoints.__init__)
    train.Checkpoints.restore = clock.timed('checkpoints', train.Checkpoints.restore)
    make = train.make_train_step

    def make_step(*args):
        step = make(*args)

        def first(state, batch):
            if saving:  # this is the second step, and the checkpoint of the first is being written
                saving[0].wait()
                os._exit(0)
            out = clock.timed('first step', lambda: jax.block_until_ready(step(state, batch)))()
            whole, split = (time.time() - options.since, time.process_time()), {IMPORTS: imported} | clock.spent
            rest = tuple(all_of_it - sum(part) for all_of_it, part in zip(whole, zip(*split.values())))
            Path(options.report).write_text(
                json.dumps({'split': split | {REST: rest, TOTAL: whole}, 'compilation': compilation.told})
            )
            if not options.save:
                os._exit(0)
            return out

        first.lower = step.lower  # it is compiled ahead
        return first

    saving, save = [], train.Checkpoints.save
    train.Checkpoints.save = lambda self, *args: (saving.append(self), save(self, *args))
    train.make_train_step = make_step
    ahead = train.compile_ahead

    def compile_ahead(*args):
        thread = ahead(*args)
        thread.join = clock.timed('waiting for the step to be compiled', thread.join)
        return thread

    train.compile_ahead = compile_ahead
    sys.exit(program.run(config, options.workdir, 'train'))


def start(kind: str, workdir: Path, data: str) -> dict:
    with tempfile.NamedTemporaryFile(suffix='.json') as report:
        command = [sys.executable, __file__, f'--workdir={workdir}', f'--data={data}', f'--report={report.name}']
        command += [f'--since={time.time()}'] + ['--save'] * (kind == 'first')
        child_output(command, f'The run of the {kind} start', cwd=ROOT)
        about = json.loads(Path(report.name).read_text())
    cache = list((workdir / 'compile_cache').rglob('*-cache'))
    return about | {'programs': len(cache), 'megabytes': sum(p.stat().st_size for p in cache) / 2**20}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument(
        '--data',
        type=own_path,
        default='data',
        help='where the synthetic walkers lie, or are built before anything is timed',
    )
    parser.add_argument('--rounds', type=at_least_one, default=3)
    for name, kind in (('workdir', str), ('report', str), ('since', float)):
        parser.add_argument(f'--{name}', type=kind, help=argparse.SUPPRESS)
    parser.add_argument('--save', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.data = str(options.data)
    if options.workdir:
        child(options)
        return 0

    import main as program
    from configs.synthetic import get_config

    config = get_config()
    config.dataset.data_dir = options.data
    program.build(config)
    runs: dict[str, list[dict]] = {kind: [] for kind in STARTS}
    with tempfile.TemporaryDirectory() as temporary:
        for i in range(options.rounds):
            workdir = Path(temporary) / f'run{i}'
            runs['first'].append(start('first', workdir, options.data))
            checkpoint = Path(temporary) / 'saved'
            (workdir / 'checkpoints').rename(checkpoint)
            runs['second'].append(start('second', workdir, options.data))
            shutil.rmtree(workdir / 'checkpoints')
            checkpoint.rename(workdir / 'checkpoints')
            runs['resumed'].append(start('resumed', workdir, options.data))

    names = dict.fromkeys(name for kind in STARTS for run in runs[kind] for name in run['split'])
    names = [*(name for name in names if name not in ('first step', REST, TOTAL)), 'first step', REST, TOTAL]
    rows, lines = [], []
    for name in names:
        both = {
            kind: [statistics.median(run['split'].get(name, (0, 0))[i] for run in runs[kind]) for i in (0, 1)]
            for kind in STARTS
        }
        lines.append([name, *(f'{wall:.2f} ({cpu:.2f})' for wall, cpu in both.values())])
        rows += [row(f'{kind} start: {name}', wall, None, 's', cpu=cpu) for kind, (wall, cpu) in both.items()]
    last = [runs[kind][-1] for kind in STARTS]
    for what in DURATIONS.values():
        lines.append([f'of which {what}', *(f'{run["compilation"][what]:.2f}' for run in last)])
    for what, where in (('fetched', 'from the cache'), ('compiled', 'anew')):
        lines.append([f'programs {what} {where}', *(str(run['compilation'][what]) for run in last)])
    lines.append(['programs in the cache', *(f'{run["programs"]} ({run["megabytes"]:.1f} MB)' for run in last)])
    if options.output:
        write(options.output, rows, runs=runs)
    title = f'Seconds (of the CPU) to the first step of the demo; medians of {options.rounds}'
    draw(title, ['', *(f'{kind} start' for kind in STARTS)], lines, width=140)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
