"""PersonVLAD-JAX: trains and evaluates.

    python main.py --config=configs/synthetic.py --workdir=runs/demo
    python main.py --config=configs/synthetic.py --workdir=runs/demo --mode=eval
"""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import default
from pvlad_jax.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.jobs.flag_errors import parse_flags

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: saved and stopped on request; the same command goes on

CONFIG = config_flags.DEFINE_config_file('config', None, 'The configuration, e.g. configs/mars.py', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results of this run go')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval'], 'train (with evaluations), or eval: score the last checkpoint')


def run(config, workdir: Path, mode: str) -> int:
    """Does the job and returns the exit code; a user's mistake is one message, not a traceback."""
    from pvlad_jax.config import freeze  # JAX and all that is slow to import come after the flags are known to be right
    from pvlad_jax.jobs import workdir as workdirs
    from pvlad_jax.jobs.evaluate import evaluate
    from pvlad_jax.jobs.experiment import prepare
    from pvlad_jax.jobs.train import Preempted, train

    try:
        frozen = freeze(config)
        with workdirs.claim(workdir):
            workdirs.check_config(workdir, frozen)
            if frozen.dataset.build_options:
                from data_prep.synthetic import build_synthetic

                build_synthetic(frozen.dataset.data_dir, frozen.dataset.name, **frozen.dataset.build_options)
            {'train': train, 'eval': evaluate}[mode](prepare(frozen), workdir, lambda text: print(text, flush=True))
    except UserError as error:
        print(f'Error: {error}', file=sys.stderr)
        return EXIT_USER_ERROR
    except Preempted as stop:
        print(stop, file=sys.stderr)
        return EXIT_PREEMPTED
    return 0


def main(argv) -> int:
    del argv
    logging.set_verbosity(logging.WARNING)
    return run(CONFIG.value, Path(WORKDIR.value).expanduser().absolute(), MODE.value)


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # of XLA: errors only
    app.run(main, flags_parser=parse_flags(required=('config', 'workdir'), fields=default.get_config()))
