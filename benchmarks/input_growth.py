"""What the training input costs as the data set grows: memory of its index, time to open it, first batch, any later
batch.

Part of benchmarks/input.py. The records are real ones, in ArrayRecord files that the builder has made, but tiny (a
single frame of 16x8 pixels, ten tracklets a person), so that a million fit. The peer holds a list of paths, found by
walking folders of files.
"""

import dataclasses
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.peak_memory import process_memory

PER_PERSON = 10
LATER_BATCHES = 20
LINKS = 50_000  # hard links of one file (ext4 allows 65,000)


def tiny_frame() -> bytes:
    import simplejpeg

    return simplejpeg.encode_jpeg(np.full((16, 8, 3), 128, np.uint8), 90, 'RGB', '420')


def name(i: int) -> str:
    return f'p{i // PER_PERSON:06d}_c{i % 6 + 1}_t{i:07d}'


def make_records(folder: Path, n: int) -> None:
    """A data set of n records of the builder's own making, save that each record's bytes are those of the first."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import example_serializer

    from data_prep.builder.build import build
    from data_prep.builder.tfds_builder import _example, record_features
    from data_prep.raw_dataset import RawDataset, TrackletSource

    def sources(rows) -> list[TrackletSource]:
        return [
            TrackletSource(name(i), f'{i // PER_PERSON:06d}', i // PER_PERSON + 1, i % 6 + 1, (1,), ('frame',))
            for i in rows
        ]

    def write_shards(split, shards) -> list[int]:
        features = record_features('jpeg')
        example = features.encode_example(_example(shards[0].sources[0], [tiny_frame()]))
        data = example_serializer.ExampleSerializer(features.get_serialized_info()).serialize_example(example)
        sizes = []
        for shard in shards:
            writer = ArrayRecordWriter(shard.path, 'group_size:1,uncompressed')
            for _ in shard.sources:
                writer.write(data)
            writer.close()
            sizes.append(os.path.getsize(shard.path))
        return sizes

    splits = {'train': sources(range(n)), 'query': sources(range(n, n + 1)), 'gallery': sources(range(n + 1, n + 2))}
    raw = RawDataset(f'tiny{n}', splits, lambda source: [tiny_frame()], 'jpeg', 'roles')
    build(raw, folder, progress=False, write_shards=write_shards)


def make_files(folder: Path, n: int) -> None:
    """FILES/PERSON/TRACKLET/0000.jpg for each of them, hard links of a few files."""
    root = folder / f'tiny{n}_files'
    if root.exists():
        return
    part = root.with_suffix('.part')
    for i in range(n):
        target = part / f'{i // PER_PERSON:06d}' / name(i)
        target.mkdir(parents=True)
        original = part / f'frame{i // LINKS}.jpg'
        if i % LINKS == 0:
            original.write_bytes(tiny_frame())
        os.link(original, target / '0000.jpg')
    part.rename(root)


def tiny_config(folder: Path, n: int):
    from configs.default import get_config
    from pvlad_jax.config import freeze

    c = get_config()
    c.dataset.name, c.dataset.data_dir = f'tiny{n}', str(folder)
    c.clips.frames, c.clips.height, c.clips.width = 1, 16, 8
    return freeze(c)


def open_ours(folder: Path, n: int) -> Callable[[int], object]:
    from pvlad_jax.data.partition import partition
    from pvlad_jax.data.tracklet_dataset import TrackletDataset
    from pvlad_jax.data.train_batches import TrainBatches

    config = tiny_config(folder, n)
    dataset = TrackletDataset.open(config.dataset.data_dir, config.dataset.name)
    return TrainBatches(dataset, partition(dataset).train, config).__getitem__


def open_peer(folder: Path, n: int) -> Callable[[int], object]:
    """The usual constructor: (paths, person, camera) a tracklet in a list, by listing folders, and rows by person for
    the sampler.
    """
    from benchmarks.pil_loader import TrackletFiles

    config, tracklets, by_person = tiny_config(folder, n), [], {}
    for person in sorted(entry.path for entry in os.scandir(folder / f'tiny{n}_files') if entry.is_dir()):
        for tracklet in sorted(os.listdir(person)):
            inside = os.path.join(person, tracklet)
            by_person.setdefault(int(os.path.basename(person)), []).append(len(tracklets))
            paths = [os.path.join(inside, frame) for frame in sorted(os.listdir(inside))]
            tracklets.append((paths, int(os.path.basename(person)), int(tracklet[9])))
    paths, labels, _ = zip(*tracklets)
    dataset = TrackletFiles(list(paths), np.array(labels), config)
    people = np.array(list(by_person))

    def batch(step: int):
        rng = np.random.default_rng(step)
        rows = [
            rng.choice(by_person[p], config.batch.tracklets)
            for p in rng.choice(people, config.batch.identities, replace=False)
        ]
        return [dataset[int(row), (step, place)] for place, row in enumerate(np.concatenate(rows))]

    batch.tracklets = tracklets  # kept, as datasets keep it
    return batch


def memory() -> float:
    """MB of this process (Linux)."""
    gc.collect()
    return process_memory('VmRSS')


@dataclasses.dataclass
class Cost:
    memory: float  # MB of the index
    open: float  # s
    first: float  # s
    later: float  # ms, median


def cost(side: str, folder: Path, n: int) -> Cost:
    open_small = {'ours': open_ours, 'peer': open_peer}[side]
    if side == 'ours':  # imports are no cost of size
        import tensorflow_datasets  # noqa: F401

        import pvlad_jax.data.train_batches  # noqa: F401
    else:
        import benchmarks.pil_loader  # noqa: F401
    from absl import flags

    flags.FLAGS.mark_as_parsed() if not flags.FLAGS.is_parsed() else None
    before, began = memory(), time.perf_counter()
    batch = open_small(folder, n)
    opened = time.perf_counter()
    batch(0)
    first = time.perf_counter()
    later = []
    for step in range(1, LATER_BATCHES + 1):
        began_batch = time.perf_counter()
        batch(step)
        later.append(time.perf_counter() - began_batch)
    return Cost(memory() - before, opened - began, first - opened, 1e3 * statistics.median(later))


def growth_rows(folder: Path, sizes: list[int], peer_up_to: int) -> list[dict]:
    from benchmarks.rows import child_output, row  # not in the processes whose memory is measured

    rows = []
    for n in sizes:
        sides = ('ours', 'peer') if n <= peer_up_to else ('ours',)
        make_records(folder, n)
        if n <= peer_up_to:
            make_files(folder, n)
        costs = {}
        for side in sides:
            told = child_output(
                [sys.executable, __file__, side, str(folder), str(n)], f'The process of {side} with {n} tracklets'
            )
            costs[side] = json.loads(told.splitlines()[-1])
        for field, what, unit in (
            ('memory', 'memory of the index', 'MB'),
            ('open', 'opening', 's'),
            ('first', 'first batch', 's'),
            ('later', 'a later batch of 32', 'ms'),
        ):
            ours, peer = costs['ours'][field], costs.get('peer', {}).get(field)
            ratio = None if peer is None else peer / max(ours, 1e-9)
            rows.append(row(f'{n:,} tracklets: {what}', ours, peer, unit, ratio))
    return rows


if __name__ == '__main__':
    print(json.dumps(dataclasses.asdict(cost(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))))
