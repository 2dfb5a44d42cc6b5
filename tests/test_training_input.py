"""The training input: balanced, the same for any number of threads and processes, and never looped or padded in
silence.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvlad_jax.config import AugmentConfig
from pvlad_jax.data.augmentation import augment_clip, jitter_colour
from pvlad_jax.data.clip_sampling import consecutive_clips, kept_frames, segment_clips
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.data.train_batches import TrainBatches
from tests.helpers.micro import micro_config

lengths = st.integers(1, 300)


@given(lengths, st.integers(1, 6), st.integers(1, 16), st.integers(1, 8), st.integers(0, 99))
def test_segments_are_frames_of_the_tracklet_in_order_none_twice(n, segments, frames, stride, seed):
    clips = segment_clips(n, segments, frames, stride, np.random.default_rng(seed))
    assert clips.shape == (segments, frames) and clips.max() < n
    for clip in clips:
        valid = clip[clip >= 0]
        assert (np.diff(valid) > 0).all()  # no loop, no repetition
        assert (clip[len(valid) :] == -1).all()  # the mask is a tail
    first = clips[0][clips[0] >= 0]
    assert len(first) == min(n, frames)  # a clip is as full as the tracklet lets it be
    if n >= segments * ((frames - 1) * stride + 1):
        assert (clips >= 0).all() and (np.diff(clips, axis=1) == stride).all()


def test_segments_spread_over_the_whole_tracklet():
    starts = np.array([segment_clips(100, 4, 5, 2, np.random.default_rng(s))[:, 0] for s in range(200)])
    assert ((starts >= [0, 25, 50, 75]) & (starts <= [16, 41, 66, 91])).all()
    assert starts.min(0).tolist() == [0, 25, 50, 75] and starts.max(0).tolist() == [16, 41, 66, 91]


@given(lengths, st.integers(1, 16))
def test_test_clips_hold_every_frame_once(n, frames):
    clips = consecutive_clips(kept_frames(n), frames)
    np.testing.assert_array_equal(clips[clips >= 0], np.arange(n))
    assert (clips.ravel()[n:] == -1).all() and clips.size - n < frames


@given(lengths, st.integers(1, 40))
def test_frame_policies(n, count):
    assert kept_frames(n, f'first:{count}').tolist() == list(range(min(n, count)))
    assert kept_frames(n, f'every:{count}').tolist() == list(range(0, n, count))
    even = kept_frames(n, f'even:{count}')
    assert len(even) == len(set(even.tolist())) == min(n, count) and even.max(initial=0) < n
    gaps = np.diff(even)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    assert 0 <= even[0] - (n - 1 - even[-1]) <= 1  # as much is left out before them as behind


@pytest.fixture(scope='module')
def opened(micro_data):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    return dataset, partition(dataset)


def test_processes_share_what_one_would_draw_alone(opened, micro_data):
    dataset, roles = opened
    config = micro_config(micro_data)
    whole = TrainBatches(dataset, roles.train, config)[3]
    halves = [TrainBatches(dataset, roles.train, config, process, 2)[3] for process in (0, 1)]
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([h[key] for h in halves]), value)


def test_threads_and_restarts_change_nothing(opened, micro_data):
    dataset, roles = opened
    config = micro_config(micro_data)
    batches = TrainBatches(dataset, roles.train, config)
    iterator = batches.iterator(0)
    first = [next(iterator) for _ in range(5)]
    assert iterator.get_state() == {'next_index': 5}
    again = TrainBatches(dataset, roles.train, micro_config(micro_data, **{'input.threads': 1})).iterator(3)
    again.start_prefetch()  # as at the start of a run; what is read ahead has not been taken
    assert again.get_state() == {'next_index': 3}
    for step, batch in ((3, next(again)), (4, next(again))):
        for key in batch:
            np.testing.assert_array_equal(batch[key], first[step][key])


def test_places_of_a_batch_are_drawn_apart(opened, micro_data):
    """A tracklet that a batch holds twice is cut and augmented in two ways."""
    dataset, roles = opened
    fields = {'batch.identities': 2, 'batch.tracklets': 8, 'augment.pad': 4}  # nobody has more than four
    batch = TrainBatches(dataset, roles.train, micro_config(micro_data, **fields))[0]
    clips = batch['clips'].reshape(2, 2, 4, *batch['clips'].shape[1:])
    np.testing.assert_array_equal(*batch['row'].reshape(2, 2, 4).swapaxes(0, 1))
    assert (clips[:, 0] != clips[:, 1]).any((2, 3, 4, 5, 6)).all()


def test_padding_is_black_and_masked(opened, micro_data):
    dataset, roles = opened
    config = micro_config(micro_data, **{'clips.frames': 8, 'augment.erase': 1.0})
    batches = TrainBatches(dataset, roles.train, config)
    shorter = 0
    for step in range(6):
        batch = batches[step]
        assert batch['clips'].dtype == np.uint8 and batch['clips'].shape == (8, 2, 8, 16, 8, 3)
        assert (batch['clips'][~batch['valid']] == 0).all()
        frames = np.minimum(roles.train.n_frames[batch['row']], 8)
        np.testing.assert_array_equal(batch['valid'][:, 0].sum(1), frames)
        shorter += (frames < 8).sum()
    assert shorter


def test_a_short_tracklet_is_coloured_by_its_own_frames(opened, micro_data):
    dataset, roles = opened
    fields = {'augment.erase': 0.0, 'augment.pad': 0, 'augment.contrast': 0.9}
    # No tracklet has more than 12, so that one is padded by four frames and more, the other less.
    long, short = (
        TrainBatches(
            dataset, roles.train, micro_config(micro_data, **{**fields, 'clips.segments': 1, 'clips.frames': frames})
        )
        for frames in (16, 13)
    )
    for step in range(3):
        a, b = long[step], short[step]
        assert (a['row'] == b['row']).all() and not a['valid'][:, :, 13:].any()
        np.testing.assert_array_equal(a['clips'][:, :, :13], b['clips'])


def test_only_the_sampled_frames_are_read():
    class Spy(list):
        read: list = []  # noqa: RUF012  one test's memory

        def __getitem__(self, i):
            self.read.append(i)
            return super().__getitem__(i)

    import simplejpeg

    image = simplejpeg.encode_jpeg(np.zeros((16, 8, 3), np.uint8))
    decode_clips(Spy([image] * 9), np.array([[1, 4, -1], [4, 8, -1]]), 16, 8, 'x')
    assert sorted(Spy.read) == [1, 4, 8]


def test_a_corrupt_frame_is_named(opened, micro_data):
    dataset, roles = opened

    class Broken(TrackletDataset):
        def __init__(self):
            pass

        def read(self, split, row):
            record = dataset.read(split, row)
            return (
                dataclasses.replace(record, frames=[b'\xff\xd8 no image'] * len(record.frames)) if row == 0 else record
            )

    with pytest.raises(CorruptRecord, match=r'p1c1t1.*frame'):
        decode_clips(Broken().read('train', 0).frames, np.array([0]), 16, 8, 'p1c1t1')
    stop = TrainBatches(Broken(), roles.train, micro_config(micro_data))
    steps = [s for s in range(10) if 0 in stop.identities.rows(s)]
    with pytest.raises(CorruptRecord, match='p1c1t1'):
        stop[steps[0]]


PLAIN = AugmentConfig(flip=0, pad=0, erase=0, erase_area=(0.1, 0.2), brightness=0, contrast=0, saturation=0, channel=0)
CLIP = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 3), dtype=np.uint8)


def augmented(clip=CLIP, seed=0, **fields):
    clip = clip.copy()
    augment_clip(clip, dataclasses.replace(PLAIN, **fields), np.random.default_rng(seed))
    return clip


def test_every_frame_of_a_clip_is_treated_alike():
    still = np.repeat(CLIP[:1], 3, axis=0)
    for seed in range(10):
        out = augmented(
            still, seed, flip=0.5, pad=2, erase=0.5, brightness=0.3, contrast=0.3, saturation=0.3, channel=0.3
        )
        assert (out == out[:1]).all()


def test_each_kind_of_augmentation():
    np.testing.assert_array_equal(augmented(), CLIP)
    np.testing.assert_array_equal(augmented(flip=1), CLIP[:, :, ::-1])
    shifts = set()
    for seed in range(80):
        out = augmented(seed=seed, pad=1)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                padded = np.pad(CLIP, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, 1 - dy : 17 - dy, 1 - dx : 9 - dx]
                if (out == padded).all():
                    shifts.add((dy, dx))
    assert len(shifts) == 9
    erased = augmented(erase=1)
    changed = (erased != CLIP).any((0, 3))
    assert 0.05 < changed.mean() < 0.3
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.95  # one rectangle


def jittered(clip, *factors):
    clip = clip.copy()
    jitter_colour(clip, *factors)
    return clip


def test_colour_jitter_is_its_definition():
    grey = np.array([0.299, 0.587, 0.114])
    x = CLIP.astype(float)
    bright = np.clip(jittered(CLIP // 2, 1.2, 1, 1), 0, 255)
    np.testing.assert_allclose(bright, np.clip((CLIP // 2) * 1.2, 0, 255), atol=1)
    mean = x.reshape(-1, 3).mean(0) @ grey
    np.testing.assert_allclose(jittered(CLIP, 1, 0.5, 1), 0.5 * x + 0.5 * mean, atol=1)
    np.testing.assert_allclose(jittered(CLIP, 1, 1, 0), np.repeat((x @ grey)[..., None], 3, -1), atol=1)
    np.testing.assert_allclose(jittered(CLIP // 2, 1, 1, 1, (0.5, 1, 1.5)), (CLIP // 2) * (0.5, 1, 1.5), atol=1)
    assert (augmented(channel=0.2) != CLIP).any()
    # All at once are the steps one after the other.
    y = (CLIP // 4) * 1.3
    y = 0.6 * y + 0.4 * (y.reshape(-1, 3).mean(0) @ grey)
    y = (0.5 * y + 0.5 * (y @ grey)[..., None]) * (0.7, 1, 1.2)
    np.testing.assert_allclose(jittered(CLIP // 4, 1.3, 0.6, 0.5, (0.7, 1, 1.2)), y, atol=1)


def test_an_erased_rectangle_lies_anywhere():
    quarters = set()
    for seed in range(40):
        down, across = (
            (augmented(seed=seed, erase=1) != CLIP).any(axes).nonzero()[0] for axes in ((0, 2, 3), (0, 1, 3))
        )
        quarters.add((np.sign(down[0] + down[-1] - 15), np.sign(across[0] + across[-1] - 7)))
    assert {(a, b) for a in (-1, 1) for b in (-1, 1)} <= quarters


def test_turning_a_kind_off_leaves_the_others_alone():
    together = augmented(CLIP // 2, 3, flip=1, channel=0.2)
    np.testing.assert_array_equal(together[:, :, ::-1], augmented(CLIP // 2, 3, channel=0.2))
