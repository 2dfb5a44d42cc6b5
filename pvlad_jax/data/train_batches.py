"""The training input: a Grain pipeline whose n-th element is the n-th batch, whoever asks and whenever."""

import concurrent.futures
import functools
import threading

import grain
import numpy as np
from jaxtyping import Bool, UInt8

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
        self._counting = threading.Lock()

    @functools.cached_property
    def _threads(self) -> concurrent.futures.Executor:
        # Tracklets are shared out, not batches: a batch of the MARS recipe is 200 MB, too much for every core to make one of its own.
        return concurrent.futures.ThreadPoolExecutor(self.config.input.threads, thread_name_prefix='tracklets')

    def __getitem__(self, step: int) -> Batch:
        rows, clips = self.identities.rows(step), self.config.clips
        b, shape = len(self.places), (clips.segments, clips.frames)
        batch = {'clips': np.zeros((b, *shape, clips.height, clips.width, 3), np.uint8), 'valid': np.zeros((b, *shape), bool),
                 'label': self.identities.labels[rows[self.places]], 'row': rows[self.places].astype(np.int32)}
        made = [self._threads.submit(self._example, step, place, int(rows[place]), batch['clips'][i], batch['valid'][i])
                for i, place in enumerate(self.places)]
        try:
            for example in made:
                example.result()
        finally:
            for example in made:
                example.cancel()
        return batch

    def _example(self, step: int, place: int, row: int, clips: UInt8[np.ndarray, 'S T H W 3'], valid: Bool[np.ndarray, 'S T']) -> None:
        """Fills in the clips of one tracklet, black at first, and their mask."""
        config, clips_config = self.config, self.config.clips
        rng = np.random.default_rng([config.seed, 3, step, place])
        index = segment_clips(int(self.train.n_frames[row]), clips_config.segments, clips_config.frames, clips_config.stride, rng)
        record = self.dataset.read(self.train.split[row], self.train.row[row])
        try:
            decode_clips(record.frames, index, clips_config.height, clips_config.width, record.tracklet, out=clips)
        except CorruptRecord:
            if config.input.on_error == 'stop':
                raise
            with self._counting:
                self.skipped += 1
            clips[...] = 0
            return
        np.greater_equal(index, 0, out=valid)
        if self.augment:
            for clip, frames in zip(clips, valid.sum(axis=1)):  # they come first, and then the padding, which stays black
                if frames:
                    augment_clip(clip[:frames], config.augment, rng)

    def iterator(self, first_step: int = 0, end: int = ENDLESS) -> grain.DatasetIterator[Batch]:
        """Batches from `first_step` to before `end`, made ahead, always in order. Its `get_state()` is {'next_index': step};
        it begins to read with the first `next()`, or with `start_prefetch()`.
        """
        ahead = self.config.input.prefetch
        # These threads wait for those that make the tracklets: one for each batch that is begun.
        options = grain.ReadOptions(num_threads=max(ahead, 1), prefetch_buffer_size=ahead)
        iterator = iter(grain.MapDataset.range(end).map(functools.partial(_item, self)).to_iter_dataset(options))
        iterator.set_state({'next_index': first_step})
        return iterator


def _item(batches: TrainBatches, step: int) -> Batch:
    return batches[int(step)]
