"""Several data sets read as one: whose records, numbers and draws are whose, and what cannot be joined."""

import collections
import copy
import dataclasses
import json
import shutil

import cv2
import msgspec
import numpy as np
import pytest

from data_prep.builder.build import build
from pvlad_jax.config.data_set_names import joined_data_sets
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.fingerprint import Fingerprint, fingerprint
from pvlad_jax.data.joined_dataset import data_set_of_rows
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.data.tracklet_digests import tracklet_digests
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.open_data import join, open_data
from pvlad_jax.runs.shared_people import check_shared_people
from tests.helpers.micro import build_micro, micro_config, micro_raw
from tests.helpers.micro_joined import JOIN, build_joined, build_sharing
from tests.helpers.micro_splits import build_micro_splits

EPOCH = 30  # steps; some epochs of either data set


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    return build_joined(tmp_path_factory.mktemp('joined'))


def config(data_dir, name=JOIN, **fields):
    return micro_config(data_dir, **{'dataset.name': name, **fields})


def batches(settings, data=None) -> TrainBatches:
    data = data or open_data(settings)
    return TrainBatches(data.dataset, data.roles.train, settings)


@pytest.mark.parametrize('sampling', ['proportional', 'balanced'])
def test_a_join_of_one_data_set_gives_its_batches(data_dir, sampling):
    settings = config(data_dir, 'left', **{'batch.sampling': sampling})
    plain = open_data(settings)
    joined = join(settings, {'left': (plain.dataset, plain.roles)})
    a, b = batches(settings, plain), batches(settings, joined)
    for step in range(4):
        one, other = a[step], b[step]
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize('sampling', ['proportional', 'balanced'])
def test_the_order_of_the_names_changes_nothing_in_training(data_dir, sampling):
    a, b = (
        batches(config(data_dir, name, **{'batch.sampling': sampling})) for name in ('left+right@1', 'right@1+left')
    )
    for step in range(3):
        one, other = a[step], b[step]
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_people_and_cameras_are_kept_apart_and_records_found(data_dir):
    data = open_data(config(data_dir, **{'dataset.validation_share': 0.34}))
    left, right = (data.parts[name][1] for name in ('left', 'right@1'))
    train, of = data.roles.train, data_set_of_rows(data.roles.train)
    assert len(np.unique(train.person_id)) == len(np.unique(left.train.person_id)) + len(
        np.unique(right.train.person_id)
    )
    for column in ('person_id', 'camera_id', 'tracklet'):
        assert not set(getattr(train, column)[of == 0]) & set(getattr(train, column)[of == 1])
    assert len(data.roles.validation_query) == len(left.validation_query) + len(right.validation_query) > 0
    everything = TrackletTable.concatenate([train, data.roles.query, data.roles.gallery, data.roles.validation_query])
    for split, row, tracklet in zip(everything.split, everything.row, everything.tracklet):
        assert data.dataset.read(split, row).tracklet == tracklet


def test_cameras_that_count_from_0_are_kept_apart(data_dir):
    settings = config(data_dir)
    parts = {}
    for name, (dataset, _) in open_data(settings).parts.items():
        dataset = copy.copy(dataset)
        dataset.tables = {k: dataclasses.replace(t, camera_id=t.camera_id - 1) for k, t in dataset.tables.items()}
        parts[name] = (dataset, partition(dataset))
    train = join(settings, parts).roles.train
    left, right = (set(train.camera_id[data_set_of_rows(train) == number].tolist()) for number in (0, 1))
    assert 0 in left and not left & right


def test_frames_of_any_sizes_are_resized(data_dir, tmp_path):
    shutil.copytree(data_dir / 'left', tmp_path / 'left')
    large = [cv2.imencode('.jpg', np.full((70, 40, 3), 200, np.uint8))[1].tobytes()] * 40
    raw = dataclasses.replace(micro_raw(people=3, name='large'), read_frames=lambda source: large[: len(source.frames)])
    build(raw, tmp_path, workers=1, progress=False)
    made = batches(config(tmp_path, 'large+left'))
    batch = made[0]
    assert set(data_set_of_rows(made.train)[batch['row']]) == {0, 1}
    assert batch['clips'].shape[-3:] == (16, 8, 3) and batch['clips'][batch['valid']].any((1, 2, 3)).all()


def test_unknown_cameras_junk_and_distractors_stay_so(data_dir):
    settings = config(data_dir)
    plain = open_data(settings)
    parts = {}
    for name, (dataset, roles) in plain.parts.items():
        gallery = dataclasses.replace(
            roles.gallery,
            person_id=np.resize([-1, 0, 3], len(roles.gallery)),
            camera_id=roles.gallery.camera_id * 0 - 1,
        )
        parts[name] = (dataset, dataclasses.replace(roles, gallery=gallery))
    gallery = join(settings, parts).roles.gallery
    assert (gallery.camera_id == -1).all() and {-1, 0} < set(gallery.person_id.tolist())


