"""What can be known before a run is known before anything is built, compiled or trained, and said in one message."""

import dataclasses
import pickle
import re
import shutil
import types

import jax
import numpy as np
import pytest

import main
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import CorruptRecord
from pvlad_jax.data.partition import partition
from pvlad_jax.data.record_check import damaged_tracklets
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.runs import preflight
from pvlad_jax.runs.run_data import RunData
from tests.helpers.micro import micro_config, micro_config_dict


@pytest.fixture(scope='module')
def opened(micro_data):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    return dataset, partition(dataset)


@pytest.fixture
def nothing_computed(monkeypatch):
    """A run that gets as far as the network fails."""
    monkeypatch.setattr('pvlad_jax.runs.experiment.build_network', lambda *a: pytest.fail('the network was built'))


def told(capfd, config, workdir, mode='train') -> str:
    assert main.run(config, workdir, mode) == 2
    said = capfd.readouterr()
    assert said.err.startswith('Error: ') and 'Traceback' not in said.err
    return said.err


@pytest.mark.parametrize(
    ('error', 'says'),
    [
        (
            RuntimeError("Unable to initialize backend 'tpu': INTERNAL: no libtpu.so (set JAX_PLATFORMS='' to choose)"),
            'no libtpu.so. Install',
        ),
        (AssertionError(), 'its plugin for JAX is not installed'),
    ],
    ids=['tpu', 'gpu'],
)
def test_a_device_that_is_not_there(micro_data, tmp_path, capfd, monkeypatch, nothing_computed, error, says):
    def devices(*_):
        raise error

    monkeypatch.setattr(jax, 'devices', devices)
    monkeypatch.setenv('JAX_PLATFORMS', 'tpu')
    said = told(capfd, micro_config_dict(micro_data), tmp_path / 'run')
    assert 'JAX_PLATFORMS=tpu asks for a device' in said and says in said and 'JAX_PLATFORMS=cpu' in said
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    'fields',
    [
        {'mesh.data': 3},
        {'batch.identities': 3, 'batch.tracklets': 2},
        {'evaluation.clips_per_step': 12},
        {'batch.identities': 7, 'batch.tracklets': 8},
    ],
)
def test_sizes_that_the_devices_or_the_data_do_not_allow(micro_data, tmp_path, capfd, nothing_computed, fields):
    said = told(capfd, micro_config_dict(micro_data, **fields), tmp_path / 'run')
    assert '8 device' in said or 'holds 6 people' in said


@pytest.mark.parametrize('name', ['checkpoints', 'eval', 'metrics.jsonl', 'profile', 'cache'])
def test_what_cannot_be_written_is_told_first(micro_data, tmp_path, capfd, nothing_computed, name):
    """A file where a folder belongs, and the other way round; the tests may run as root, who may write everywhere."""
    workdir = tmp_path / 'run'
    workdir.mkdir()
    if '.' in name:
        (workdir / name).mkdir()
    else:
        (workdir / name).write_text('')
    fields = {'compile_cache': str(workdir / 'cache')} if name == 'cache' else {'profile': '1:2'}
    assert f'{workdir / name} cannot be written' in told(capfd, micro_config_dict(micro_data, **fields), workdir)


def test_a_folder_without_permission_is_told(micro_data, tmp_path, capfd, monkeypatch, nothing_computed):
    (tmp_path / 'run' / 'checkpoints').mkdir(parents=True)
    monkeypatch.setattr(preflight.os, 'access', lambda path, mode: not str(path).endswith('checkpoints'))
    assert 'permission denied' in told(capfd, micro_config_dict(micro_data), tmp_path / 'run')


@pytest.mark.parametrize(
    ('free', 'saved', 'step', 'fits'),
    [
        (4000, 0, 0, True),
        (3999, 0, 0, False),  # two to keep, the best, and the one that is being written
        (1999, 2, 4, False),
        (2000, 2, 4, True),
        (1000, 4, 4, True),
        (999, 4, 4, False),
        (0, 3, 10, True),  # finished: it is only evaluated
    ],
)
def test_space_for_the_checkpoints_that_are_to_come(micro_data, tmp_path, monkeypatch, free, saved, step, fits):
    config = micro_config(micro_data, **{'training.steps': 10, 'training.checkpoint_every': 2})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(total=10_000, free=free))
    shapes = {'a': jax.ShapeDtypeStruct((125,), 'float32'), 'b': jax.ShapeDtypeStruct((125,), 'int32')}
    if fits:
        preflight.check_space(config, tmp_path, shapes, saved, step)
    else:
        with pytest.raises(UserError, match='No space left for checkpoints'):
            preflight.check_space(config, tmp_path, shapes, saved, step)


