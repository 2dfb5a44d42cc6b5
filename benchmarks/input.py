"""The training input against a PyTorch DataLoader with PIL transforms, its cost as the data set grows, and how long
training waits for it.

    python benchmarks/input.py --output=input.json

Both sides read the same JPEG frames (synthetic walkers at MARS's 256x128 and about its bytes a frame), ours from
ArrayRecord, the DataLoader from files, and make the same batches (people x tracklets x clips x frames, same rows, same
augmentation settings of configs/mars.py), on one core, and on all. Each runs in a process of its own, in turn, and
medians are compared. CPU seconds are given as well, since they are the same on a machine that does other work. Before
anything is timed, the pictures of both are compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.input_data import NAME, make_data
from benchmarks.rows import at_least_one, child_output, need, new_file, own_path, repeated_row, row, show, write
from pvlad_jax.core.environment_errors import one_sentence

SIDES = {
    'ours': '',
    'peer': 'DataLoader',
    'peer_uint8': 'DataLoader that leaves normalising to the device, as ours does',
}


def configuration(folder: Path, options, cores: int):
    from configs.mars import get_config
    from pvlad_jax.config import freeze

    c = get_config()
    c.clips.frames, c.augment.channel = 16, 0.0  # long clips; the peer changes no channels
    c.dataset.name, c.dataset.data_dir = NAME, str(folder)
    c.batch.identities, c.batch.tracklets = options.people, options.tracklets
    c.input.threads, c.input.prefetch = cores, 2
    return freeze(c)


class Worker:
    """What a process of one side does: passes over batches first..last-1."""

    def __init__(self, side: str, folder: Path, options, cores: int, augment: bool = True):
        from pvlad_jax.data.partition import partition
        from pvlad_jax.data.tracklet_dataset import TrackletDataset
        from pvlad_jax.data.train_batches import TrainBatches

        config = configuration(folder, options, cores)
        dataset = TrackletDataset.open(config.dataset.data_dir, NAME)
        self.ours = TrainBatches(dataset, partition(dataset).train, config, augment=augment)
        self.loader = None
        if side != 'ours':
            import torch

            from benchmarks.pil_loader import Rows, TrackletFiles, data_loader

            torch.set_num_threads(cores)
            paths = [sorted(map(str, (folder / 'files' / name).iterdir())) for name in self.ours.train.tracklet]
            files = TrackletFiles(paths, self.ours.identities.labels, config, side == 'peer', augment)
            self.rows = Rows(self.ours.identities)
            self.loader = data_loader(files, self.rows, cores if cores > 1 else 0)

    def batches(self, first: int, last: int):
        """(clips, valid) of each."""
        if self.loader is None:
            return ((batch['clips'], batch['valid']) for batch in self.ours.iterator(first, last))
        self.rows.steps = range(first, last)
        return ((clips, valid) for clips, valid, _ in self.loader)

    def timed(self, first: int, last: int) -> dict[str, float]:
        began, cpu, frames, tracklets = time.perf_counter(), time.process_time(), 0, 0
        for _, valid in self.batches(first, last):
            frames += int(valid.sum())
            tracklets += len(valid)
        return {
            'seconds': time.perf_counter() - began,
            'cpu': time.process_time() - cpu,
            'frames': frames,
            'tracklets': tracklets,
        }


def child(options) -> None:
    """Answers 'FIRST LAST' on stdin with a line of JSON, until the end of stdin."""
    if options.cores == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    worker = Worker(options.side, Path(options.folder), options, options.cores)
    for line in sys.stdin:
        print(json.dumps(worker.timed(*map(int, line.split()))), flush=True)


def check_same_pictures(folder: Path, options) -> None:
    """Ends the command where the two sides do not read the same frames into the same places."""
    import numpy as np

    ((ours, valid),) = Worker('ours', folder, options, 2, augment=False).batches(0, 1)
    ((peer, peer_valid),) = Worker('peer_uint8', folder, options, 1, augment=False).batches(0, 1)
    differ = np.abs(ours.astype(int) - np.moveaxis(peer.numpy(), 3, -1))
    # Two builds of libjpeg may round differently.
    if (valid != peer_valid.numpy()).any() or differ.mean() > 1 or differ.max() > 16:
        sys.exit(
            f'The two sides do not give the same frames: they differ by {differ.mean():.2f} on average, {differ.max()} '
            'at most.'
        )


def measure(folder: Path, options, cores: int) -> dict[str, list[dict[str, float]]]:
    """Rounds of each side, in turn. With several cores a round is longer, so that every worker has batches to make."""
    sizes = [f'--cores={cores}', f'--people={options.people}', f'--tracklets={options.tracklets}']
    command = [sys.executable, __file__, f'--folder={folder}', *sizes]
    piped = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    threads = {name: '1' for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')} if cores == 1 else {}
    children = {
        side: subprocess.Popen([*command, f'--side={side}'], env=os.environ | threads, **piped) for side in SIDES
    }
    batches = 1 if cores == 1 else 2 * cores
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for i in range(options.rounds + 1):
        for side, process in children.items():
            process.stdin.write(f'{i * batches} {(i + 1) * batches}\n')
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f'The process of {side} has ended before its time; its message stands above.')
            if i:  # the first round opens files and starts workers
                rounds[side].append(json.loads(answer))
    for process in children.values():
        process.stdin.close()
        process.wait()
    return rounds


def speed_rows(folder: Path, options) -> list[dict]:
    rows = []
    every = len(os.sched_getaffinity(0))
    for cores in sorted({1, every}):
        rounds = measure(folder, options, cores)
        where = 'one core' if cores == 1 else f'all {cores} cores'
        for side in ('peer', 'peer_uint8'):
            for what, per in (('frames', 'seconds'), ('tracklets', 'seconds'), ('frames', 'cpu')):
                # Workers' CPU time is known to them alone.
                if (what == 'tracklets' and side != 'peer') or (per == 'cpu' and cores > 1):
                    continue
                unit = f'{what}/s' if per == 'seconds' else f'{what}/CPU s'
                ours, peer = ([r[what] / r[per] for r in rounds[s]] for s in ('ours', side))
                name = f'{where}: {what} against {SIDES[side]}'
                rows.append(repeated_row(name, ours, peer, unit, less_is_better=False))
    return rows


def waiting_row(folder: Path, steps: int) -> dict:
    """A short training run, as its user would start it; what its metrics say of waiting."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as workdir:
        settings = {
            'dataset.name': NAME,
            'dataset.data_dir': folder,
            'training.steps': steps,
            'training.log_every': max(1, steps // 3),
            'training.eval_every': 0,
            'training.eval_untrained': False,
            'evaluation.strips': 0,
            'batch.identities': 8,
        }
        command = [sys.executable, 'main.py', '--config=configs/tracklet_folder.py:pooling=average']
        command += [f'--workdir={workdir}', *(f'--config.{name}={value}' for name, value in settings.items())]
        child_output(command, 'The training run', cwd=root)
        lines = [json.loads(line) for line in (Path(workdir) / 'metrics.jsonl').read_text().splitlines()]
    last = [line for line in lines if line['kind'] == 'train'][-1]
    name = f'time that training waits for input ({steps} steps of r3d_tiny, configs/tracklet_folder.py)'
    return row(name, 100 * last['input_wait'], None, '%')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument(
        '--folder',
        type=own_path,
        help='where the data are made, and kept for the next time; empty = a temporary folder',
    )
    parser.add_argument('--people', type=int, default=8, help='of a batch; also P of P x K')
    parser.add_argument('--tracklets', type=int, default=4, help='of each of them in a batch')
    parser.add_argument('--rounds', type=at_least_one, default=5)
    parser.add_argument(
        '--records', default='1000,10000,100000,1000000', help='sizes of data sets for the cost of growth'
    )
    parser.add_argument(
        '--peer_records', type=int, default=100_000, help='largest of them that is also laid out as files for the peer'
    )
    parser.add_argument(
        '--steps', type=int, default=30, help='of the training run that tells the time of waiting; 0 = left out'
    )
    parser.add_argument('--cores', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--side', choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain reads flags
    if options.side:
        child(options)
        return 0
    need('torch')

    from benchmarks.input_growth import growth_rows

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary).absolute()
        make_data(folder, people=2 * options.people)
        check_same_pictures(folder, options)
        rows = speed_rows(folder, options)
        if options.steps:
            rows.append(waiting_row(folder, options.steps))
        rows += growth_rows(folder, [int(n) for n in options.records.split(',') if n], options.peer_records)

    if options.output:
        write(options.output, rows)
    show(
        rows,
        f'Batches of {options.people} people x {options.tracklets} tracklets x 2 clips x 16 frames of 256x128; '
        'ratio above 1 = ours is faster (or smaller)',
    )
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