def drawn(settings, steps=EPOCH):
    """(data set, person) of each place of each batch [steps, P]."""
    made = batches(settings)
    of = data_set_of_rows(made.train)
    rows = np.stack([made.identities.rows(step) for step in range(steps)])[:, :: settings.batch.tracklets]
    return of[rows], made.train.person_id[rows]


def test_balanced_batches_take_as_many_people_of_each_data_set(data_dir):
    sets, people = drawn(config(data_dir, **{'batch.sampling': 'balanced'}))
    assert ((sets == 0).sum(1) == 2).all() and ((sets == 1).sum(1) == 2).all()
    assert all(len(set(batch)) == len(batch) for batch in people.tolist())
    assert len({tuple(batch) for batch in sets.tolist()}) > 2  # in random order
    for number, epoch in ((0, 2), (1, 3)):  # batches: 5 and 6 people, two of each a batch
        for start in range(0, EPOCH - epoch + 1, epoch):
            block, of = people[start : start + epoch], sets[start : start + epoch]
            assert max(collections.Counter(block[of == number].tolist()).values()) == 1


def test_proportional_batches_take_everybody_equally_often(data_dir):
    sets, people = drawn(config(data_dir, **{'batch.identities': 11, 'batch.tracklets': 1, 'loss.triplet': 0.0}))
    assert set(collections.Counter(people.ravel().tolist()).values()) == {EPOCH}
    assert ((sets == 0).sum(1) == 5).all()


@pytest.mark.parametrize('sampling', ['proportional', 'balanced'])
def test_groups_of_consecutive_numbers_stay_together_and_in_one_data_set(data_dir, sampling):
    settings = config(data_dir, **{'batch.group_size': 2, 'batch.sampling': sampling, 'batch.identities': 8})
    made = batches(settings)
    ids = made.train.person_id
    rows = np.stack([made.identities.rows(step) for step in range(EPOCH)])
    groups = (ids - 1) // 2
    of = data_set_of_rows(made.train)
    assert all(len(set(of[groups == group])) == 1 for group in np.unique(groups))
    whole = [group for group in np.unique(groups) if len(set(ids[groups == group])) == 2]
    for batch in rows:
        cut = [group for group in whole if len(set(ids[batch][groups[batch] == group])) == 1]
        assert len(cut) <= 2  # where single people shift the others, as without a join


def test_a_rebuilt_data_set_is_named(data_dir, tmp_path):
    before = fingerprint(open_data(config(data_dir)).dataset)
    assert msgspec.convert(json.loads(json.dumps(before.to_json())), Fingerprint) == before
    shutil.copytree(data_dir, tmp_path / 'data')
    assert fingerprint(open_data(config(tmp_path / 'data')).dataset).same(before)
    shutil.rmtree(tmp_path / 'data' / 'left')
    build_micro(tmp_path / 'data', name='left', people=5, seed=2)
    now = fingerprint(open_data(config(tmp_path / 'data')).dataset)
    assert not now.same(before)
    assert before.changes(now) == "in 'left', the same labels as before, but other frames"
    shutil.rmtree(tmp_path / 'data')
    shutil.copytree(data_dir, tmp_path / 'data')
    shutil.rmtree(tmp_path / 'data' / 'right')
    build_micro_splits(tmp_path / 'data', 'right', halves='wang2014')
    now = fingerprint(open_data(config(tmp_path / 'data')).dataset)
    assert before.changes(now).startswith("in 'right@1', as many tracklets, people and frames as before, but other")


def test_equal_frames_have_equal_digests_whatever_they_are_called(data_dir, tmp_path):
    build_micro(tmp_path, name='other', people=6, seed=1)
    left = open_data(config(data_dir, 'left')).dataset
    other = open_data(config(tmp_path, 'other')).dataset
    for whole in (False, True):
        a, b = (tracklet_digests(x, x.tables['train'], whole=whole) for x in (left, other))
        same = (a[:, None] == b[None]).all(2)
        assert same.any(1).all() and same.any(0).sum() == len(a) < len(b)