def test_space_is_asked_for_before_training(micro_data, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(total=10_000, free=100))
    monkeypatch.setattr('pvlad_jax.runs.training_run.compile_ahead', lambda *a: pytest.fail('compiled'))
    assert 'No space left for checkpoints' in told(
        capfd, micro_config_dict(micro_data, **{'model.pooling': 'average'}), tmp_path / 'run'
    )
    assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'person_id': lambda ids: ids * 0}, 'junk .* cannot be looked for'),
        ({'camera_id': lambda ids: ids * 0 - 1}, 'compares cameras'),
        (
            {'camera_id': lambda ids: ids * 0 + 1},
            'none of the 8 queries has a tracklet of the same person and another camera',
        ),
        ({'tracklet': lambda names: np.repeat(names[:1], len(names))}, 'names must be unique'),
    ],
    ids=['junk', 'unknown', 'one camera', 'names'],
)
def test_labels_that_no_query_can_be_scored_by(opened, micro_data, change, says):
    _, roles = opened
    ((field, altered),) = change.items()
    tables = {
        role: dataclasses.replace(getattr(roles, role), **{field: altered(getattr(getattr(roles, role), field))})
        for role in ('query', 'gallery')
    }
    with pytest.raises(UserError, match=f'The test tracklets cannot be evaluated: .*{says}'):
        preflight.check_labels_of(micro_config(micro_data), dataclasses.replace(roles, **tables))


def test_labels_that_fit_pass_in_each_protocol(opened, micro_data):
    _, roles = opened
    for protocol in ('mars_official', 'gallery_only', 'cross_camera'):
        preflight.check_labels_of(
            micro_config(micro_data, **{'evaluation.protocol': protocol, 'evaluation.distance': 'xqda'}), roles
        )
    one_camera = dataclasses.replace(roles.train, camera_id=roles.train.camera_id * 0 + 1)
    with pytest.raises(UserError, match='learned from pairs'):
        preflight.check_labels_of(
            micro_config(micro_data, **{'evaluation.distance': 'kissme'}), dataclasses.replace(roles, train=one_camera)
        )
    unknown = dataclasses.replace(roles.train, camera_id=roles.train.camera_id * 0 - 1)  # each is one of its own
    preflight.check_labels_of(
        micro_config(micro_data, **{'evaluation.distance': 'xqda'}), dataclasses.replace(roles, train=unknown)
    )
    one_person = dataclasses.replace(roles, train=roles.train.select(roles.train.person_id == 1))
    with pytest.raises(UserError, match='learned from pairs'):
        preflight.check_test_labels(micro_config(micro_data, **{'evaluation.distance': 'xqda'}), one_person)
    empty = roles.train.select(np.zeros(len(roles.train), bool))
    with pytest.raises(UserError, match='validation'):
        preflight.check_labels_of(
            micro_config(micro_data, **{'dataset.validation_share': 0.4}),
            dataclasses.replace(roles, validation_query=empty, validation_gallery=empty),
        )


class Altered(TrackletDataset):
    """A data set some of whose records are other than the table says."""

    def __init__(self, dataset, **frames):
        vars(self).update(vars(dataset), _dataset=dataset, _frames=frames)

    def read(self, split, row):
        record = self._dataset.read(split, row)
        change = self._frames.get(record.tracklet)
        return record if change is None else change(record)


