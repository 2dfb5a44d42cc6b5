"""The training input: a Grain pipeline whose n-th element is the n-th batch, a function of (seed, n) alone."""

import concurrent.futures
import functools

import grain
import numpy as np
from jaxtyping import Bool, UInt8

from pvlad_jax.config import Config
from pvlad_jax.data.augmentation import augment_clip
from pvlad_jax.data.clip_sampling import segment_clips
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips, decoding_threads
from pvlad_jax.data.joined_dataset import AnyDataset, data_set_of_rows
from pvlad_jax.data.occlusion import occlude_clip
from pvlad_jax.data.pk_sampler import PKSampler
from pvlad_jax.data.replacement import Replacements
from pvlad_jax.data.tracklet_dataset import TrackletTable

# Of a Grain range; training ends long before it.
UNBOUNDED = 2**31 - 1

Batch = dict[str, np.ndarray]


class TrainBatches:
    """`self[step]` is this process's share of the batch of that step, b tracklets: clips [b,S,T,H,W,3] uint8, valid
    [b,S,T] bool, label [b] int32 (0..I-1), row [b] int32 (of the training table), replaced [b] bool.

    The rows of the global batch are cut evenly, in order, among the processes; which rows they are and how they are
    augmented depends on (seed, step, place in the global batch) alone. With config.input.on_error = 'skip' another
    tracklet takes the place of one that cannot be decoded (data/replacement.py), with its own label, and `replaced`
    says where; with 'stop' CorruptRecord is raised.

    Args:
      train: the training table.
      process, processes: which of how many share the batch.
      augment: whether clips are augmented (config.augment).
    """

    def __init__(
        self,
        dataset: AnyDataset,
        train: TrackletTable,
        config: Config,
        process: int = 0,
        processes: int = 1,
        augment: bool = True,
    ):
        if config.batch.size % processes:
            raise ValueError(
                f'A batch of {config.batch.size} tracklets cannot be cut evenly among {processes} processes.'
            )
        self.dataset, self.train, self.config, self.augment = dataset, train, config, augment
        batch = config.batch
        set_of_row = data_set_of_rows(train) if batch.sampling == 'balanced' else None
        self.identities = PKSampler(train, batch.identities, batch.tracklets, config.seed, batch.group_size, set_of_row)
        share = config.batch.size // processes
        self.places = range(process * share, (process + 1) * share)
        # Tracklets met so far that cannot be decoded; batches are made ahead of the step that takes them.
        self.skipped: set[str] = set()
        self._replacements = Replacements(self.identities, config.seed, self._intact)
        self._known_intact: dict[int, bool] = {}

    @functools.cached_property
    def _threads(self) -> concurrent.futures.Executor:
        # Tracklets are shared out, not batches: a batch of the MARS recipe is 200 MB, too much for every core to make
        # one of its own.
        return decoding_threads(self.config.input.threads)

    def __getitem__(self, step: int) -> Batch:
        rows, clips = self.identities.rows(step)[self.places], self.config.clips
        b, shape = len(self.places), (clips.segments, clips.frames)
        batch = {
            'clips': np.zeros((b, *shape, clips.height, clips.width, 3), np.uint8),
            'valid': np.zeros((b, *shape), bool),
        }
        made = [
            self._threads.submit(self._example, step, place, int(rows[i]), batch['clips'][i], batch['valid'][i])
            for i, place in enumerate(self.places)
        ]
        try:
            taken = np.array([example.result() for example in made], np.int32)
        finally:
            for example in made:
                example.cancel()
        return batch | {'label': self.identities.labels[taken], 'row': taken, 'replaced': taken != rows}

    def _example(
        self, step: int, place: int, row: int, clips: UInt8[np.ndarray, 'S T H W 3'], valid: Bool[np.ndarray, 'S T']
    ) -> int:
        """Fills in the clips of one tracklet, black at first, and their mask. Returns the row that was taken."""
        try:
            self._fill(step, place, row, clips, valid)
            return row
        except CorruptRecord:
            if self.config.input.on_error == 'stop':
                raise
            self.skipped.add(str(self.train.tracklet[row]))
        for other in self._replacements.rows(step, place):
            clips[...] = 0
            try:
                self._fill(step, place, other, clips, valid)
                return other
            except CorruptRecord:  # the file has changed since it was found intact
                continue
        raise AssertionError('unreachable: the last of the replacements is an error')

    def _fill(
        self, step: int, place: int, row: int, clips: UInt8[np.ndarray, 'S T H W 3'], valid: Bool[np.ndarray, 'S T']
    ) -> None:
        config, clips_config = self.config, self.config.clips
        rng = np.random.default_rng([config.seed, 3, step, place])
        index = segment_clips(
            int(self.train.n_frames[row]), clips_config.segments, clips_config.frames, clips_config.stride, rng
        )
        record = self.dataset.read(self.train.split[row], self.train.row[row])
        decode_clips(record.frames, index, clips_config.height, clips_config.width, record.tracklet, out=clips)
        np.greater_equal(index, 0, out=valid)
        if self.augment:
            occlusions = np.random.default_rng([config.seed, 7, step, place])
            # They come first, and then the padding, which stays black.
            for clip, frames in zip(clips, valid.sum(axis=1)):
                if frames:
                    if occlusions.random() < config.augment.occlusion:
                        self._occlude(clip[:frames], row, occlusions)
                    augment_clip(clip[:frames], config.augment, rng)

    def _occlude(self, clip: UInt8[np.ndarray, 'T H W 3'], row: int, rng: np.random.Generator) -> None:
        """`occlude_clip` with a frame of another training person.

        The clip stays as it is where there is no other, or where config.input.on_error is 'skip' and that frame cannot
        be decoded.
        """
        others = np.flatnonzero(self.train.person_id != self.train.person_id[row])
        if not len(others):
            return
        other = int(others[rng.integers(len(others))])
        frame = rng.integers(self.train.n_frames[other])
        try:
            record = self.dataset.read(self.train.split[other], self.train.row[other])
            (picture,) = decode_clips(record.frames, np.array([frame]), *clip.shape[1:3], record.tracklet)
        except CorruptRecord:
            if self.config.input.on_error == 'stop':
                raise
            self.skipped.add(str(self.train.tracklet[other]))
            return
        occlude_clip(clip, picture, self.config.augment.occlusion_area, rng)

    def _intact(self, row: int) -> bool:
        """Whether every frame of a tracklet can be decoded."""
        if row not in self._known_intact:
            frame = np.zeros((1, self.config.clips.height, self.config.clips.width, 3), np.uint8)
            try:
                record = self.dataset.read(self.train.split[row], self.train.row[row])
                for i in range(int(self.train.n_frames[row])):
                    decode_clips(record.frames, np.array([i]), *frame.shape[1:3], record.tracklet, out=frame)
                self._known_intact[row] = True
            except CorruptRecord:
                self.skipped.add(str(self.train.tracklet[row]))
                self._known_intact[row] = False
        return self._known_intact[row]

    def iterator(self, first_step: int = 0, end: int = UNBOUNDED) -> grain.DatasetIterator[Batch]:
        """Batches from `first_step` to before `end`, made ahead, always in order. Its `get_state()` is {'next_index':
        step}; it begins to read with the first `next()`, or with `start_prefetch()`.
        """
        ahead = self.config.input.prefetch
        # These threads wait for those that make the tracklets: one for each batch that is begun.
        options = grain.ReadOptions(num_threads=max(ahead, 1), prefetch_buffer_size=ahead)
        iterator = iter(grain.MapDataset.range(end).map(functools.partial(_item, self)).to_iter_dataset(options))
        iterator.set_state({'next_index': first_step})
        return iterator


def _item(batches: TrainBatches, step: int) -> Batch:
    return batches[int(step)]