REFUSED = [
    ('left+left', {}, "joins 'left' with itself"),
    ('right@1+right@2', {}, "joins 'right' with itself"),
    ('left+', {}, "'' names no data set"),
    ('left+../left', {}, "'../left' names no data set"),
    ('left+right@one', {}, "'right@one' names no data set"),
    ('left+latest', {}, r'would overwrite eval/latest\.json'),
    ('left+none', {}, "No data set 'none'"),
    ('left+right@7', {}, "data set 'right' has the splits 0, 1, 2, and not 7"),
    ('right@1', {}, '--config.dataset.name=right --config.dataset.split=1'),
    ('right @ 1', {}, '--config.dataset.name=right --config.dataset.split=1'),
    (' left', {}, "No data set ' left' in .*, but 'left'. Leave out the blanks around its name"),
    ('no one', {}, "--name='no one' "),
    ('left+copy', {}, 'are one data set under two names'),
    ('left+untrainable', {}, "'untrainable' has nobody to train on"),
    ('left+newer', {}, 'is of data format 2'),
    ('left+right', {'dataset.split': 'all'}, 'write the split of each behind its name'),
    ('left+copy', {'dataset.halves': 'swapped'}, 'halves = .* has no effect'),
    ('left+right', {'batch.sampling': 'balanced', 'batch.identities': 5}, 'a multiple of 2, such as 6'),
    (
        'left+right',
        {'batch.sampling': 'balanced', 'batch.identities': 8, 'dataset.validation_share': 0.01},
        r"'left' has 3 to train on \(config\.dataset\.validation_share = 0\.01 holds out 2, never fewer than two\)",
    ),
    ('left+right', {'batch.sampling': 'balanced', 'batch.identities': 12}, 'Set --config.batch.identities=10 or lower'),
    ('left+right', {'dataset.validation_share': 0.9}, "Of the joined data sets, 'left': config.dataset.validation_"),
    ('a+b', {}, 'is one of that very name'),
]


def test_blanks_around_the_names_of_a_join_mean_nothing(data_dir):
    assert joined_data_sets(' left + right @ 1') == joined_data_sets(JOIN)
    ours, theirs = open_data(config(data_dir, 'left + right @1')), open_data(config(data_dir))
    assert list(ours.parts) == list(theirs.parts)
    assert ours.roles.train.tracklet.tolist() == theirs.roles.train.tracklet.tolist()


@pytest.fixture(scope='module')
def odd_data(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp('odd')
    for name, like in {'left': 'left', 'right': 'right', 'copy': 'left', 'a+b': 'left', 'newer': 'right'}.items():
        shutil.copytree(data_dir / like, folder / name)
    metadata = folder / 'newer' / '1.0.0' / 'metadata.json'
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), 'format_version': 2}))
    build_micro(folder, name='untrainable', people=7, seed=4)
    path = folder / 'untrainable' / '1.0.0' / 'dataset_info.json'
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, 'splits': [split for split in info['splits'] if split['name'] != 'train']}))
    return folder


@pytest.mark.parametrize(('name', 'fields', 'says'), REFUSED)
def test_what_cannot_be_joined_is_told(odd_data, name, fields, says):
    with pytest.raises(UserError, match=says):
        open_data(config(odd_data, name, **fields))


def test_names_and_splits_are_read():
    assert joined_data_sets('mars+prid2011@3') == (('mars', '0', 'mars'), ('prid2011', '3', 'prid2011@3'))


def test_people_in_common_are_counted_and_refused(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / 'data')
    build_sharing(tmp_path / 'data')

    def check(name, **fields):
        settings = config(tmp_path / 'data', name, **{'model.pooling': 'average', **fields})
        return check_shared_people(settings, prepare(settings).parts)

    assert check('left+right@0') == []
    twice = r"2 people \(8 tracklets\) of the training set of 'left' are in that of 'twice' as well: 4, 5"
    for accept in ('refuse', 'accept'):  # two classes for one person cannot be accepted
        with pytest.raises(UserError, match=twice):
            check('left+twice', **{'evaluation.trained_people': accept})
    seen = r"2 people \(8 tracklets\) of the test set of 'left' are in the training set of 'seen': 7, 8"
    with pytest.raises(UserError, match=seen):
        check('seen+left')
    (entry,) = check('seen+left', **{'evaluation.trained_people': 'accept'})
    assert (entry['data_set'], entry['people'], entry['trained_in']) == ('left', ['7', '8'], ['seen'])

    def altered(part, **tables):
        return dataclasses.replace(part, partition=dataclasses.replace(part.partition, **tables))

    settings = config(tmp_path / 'data', 'left+twice', **{'model.pooling': 'average'})
    parts = prepare(settings).parts
    train = parts['left'].partition.train
    held_out = train.person_id == 5  # who choose the checkpoint
    left = altered(parts['left'], train=train.select(~held_out), validation_gallery=train.select(held_out))
    with pytest.raises(UserError, match=twice):
        check_shared_people(settings, {**parts, 'left': left})
    settings = config(tmp_path / 'data', 'seen+left', **{'evaluation.trained_people': 'accept'})
    parts = prepare(settings).parts
    train = parts['seen'].partition.train
    apart = {f'only {p}': altered(parts['seen'], train=train.select(train.person_id == p)) for p in (7, 8)}
    (entry,) = check_shared_people(settings, {'left': parts['left'], **apart})
    assert (entry['people'], entry['trained_in']) == (['7', '8'], ['only 7', 'only 8'])
