"""A run knows the data that it was trained on: a copy or an identical rebuild is the same, anything else is noticed and
named.
"""

import json
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from data_prep.builder.verify import verify
from pvlad_jax.core.errors import UserError
from pvlad_jax.data import content_hash
from pvlad_jax.data.content_hash import CONTENT
from pvlad_jax.data.fingerprint import fingerprint, labels_hash
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.runs.run_data import FILE, RunData
from tests.helpers.micro import build_micro

OTHERS = {  # how the data set was built again, and what the message says of it
    'pictures': ({'seed': 1}, 'the same labels as before, but other frames'),
    'people': ({'people': 7}, r'train: 24 tracklets of 6 people, \d+ frames before, 28 tracklets of 7 people'),
}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """{name: data set}, built apart from each other."""
    made = {}
    for name, options in {'mine': {}, 'again': {}, **{name: options for name, (options, _) in OTHERS.items()}}.items():
        data_dir = tmp_path_factory.mktemp(name)
        build_micro(data_dir, **options)
        made[name] = TrackletDataset.open(str(data_dir), 'micro')
    return made


def changed(dataset, folder, change) -> TrackletDataset:
    """A copy whose training table `change` has altered."""
    shutil.copytree(dataset.folder, folder)
    path = folder / 'tracklets_train.npz'
    with np.load(path) as columns:
        table = dict(columns)
    change(table)
    np.savez(path, **table)
    return TrackletDataset(folder)


def test_a_copy_and_an_identical_rebuild_have_the_same_fingerprint(built, tmp_path):
    mine = fingerprint(built['mine'])
    assert fingerprint(built['again']).same(mine)
    shutil.copytree(built['mine'].folder, tmp_path / 'moved' / '1.0.0')
    (tmp_path / 'moved' / '1.0.0' / CONTENT).unlink()  # as a data set that was built before there was such a file
    assert fingerprint(TrackletDataset(tmp_path / 'moved' / '1.0.0')).same(mine)


@pytest.mark.parametrize('name', OTHERS)
def test_another_data_set_is_named(built, name):
    mine, other = fingerprint(built['mine']), fingerprint(built[name])
    assert not other.same(mine)
    assert re.search(OTHERS[name][1], mine.changes(other))


def test_labels_and_their_order_count(built, tmp_path):
    mine = fingerprint(built['mine'])

    def camera(table):
        table['camera_id'][3] = 2 if table['camera_id'][3] == 1 else 1

    def number_of_person(table):  # whose name stays
        table['person_id'][table['person_id'] == 3] = 30

    def order(table):
        for column in table.values():
            column[[0, 1]] = column[[1, 0]]

    for number, change in enumerate((camera, number_of_person, order)):
        other = fingerprint(changed(built['mine'], tmp_path / str(number), change))
        assert not other.same(mine) and other.content == mine.content and 'labels' in mine.changes(other)


@pytest.mark.parametrize('key', ['layout', 'people_splits', 'query_rows', 'query_camera', 'gallery_camera', 'halves'])
def test_what_parts_people_into_roles_counts(built, key):
    mine = built['mine']
    assert labels_hash(mine.tables, {**mine.metadata, key: [1, 2]}) != labels_hash(mine.tables, mine.metadata)
    assert labels_hash(mine.tables, {**mine.metadata, 'notes': key}) == labels_hash(mine.tables, mine.metadata)


def test_a_stored_hash_of_files_of_other_sizes_is_not_taken(built, tmp_path):
    shutil.copytree(built['mine'].folder, tmp_path / 'data')
    before = fingerprint(TrackletDataset(tmp_path / 'data'))
    with open(next((tmp_path / 'data').glob('*-train.array_record-*')), 'ab') as shard:
        shard.write(b'?')
    assert fingerprint(TrackletDataset(tmp_path / 'data')).content != before.content


def test_files_of_the_same_size_but_another_content_are_told(built, tmp_path, capsys):
    """Record files are padded to whole blocks, so their sizes may be equal by chance."""
    folder = tmp_path / 'micro' / '1.0.0'
    shutil.copytree(built['mine'].folder, folder)
    (shard,) = folder.glob('*-train.array_record-*')
    (other,) = built['pictures'].folder.glob('*-train.array_record-*')
    assert shard.stat().st_size == other.stat().st_size
    shutil.copy2(other, shard)
    assert not fingerprint(TrackletDataset(folder)).same(fingerprint(built['mine']))
    with pytest.raises(UserError, match=r'record files are not those that the build wrote \(content\.json\)'):
        verify(folder, Console(), progress=False)
    verify(built['mine'].folder, Console(), progress=False)


