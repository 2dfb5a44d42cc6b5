"""A piece of another person's picture in front of the person: where it lies, whose it is, and what it leaves alone."""

import dataclasses

import numpy as np
import pytest

from pvlad_jax.data.frame_decoding import CorruptRecord
from pvlad_jax.data.occlusion import occlude_clip
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.data.train_batches import TrainBatches
from tests.helpers.micro import micro_config

OCCLUDED = {'augment.occlusion': 1.0, 'augment.erase': 0.0, 'augment.pad': 0, 'augment.flip': 0.0, 'clips.segments': 1}
COLOURS = ('brightness', 'contrast', 'saturation', 'channel')
PLAIN = {**OCCLUDED, **{f'augment.{name}': 0.0 for name in COLOURS}}


def occluded_frames(seed: int, frames: int = 4, area: tuple[float, float] = (0.1, 0.4)) -> np.ndarray:
    """1 where a clip of zeros shows the other picture, [frames, 40, 20]; checks that it shows it at its place."""
    other = np.random.default_rng(1000 + seed).integers(1, 256, (40, 20, 3), dtype=np.uint8)
    clip = np.zeros((frames, 40, 20, 3), np.uint8)
    occlude_clip(clip, other, area, np.random.default_rng(seed))
    shown = clip.any(-1)
    np.testing.assert_array_equal(clip, other * shown[..., None])
    return shown


def test_it_is_one_rectangle_of_its_share_in_consecutive_frames():
    first, last = set(), set()
    for seed in range(200):
        shown = occluded_frames(seed)
        frames = np.flatnonzero(shown.any((1, 2)))
        assert (np.diff(frames) == 1).all()
        first.add(frames[0])
        last.add(frames[-1])
        rectangle = shown[frames[0]]
        assert (shown[frames] == rectangle).all()
        rows, columns = np.flatnonzero(rectangle.any(1)), np.flatnonzero(rectangle.any(0))
        assert rectangle.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        # Rounded to pixels, and cut where an aspect does not fit into the picture.
        assert 0.06 < rectangle.mean() < 0.45
    assert first == last == set(range(4))


def test_it_may_lie_anywhere():
    assert np.mean([occluded_frames(seed, frames=1)[0] for seed in range(300)], axis=0).min() > 0


@pytest.fixture(scope='module')
def opened(micro_data):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    return dataset, partition(dataset)


class Other(TrackletDataset):
    """Reads what a test says."""

    def __init__(self):
        pass


def batches(opened, micro_data, dataset=None, **fields) -> TrainBatches:
    return TrainBatches(dataset or opened[0], opened[1].train, micro_config(micro_data, **{**PLAIN, **fields}))


def test_it_shows_another_training_person_and_leaves_padding_black(opened, micro_data):
    """Every training person has a picture of one colour here, so that colours tell whose a piece is."""
    roles = opened[1]
    people = np.unique(roles.train.person_id)
    colours = {int(person): 20 + 10 * i for i, person in enumerate(people)}

    class Painted(Other):
        def read(self, split, row):
            import simplejpeg

            record = opened[0].read(split, row)
            person = int(roles.train.person_id[row])
            assert split == 'train' and roles.train.row[row] == row
            picture = np.full((16, 8, 3), colours[person], np.uint8)
            return dataclasses.replace(record, frames=[simplejpeg.encode_jpeg(picture)] * len(record.frames))

    made = batches(opened, micro_data, Painted(), **{'clips.frames': 8})
    whose = set()
    for step in range(12):
        batch = made[step]
        assert (batch['clips'][~batch['valid']] == 0).all()
        for clip, valid, row in zip(batch['clips'][:, 0], batch['valid'][:, 0], batch['row']):
            own = colours[int(roles.train.person_id[row])]
            grey = clip[valid][..., 0].astype(int)
            other = np.unique(grey[abs(grey - own) > 3])
            assert len(other)  # somebody else
            nearest = min(colours.values(), key=lambda colour: abs(colour - int(other[0])))
            assert nearest != own and (abs(other - nearest) <= 3).all()  # and one person only
            whose.add(nearest)
    assert len(whose) > len(people) / 2


def test_it_changes_nothing_else(opened, micro_data):
    """Which frames are drawn, and every other augmentation, are those of a run without it."""
    fields = {'augment.flip': 0.5, 'augment.pad': 2, 'augment.brightness': 0.2}
    without, with_it = (batches(opened, micro_data, **fields, **{'augment.occlusion': share}) for share in (0.0, 1.0))
    some = batches(opened, micro_data, **fields, **{'augment.occlusion': 0.5})
    touched = []
    for step in range(8):
        plain, occluded, half = without[step], with_it[step], some[step]
        for name in ('row', 'label', 'valid'):
            np.testing.assert_array_equal(plain[name], occluded[name])
        same = plain['clips'] == occluded['clips']
        assert 0.3 < same.mean() < 1
        touched += (plain['clips'] != half['clips']).any((1, 2, 3, 4, 5)).tolist()
    assert 0.2 < np.mean(touched) < 0.8


def test_processes_and_restarts_draw_the_same(opened, micro_data):
    dataset, roles = opened
    config = micro_config(micro_data, **PLAIN)
    whole = TrainBatches(dataset, roles.train, config)[3]
    halves = [TrainBatches(dataset, roles.train, config, process, 2)[3] for process in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([half['clips'] for half in halves]), whole['clips'])


def test_another_person_who_cannot_be_decoded_is_named_or_left_out(opened, micro_data):
    dataset, roles = opened
    broken = 0

    class Broken(Other):
        def read(self, split, row):
            record = dataset.read(split, row)
            return dataclasses.replace(record, frames=[b'no picture'] * len(record.frames)) if row == broken else record

    stop = batches(opened, micro_data, Broken())
    skip = batches(opened, micro_data, Broken(), **{'input.on_error': 'skip'})
    plain = batches(opened, micro_data, **{'augment.occlusion': 0.0})
    name, met = str(roles.train.tracklet[broken]), 0
    for step in range(60):
        rows = stop.identities.rows(step)
        if broken in rows:
            continue
        try:
            stop[step]
        except CorruptRecord as error:
            assert name in str(error)
            met += 1
            batch = skip[step]
            assert skip.skipped == {name} and not batch['replaced'].any()
            same = (batch['clips'] == plain[step]['clips']).all((1, 2, 3, 4, 5))
            assert same.any()  # the clip in front of which that person would have been
    assert met
