"""PersonVLAD-JAX: trains and evaluates.

    python main.py --config=configs/synthetic.py --workdir=runs/demo
    python main.py --config=configs/synthetic.py --workdir=runs/demo --mode=eval
"""

import os
import sys
from pathlib import Path

import rich
from absl import app, flags
from ml_collections import config_flags

from pvlad_jax.errors import EXIT_USER_ERROR, UserError

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: saved and stopped on request; the same command goes on

CONFIG = config_flags.DEFINE_config_file('config', None, 'The configuration, e.g. configs/mars.py', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results of this run go')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval'], 'train (with evaluations), or eval: score the last checkpoint')


def say(what) -> None:
    """A line of text, or a table."""
    if isinstance(what, str):
        print(what, flush=True)
    else:
        rich.print(what)


def main(argv) -> None:
    from pvlad_jax.config import freeze
    from pvlad_jax.jobs import workdir as workdirs
    from pvlad_jax.jobs.evaluate import evaluate
    from pvlad_jax.jobs.experiment import prepare
    from pvlad_jax.jobs.train import Preempted, train

    if len(argv) > 1:
        raise app.UsageError(f'Unknown argument {argv[1]!r}.')
    try:
        config, workdir = freeze(CONFIG.value), Path(WORKDIR.value).absolute()
        lock = workdirs.claim(workdir)  # noqa: F841  held until the process ends
        workdirs.check_config(workdir, config)
        if config.dataset.build_options:
            from data_prep.synthetic import build_synthetic

            build_synthetic(config.dataset.data_dir, config.dataset.name, **config.dataset.build_options)
        {'train': train, 'eval': evaluate}[MODE.value](prepare(config), workdir, say)
    except UserError as error:
        print(f'Error: {error}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Preempted as stop:
        print(stop, file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # of XLA: errors only
    flags.mark_flags_as_required(['config', 'workdir'])
    app.run(main)
