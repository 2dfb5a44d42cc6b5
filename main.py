"""PersonVLAD-JAX: trains and evaluates.

    python main.py --config=configs/synthetic.py --workdir=runs/demo
    python main.py --config=configs/synthetic.py --workdir=runs/demo --mode=eval
"""

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from configs import default
from pvlad_jax.errors import EXIT_PREEMPTED, EXIT_USER_ERROR, UserError, no_room
from pvlad_jax.jobs import stop_signal
from pvlad_jax.jobs.flag_errors import parse_flags
from pvlad_jax.parallel import processes
from pvlad_jax.parallel.processes import Processes

CONFIG = config_flags.DEFINE_config_file('config', None, 'The configuration, e.g. configs/mars.py', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results of this run go')
MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval'],
                          'train (with evaluations), or eval: score the checkpoint that config.evaluation.checkpoint says')
MULTIPROCESS = flags.DEFINE_enum('multiprocess', 'auto', processes.MODES,
                                 'auto: several processes where Slurm, Open MPI, JAX_COORDINATOR_ADDRESS or a TPU machine says so; on, off')
COORDINATOR = flags.DEFINE_string('coordinator', '', 'HOST:PORT of process 0, where several processes are started by hand')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', 0, 'How many there are, with --coordinator')
PROCESS_ID = flags.DEFINE_integer('process_id', -1, 'Which of them this is, from 0, with --coordinator')
HEARTBEAT = flags.DEFINE_integer('heartbeat', 60, 'Seconds without a sign of life after which a process counts as lost', lower_bound=5)


ALONE = Processes(mode='off')


def run(config, workdir: str | Path, mode: str, several: Processes = ALONE) -> int:
    """Does the job and returns the exit code; a user's mistake is one message, not a traceback."""
    with stop_signal.listening() as stop:
        try:
            work(config, workdir, mode, several, stop)
        except UserError as error:
            return end(f'Error: {error}', EXIT_USER_ERROR)
        except stop_signal.Preempted as error:
            print(error, file=sys.stderr)
            processes.finish()
            return EXIT_PREEMPTED
        except Exception as error:
            if isinstance(error, OSError) and no_room(error):
                return end(f'Error: {no_room(error)}: {error.filename or workdir} cannot be written. Checkpoints are intact. Make room and '
                           'give the same command again.', EXIT_USER_ERROR)
            if not processes.several():
                raise
            if processes.means_lost(error):
                processes.lost(error)
            traceback.print_exc()
            processes.fail(f'{type(error).__name__}: {error}', 1)
    processes.finish()
    return 0


def end(message: str, code: int) -> int:
    if processes.several():
        processes.fail(message, code)
    print(message, file=sys.stderr)
    return code


def work(config, workdir: str | Path, mode: str, several: Processes, stop: stop_signal.StopRequest) -> None:
    # JAX and all that is slow to import come after the flags are known to be right.
    from pvlad_jax import compile_cache
    from pvlad_jax.config import Config, flatten, freeze
    from pvlad_jax.evaluation import Result
    from pvlad_jax.jobs import workdir as workdirs
    from pvlad_jax.jobs.all_splits import all_splits
    from pvlad_jax.jobs.evaluate import evaluate
    from pvlad_jax.jobs.experiment import prepare
    from pvlad_jax.jobs.train import train

    frozen = freeze(config)
    stop.grace = frozen.training.grace_seconds
    processes.start(several)
    processes.same_everywhere('configuration', json.dumps([flatten(frozen), str(workdir), mode], sort_keys=True))
    first = processes.is_first()
    folder = workdirs.folder(workdir)
    every_split = frozen.dataset.split == 'all'  # then each split has a folder of its own, which is claimed when its turn comes
    with workdirs.claim(folder) if first and not every_split else contextlib.nullcontext():
        if not every_split:
            workdirs.check_config(folder, frozen)
        if frozen.dataset.build_options:
            from data_prep.synthetic import build_synthetic

            build_synthetic(frozen.dataset.data_dir, frozen.dataset.name, **frozen.dataset.build_options)
        compile_cache.use(frozen.compile_cache, folder)

        def say(text: str) -> None:
            if first:
                print(text, flush=True)

        def run_one(config: Config, folder: workdirs.Folder) -> Result:
            workdirs.check_config(folder, config)
            stop.nothing_to_lose = not stop.asked
            return train(prepare(config), folder, say, stop) if mode == 'train' else evaluate(prepare(config), folder, say)

        if every_split:
            all_splits(frozen, folder, mode, run_one, say)
        else:
            run_one(frozen, folder)


def main(argv) -> int:
    del argv
    logging.set_verbosity(logging.WARNING)
    several = Processes(MULTIPROCESS.value, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, HEARTBEAT.value)
    code = run(CONFIG.value, WORKDIR.value, MODE.value, several)
    if code:  # threads of a save that failed would have a last word after the message
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # of XLA: errors only
    app.run(main, flags_parser=parse_flags(required=('config', 'workdir'), fields=default.get_config()))
