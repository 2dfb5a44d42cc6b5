"""The training input: a Grain pipeline whose n-th element is the n-th batch, whoever asks and whenever."""

import functools
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from pvlad_jax.config import Config
from pvlad_jax.data.augmentation import augment_clip
from pvlad_jax.data.clip_sampling import segment_clips
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips
from pvlad_jax.data.identity_batches import IdentityBatches
from pvlad_jax.data.records import TrackletDataset, TrackletTable

# Of a Grain range; training ends long before it.
ENDLESS = 2**31 - 1

Batch = dict[str, np.ndarray]


class TrainBatches:
    """`self[step]` is this process's share of the batch of that step:

    clips [b,S,T,H,W,3] uint8, valid [b,S,T] bool, label [b] int32 (0..I-1), row [b] int32 (of the training table).
    The rows of the global batch are cut evenly, in order, among the processes; which rows they are and how they are augmented depends on
    (seed, step, place in the global batch) alone.
    """

    def __init__(self, dataset: TrackletDataset, train: TrackletTable, config: Config, process: int = 0, processes: int = 1,
                 augment: bool = True):
        if config.batch.size % processes:
            raise ValueError(f'A batch of {config.batch.size} tracklets cannot be cut evenly among {processes} processes.')
        self.dataset, self.train, self.config, self.augment = dataset, train, config, augment
        self.identities = IdentityBatches(train, config.batch.people, config.batch.tracklets, config.seed, config.batch.together)
        share = config.batch.size // processes
        self.places = range(process * share, (process + 1) * share)
        self.skipped = 0  # corrupt records met so far, with input.on_error='skip'

    def __getitem__(self, step: int) -> Batch:
        rows = self.identities.rows(step)
        examples = [self._example(step, place, rows[place]) for place in self.places]
        return {key: np.stack([e[key] for e in examples]) for key in examples[0]}

    def _example(self, step: int, place: int, row: int) -> dict[str, Any]:
        config, clips_config = self.config, self.config.clips
        rng = np.random.default_rng([config.seed, 3, step, place])
        index = segment_clips(int(self.train.n_frames[row]), clips_config.segments, clips_config.frames, clips_config.stride, rng)
        record = self.dataset.read(self.train.split[row], self.train.row[row])
        try:
            clips = decode_clips(record.frames, index, clips_config.height, clips_config.width, record.tracklet)
        except CorruptRecord:
            if config.input.on_error == 'stop':
                raise
            self.skipped += 1
            clips, index = np.zeros((*index.shape, clips_config.height, clips_config.width, 3), np.uint8), np.full_like(index, -1)
        valid = index >= 0
        if self.augment:
            clips = np.stack([augment_clip(clip, config.augment, rng) for clip in clips])
            clips *= valid[..., None, None, None]  # jitter and erasing have coloured the padding
        return {'clips': clips, 'valid': valid, 'label': self.identities.labels[row], 'row': np.int32(row)}

    def iterator(self, first_step: int = 0) -> Iterator[Batch]:
        """Batches from `first_step` on, made ahead by threads, always in order. Its `get_state()` is {'next_index': step}."""
        options = grain.ReadOptions(num_threads=self.config.input.threads, prefetch_buffer_size=self.config.input.prefetch)
        iterator = iter(grain.MapDataset.range(ENDLESS).map(functools.partial(_item, self)).to_iter_dataset(options))
        iterator.set_state({'next_index': first_step})
        return iterator


def _item(batches: TrainBatches, step: int) -> Batch:
    return batches[int(step)]
