"""The command line of the micro experiment, for tests that kill it: main.run with the backbone of
tests/helpers/micro.py known.

python -m tests.helpers.run_micro DATA_DIR WORKDIR [--set training.steps=8 ...] [--devices 4] [--mode train] ...
"""

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence

from tests.helpers import quick_compilation


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('data_dir')
    parser.add_argument('workdir')
    parser.add_argument('--set', nargs='*', default=[], metavar='FIELD=JSON')
    parser.add_argument('--devices', type=int, default=1)
    parser.add_argument('--mode', default='train')
    parser.add_argument('--coordinator', default='')
    parser.add_argument('--num_processes', type=int, default=0)
    parser.add_argument('--process_id', type=int, default=-1)
    parser.add_argument('--heartbeat', type=int, default=10)
    parser.add_argument('--step_seconds', type=float, default=0.0, help='time added to every training step')
    parser.add_argument('--embed_seconds', type=float, default=0.0, help='time added to every step of an evaluation')
    parser.add_argument('--corrupt', default='', help='tracklet whose frames cannot be decoded')
    parser.add_argument(
        '--file_limit', type=int, default=0, help='bytes that a file may have, as on a disk that is nearly full'
    )
    given = parser.parse_args(arguments)
    if given.file_limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_limit, given.file_limit))
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
    os.environ['XLA_FLAGS'] = quick_compilation.xla_flags(given.devices)
    from absl import flags

    import main as program

    flags.FLAGS.mark_as_parsed()
    import time

    from pvlad_jax.data.train_batches import TrainBatches
    from tests.helpers.micro import micro_config_dict

    if given.step_seconds:
        draw = TrainBatches.__getitem__
        TrainBatches.__getitem__ = lambda self, step: (time.sleep(given.step_seconds), draw(self, step))[1]
    if given.embed_seconds:
        from pvlad_jax.embedding import tracklets as embedding

        steps = embedding.eval_batches
        embedding.eval_batches = lambda *a: (time.sleep(given.embed_seconds) or step for step in steps(*a))
    if given.corrupt:
        from pvlad_jax.data import tracklet_dataset as records

        read = records.TrackletDataset.read
        records.TrackletDataset.read = lambda self, *where: records.EncodedTracklet(
            (whole := read(self, *where)).tracklet,
            [b'no image'] * len(whole.frames) if whole.tracklet == given.corrupt else whole.frames,
        )
    fields = {name: json.loads(value) for name, value in (pair.split('=', 1) for pair in given.set)}
    found_by = 'flags' if given.coordinator else 'off'
    processes = program.Processes(found_by, given.coordinator, given.num_processes, given.process_id, given.heartbeat)
    code = program.run(micro_config_dict(given.data_dir, **fields), given.workdir, given.mode, processes)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as main.py does


if __name__ == '__main__':
    main()
