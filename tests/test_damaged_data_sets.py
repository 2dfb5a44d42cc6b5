"""The files of a data set, damaged in any way: one sentence that names the file and says what to do."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.builder.beam import _take_reports
from data_prep.builder.build import build
from data_prep.builder.stored_frame import FrameCounts
from data_prep.builder.tfds_builder import Shard
from data_prep.builder.verify import verify
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import console
from pvlad_jax.data.content_hash import content_hash
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from tests.helpers.damaged_files import TEXTS, told_or_read
from tests.helpers.micro import micro_raw
from tests.helpers.micro_splits import build_micro_splits
from tests.helpers.small_models import copied


def test_a_data_sets_description(micro_data, split_data, tmp_path):
    for number, source in enumerate((next((micro_data / 'micro').iterdir()), split_data)):
        folder = copied(source, tmp_path / str(number) / source.parent.name / source.name)

        def read(folder=folder):
            dataset = TrackletDataset(folder)
            partition(dataset)
            dataset.read(next(iter(dataset.tables)), 0)

        for name in ('dataset_info.json', 'metadata.json'):
            told_or_read(folder / name, read, f'{name} cannot be read .*Convert the data set again', folder)


@pytest.fixture(scope='module')
def split_data(tmp_path_factory) -> Path:
    return build_micro_splits(tmp_path_factory.mktemp('splits'))


def test_rows_of_queries_that_are_not_there(micro_data, tmp_path):
    folder = copied(next((micro_data / 'micro').iterdir()), tmp_path / 'micro' / '1.0.0')
    fields = json.loads((folder / 'metadata.json').read_text())
    for change, says in (
        ({'layout': 'query_rows', 'query_rows': [99]}, 'names no split test'),
        ({'layout': 'query_rows', 'query_rows': ['a']}, r'got `str` - at `\$\.query_rows\[0\]`'),
        ({'layout': 'query_rows'}, 'missing required field `query_rows`'),
    ):
        (folder / 'metadata.json').write_text(json.dumps({**fields, **change}))
        with pytest.raises(UserError, match=says):
            TrackletDataset(folder)


def test_the_description_of_records(micro_data, tmp_path):
    folder = copied(next((micro_data / 'micro').iterdir()), tmp_path / 'micro' / '1.0.0')
    for content in (b'', b'[]', b'{"pythonClassName": 3}', b'\xff', b'[' * 100_000):
        (folder / 'features.json').write_bytes(content)
        dataset = TrackletDataset(folder)  # labels need no records
        with pytest.raises(UserError, match=r'records of .* cannot be opened .*Convert the data set again'):
            dataset.read('train', 0)
        with pytest.raises(UserError, match=r'records of .* cannot be opened .*with --overwrite'):
            verify(folder, console())


COLUMNS = {
    'a float': (lambda t: {'camera_id': t['camera_id'] * 1.0}, 'camera_id is float64'),
    'text for numbers': (lambda t: {'person_id': t['person'].astype('U')}, 'person_id is <U'),
    'text for bytes': (lambda t: {'tracklet': t['tracklet'].astype('U')}, 'tracklet is <U'),
    'numbers for text': (lambda t: {'person': t['person_id']}, 'person is int32'),
    'a matrix': (lambda t: {'n_frames': t['n_frames'][:, None]}, r'n_frames is int32 of shape \(\d+, 1\)'),
    'a single value': (lambda t: {'person_id': t['person_id'][0]}, r'person_id is int32 of shape \(\)'),
    'no UTF-8': (lambda t: {'tracklet': np.full(len(t['person']), b'\xff')}, 'codec can.t decode'),
    'other lengths': (lambda t: {'camera_id': t['camera_id'][1:]}, 'different lengths'),
    'objects': (lambda t: {'person': t['person'].astype(object)}, 'it holds what is no plain array in person'),
}


@pytest.mark.parametrize('how', [*COLUMNS, 'no column', 'one array', 'cut', 'a flipped bit'])
def test_a_table_of_tracklets(micro_data, tmp_path, how):
    folder = copied(next((micro_data / 'micro').iterdir()), tmp_path / 'micro' / '1.0.0')
    path = folder / 'tracklets_train.npz'
    whole, (change, says) = path.read_bytes(), COLUMNS.get(how, (dict, ''))
    with np.load(path) as file:
        table = dict(file)
    table |= change(table)
    if how == 'no column':
        del table['camera_id']
    np.savez(path, **table)
    if how == 'one array':
        with open(path, 'wb') as file:
            np.save(file, table['person_id'])
    elif how == 'cut':
        path.write_bytes(whole[:-30])
    elif how == 'a flipped bit':
        path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(UserError, match=rf'tracklets_train\.npz cannot be read \(.*{says}.*Convert') as error:
        TrackletDataset(folder)
    assert '\n' not in str(error.value)
    with pytest.raises(UserError, match=rf'tracklets_train\.npz cannot be read \(.*{says}.*--overwrite'):
        verify(folder, console())
    with pytest.raises(UserError, match='tracklets of split train are not those'):
        build(micro_raw(), tmp_path, progress=False)
    path.write_bytes(whole)
    assert build(micro_raw(), tmp_path, progress=False) == folder


def test_metadata_of_a_build(micro_data, tmp_path):
    folder = copied(next((micro_data / 'micro').iterdir()), tmp_path / 'micro' / '1.0.0')
    says = r'metadata.json cannot be read \('
    told_or_read(folder / 'metadata.json', lambda: verify(folder, console(), progress=False), says, folder)
    told_or_read(folder / 'metadata.json', lambda: build(micro_raw(), tmp_path, progress=False), says, folder)


def test_what_a_worker_says_of_its_shard(tmp_path):
    path = tmp_path / 'shard.report.json'
    whole = {'bad': [], 'encodings': {'jpeg': 3}, 'changes': {'turned': 1}}
    path.write_text(json.dumps(whole))

    def read():
        content, counts = path.read_bytes(), FrameCounts()
        try:
            _take_reports([Shard(str(tmp_path / 'shard'), ())], counts)
            assert counts.encoding is None or counts.notes() is not None
        finally:
            path.write_bytes(content)

    told_or_read(path, read, r'shard\.report\.json is damaged \(.*Build the data set again', 'frames')


def test_a_content_hash_is_computed_again(micro_data, tmp_path):
    folder = copied(next((micro_data / 'micro').iterdir()), tmp_path / 'micro' / '1.0.0')
    expected = content_hash(folder, ['train'])
    told_or_read(folder / 'content.json', lambda: content_hash(folder, ['train']), None)
    for content in TEXTS.values():
        (folder / 'content.json').write_bytes(content)
        assert content_hash(folder, ['train']) == expected