def test_headers_of_frames_to_be_tested(opened, micro_data, tmp_path):
    dataset, roles = opened
    assert damaged_tracklets(dataset, roles.query) == {}
    png = b'\x89PNG\r\n\x1a\n'

    def frames(change):
        return lambda record: dataclasses.replace(record, frames=[change(f) for f in record.frames])

    altered = Altered(
        dataset,
        p7c1t1=frames(lambda f: f[:30]),
        p7c2t1=frames(lambda f: b''),
        p8c1t1=frames(lambda f: png + f[:3]),
        p8c2t1=lambda record: dataclasses.replace(record, frames=list(record.frames)[1:]),
        p9c1t1=lambda record: dataclasses.replace(record, tracklet='p9c9t9'),
    )
    damaged = damaged_tracklets(altered, roles.query)
    assert set(damaged) == {'p7c1t1', 'p7c2t1', 'p8c1t1', 'p8c2t1', 'p9c1t1'}
    assert 'the table of tracklets says' in damaged['p8c2t1'] and 'out of step' in damaged['p9c1t1']
    last = Altered(dataset, p7c1t1=lambda record: dataclasses.replace(record, frames=[*list(record.frames)[:-1], b'']))
    # Only the frames that are scored are looked at.
    assert not damaged_tracklets(last, roles.query, 'first:1') and damaged_tracklets(last, roles.query)
    config, data = micro_config(micro_data), RunData(tmp_path, dataset, 6)
    with pytest.raises(UserError, match=r'p7c1t1.*So are p7c2t1, p8c1t1.*on_error=skip'):
        preflight.check_frames(config, altered, roles, data)
    preflight.check_frames(micro_config(micro_data, **{'input.on_error': 'skip'}), altered, roles, data)
    preflight.check_frames(config, dataset, roles, data)
    data.write()
    # The same data are not looked at again.
    preflight.check_frames(config, altered, roles, RunData(tmp_path, dataset, 6))
    with pytest.raises(UserError, match='p7c1t1'):
        preflight.check_frames(
            micro_config(micro_data, **{'evaluation.frames': 'even:2'}), altered, roles, RunData(tmp_path, dataset, 6)
        )


def test_the_remedy_for_a_damaged_tracklet_is_said_once(opened, micro_data, tmp_path):
    dataset, roles = opened

    def unreadable(_record):
        raise CorruptRecord("Tracklet 'p7c1t1' (record 0 of split query) is damaged: no protobuf")

    faults = [
        (lambda record: dataclasses.replace(record, frames=[f[:30] for f in record.frames]), 'cannot be decoded: it'),
        (
            lambda record: dataclasses.replace(record, frames=list(record.frames)[1:]),
            r'the table of tracklets says \d+\.',
        ),
        (unreadable, 'is damaged: no protobuf.'),
    ]
    for change, says in faults:
        with pytest.raises(UserError, match=says) as told:
            preflight.check_frames(
                micro_config(micro_data), Altered(dataset, p7c1t1=change), roles, RunData(tmp_path, dataset, 6)
            )
        said = str(told.value)
        assert said.count('on_error=skip') == said.count('data set again') == 1 and re.search(
            r'\. Build the data', said
        )


def test_a_corrupt_record_says_what_to_do_and_survives_a_pickle():
    error = pickle.loads(pickle.dumps(CorruptRecord('Tracklet x is damaged')))
    assert error.fault == 'Tracklet x is damaged' and str(error).startswith('Tracklet x is damaged. Build the data set')


def test_people_held_out_are_looked_at_too_and_each_split_anew(opened, micro_data, tmp_path):
    dataset, _ = opened
    roles = partition(dataset, validation_share=0.34)
    for table in (roles.validation_query, roles.validation_gallery):
        name = str(table.tracklet[0])
        altered = Altered(dataset, **{name: lambda record: dataclasses.replace(record, frames=[])})
        with pytest.raises(UserError, match=f'damaged: {name}: '):
            preflight.check_frames(micro_config(micro_data), altered, roles, RunData(tmp_path, dataset, 6))
    data = RunData(tmp_path, dataset, 6)
    preflight.check_frames(micro_config(micro_data), dataset, roles, data)
    for fields in ({'dataset.split': '1'}, {'dataset.halves': 'swapped'}, {'dataset.validation_share': 0.4}):
        with pytest.raises(UserError, match='damaged'):
            preflight.check_frames(micro_config(micro_data, **fields), altered, roles, data)


def test_damage_is_found_before_training(micro_data, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr('pvlad_jax.runs.training_run.compile_ahead', lambda *a: pytest.fail('compiled'))
    read = TrackletDataset.read
    monkeypatch.setattr(
        TrackletDataset,
        'read',
        lambda self, split, row: (
            dataclasses.replace(read(self, split, row), frames=[]) if split == 'gallery' else read(self, split, row)
        ),
    )
    config = micro_config_dict(micro_data, **{'model.pooling': 'average'})
    assert 'A tracklet to be tested is damaged' in told(capfd, config, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'config.json').exists() and freeze(config).input.on_error == 'stop'