def test_a_missing_record_file_is_named(built, tmp_path):
    shutil.copytree(built['mine'].folder, tmp_path / 'data')
    next((tmp_path / 'data').glob('*-gallery.array_record-*')).unlink()
    with pytest.raises(UserError, match='holds 0 of the 1 record files of the split gallery'):
        fingerprint(TrackletDataset(tmp_path / 'data'))


def test_record_files_are_read_once(built, tmp_path, monkeypatch):
    shutil.copytree(built['mine'].folder, tmp_path / 'data')
    dataset, hashed, real = TrackletDataset(tmp_path / 'data'), [], content_hash._hash_of
    monkeypatch.setattr(content_hash, '_hash_of', lambda files: hashed.append(1) or real(files))
    fingerprint(dataset)
    assert not hashed  # the build has written it
    (tmp_path / 'data' / CONTENT).unlink()
    workdir = tmp_path / 'run'
    RunData(workdir, dataset, 6).write()
    assert len(hashed) == 1
    RunData(workdir, dataset, 6).check(None, 'stop', print)
    assert len(hashed) == 1  # the working directory knows it
    shard = next((tmp_path / 'data').glob('*-train.array_record-*'))
    shard.write_bytes(shard.read_bytes()[:-1] + b'?')
    with pytest.raises(UserError, match='but other frames'):
        RunData(workdir, dataset, 6).check(None, 'stop', print)
    assert len(hashed) == 2


@pytest.mark.parametrize('name', OTHERS)
def test_a_run_on_other_data_is_refused_with_the_choices(built, tmp_path, name):
    RunData(tmp_path, built['mine'], 6).write()
    RunData(tmp_path, built['again'], 6).check(None, 'stop', print)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UserError) as refused:
        RunData(tmp_path, built[name], 6).check(None, 'stop', print)
    said = str(refused.value)
    assert 'is not the one that this run was trained on' in said and str(built[name].folder) in said
    assert 'another --workdir' in said and '--config.dataset.on_change=accept' in said
    assert (tmp_path / FILE).read_bytes() == before


def test_an_accepted_change_is_remembered(built, tmp_path):
    first = RunData(tmp_path, built['mine'], 6)
    first.mark_checked('frames')
    first.write()
    saved = first.now.to_json()  # as the last checkpoint has it
    lines = []
    accepting = RunData(tmp_path, built['pictures'], 6)
    accepting.check(saved, 'accept', lines.append)
    RunData(tmp_path, built['mine'], 6).check(saved, 'stop', pytest.fail)  # nothing is written before `write`
    accepting.write()
    assert 'Accepted' in lines[0] and 'other frames' in lines[0]
    again = RunData(tmp_path, built['pictures'], 6)
    again.check(saved, 'stop', pytest.fail)  # without asking once more, though the checkpoint is of before
    assert not again.checked('frames')  # of the new ones, nothing has been looked at
    RunData(tmp_path, built['mine'], 6).check(saved, 'stop', pytest.fail)  # those of the checkpoint are its own
    with pytest.raises(UserError, match='other names, labels, cameras or order'):
        RunData(tmp_path, changed(built['mine'], tmp_path / 'c', lambda t: t['camera_id'].fill(1)), 6).check(
            saved, 'stop', print
        )


def test_another_number_of_people_cannot_be_accepted(built, tmp_path):
    RunData(tmp_path, built['mine'], 6).write()
    with pytest.raises(UserError, match='trained to tell 6 people apart, and there are 7'):
        RunData(tmp_path, built['people'], 7).check(None, 'accept', print)


def test_a_run_without_a_fingerprint_gets_one(built, tmp_path):
    lines = []
    former = RunData(tmp_path, built['mine'], 6)
    former.check(None, 'stop', lines.append)
    former.write()
    assert 'former version' in lines[0]
    assert json.loads((tmp_path / FILE).read_text())['fingerprint'] == fingerprint(built['mine']).to_json()
    RunData(tmp_path, built['mine'], 6).check(None, 'stop', pytest.fail)
    (tmp_path / FILE).unlink()  # the checkpoint knows it too
    with pytest.raises(UserError, match='but other frames'):
        RunData(tmp_path, built['pictures'], 6).check(fingerprint(built['mine']).to_json(), 'stop', print)
    (tmp_path / FILE).write_text('{"fingerprint": ')
    with pytest.raises(UserError, match=r'data\.json is damaged'):
        RunData(tmp_path, built['mine'], 6)
