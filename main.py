"""PersonVLAD-JAX: trains and evaluates.

python main.py --config=configs/synthetic.py --workdir=runs/demo
python main.py --workdir=runs/demo --mode=eval
python main.py --workdir=runs/demo --mode=export
python main.py --workdir=runs/demo --mode=report
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from pvlad_jax.config import Config
from pvlad_jax.config.data_set_names import is_join
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.launch.distributed import MODES, Processes
from pvlad_jax.launch.exit import exit_code
from pvlad_jax.launch.flags import given_fields, given_value, parse_flags

FROM_WORKDIR = ('eval', 'export', 'report')  # modes that need no --config

CONFIG = config_flags.DEFINE_config_file(
    'config',
    None,
    lock_config=True,
    help_string=(
        'The configuration, e.g. configs/mars.py; where --mode=eval, export or report is given without it, that of the '
        'run in --workdir'
    ),
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results of this run go')
MODE = flags.DEFINE_enum(
    'mode',
    'train',
    ['train', *FROM_WORKDIR],
    'train (with evaluations); eval: score the checkpoint that config.evaluation.checkpoint says; export: write its '
    'network as a folder for other programs (docs/export.md); report: write the result as a page (docs/report.md)',
)
OUTPUT = flags.DEFINE_string(
    'output',
    None,
    'With --mode=eval: where results go; with --mode=export or report: the folder, instead of '
    'WORKDIR/export, WORKDIR/report. --workdir is then only read',
)
MULTIPROCESS = flags.DEFINE_enum(
    'multiprocess',
    'auto',
    MODES,
    'auto: several processes where Slurm, Open MPI, JAX_COORDINATOR_ADDRESS or a TPU machine says so; on, off',
)
COORDINATOR = flags.DEFINE_string(
    'coordinator', '', 'HOST:PORT of process 0, where several processes are started by hand'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', 0, 'How many there are, with --coordinator')
PROCESS_ID = flags.DEFINE_integer('process_id', -1, 'Which of them this is, from 0, with --coordinator')
HEARTBEAT = flags.DEFINE_integer(
    'heartbeat', 60, 'Seconds without a sign of life after which a process counts as lost', lower_bound=5
)


def build(config) -> None:
    """Makes the synthetic walkers on first use, where they are the whole data set. The one place where data preparation
    and training meet.
    """
    if config.dataset.build_options and not is_join(config.dataset.name):
        from data_prep.builder.build import build as build_dataset
        from data_prep.datasets.synthetic import scan_synthetic

        # Processes that start together all come here: one builds, the others wait.
        build_dataset(
            scan_synthetic(config.dataset.name, **config.dataset.build_options),
            config.dataset.data_dir,
            wait=True,
            remedy='Give another --config.dataset.name; or, in config.dataset.build_options of the configuration file, '
            'the options that it was built with; or remove it, and it is built anew.',
        )


def run(
    config,
    workdir: str | Path,
    mode: str,
    several: Processes = Processes(mode='off'),  # noqa: B008  a constant
    given: Sequence[str] = (),
    output: str | Path | None = None,
) -> int:
    """Does the job and returns the exit code; a user's mistake is one message, not a traceback."""

    quiet_libraries()

    def job(stop) -> None:
        # JAX and all that is slow to import come after the flags are known to be right.
        from pvlad_jax.runs.run import work

        work(config, workdir, mode, several, stop, build, given, output)

    return exit_code(job)


def with_saved_config(argv: list[str]) -> list[str]:
    """The arguments, and for modes of FROM_WORKDIR without --config the configuration of the run in --workdir."""
    workdir = given_value(argv, 'workdir')
    if given_value(argv, 'config') is not None or given_value(argv, 'mode') not in FROM_WORKDIR or not workdir:
        return argv
    return [argv[0], f'--config={Path(__file__).resolve().parent / "configs" / "run.py"}:{workdir}', *argv[1:]]


def required_flags() -> tuple[str, ...]:
    """What must be given; modes of FROM_WORKDIR find the configuration in --workdir, which is then all that lacks."""
    return ('workdir',) if MODE.value in FROM_WORKDIR and not WORKDIR.value else ('config', 'workdir')


def main(_argv) -> int:
    several = Processes(MULTIPROCESS.value, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, HEARTBEAT.value)
    code = run(CONFIG.value, WORKDIR.value, MODE.value, several, given_fields(sys.argv, Config), OUTPUT.value)
    if code:  # threads of a save that failed would have a last word after the message
        os._exit(code)  # every line was flushed when it was printed
    return code


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags(required_flags, Config, with_saved_config))
