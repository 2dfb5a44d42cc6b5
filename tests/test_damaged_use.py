"""Thresholds, galleries, journals and exports, damaged in any way: one sentence that names the file; of a journal what
stands before the damage is kept.
"""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import main
import pvlad_jax
from configs import run as saved_run
from pvlad_jax.commands.embed_journal import Row, open_journal
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation.threshold import Calibration, Estimate, read_calibration, write_calibration
from pvlad_jax.export import load_model
from pvlad_jax.gallery import manifest
from tests.helpers.damaged_files import told_or_read
from tests.helpers.small_models import copied, write_workdir


def calibration() -> Calibration:
    some = Estimate(0.5, 0.25, 0.75)
    counts = ('people', 'identities', 'queries', 'gallery', 'pairs_of_one_person', 'pairs_of_two_people')
    rates = dict.fromkeys(('false_accept_rate', 'nobody', 'nobody_miss_rate'), 0.5)
    estimates = {**dict.fromkeys(('same', 'false_accepts', 'misses'), some), 'open_set': {'known': some}}
    said = {'model': 'm', 'per': 'pair', 'warnings': ['few'], 'curve': {'threshold': [0.5, 1.0]}}
    return Calibration(**said, **rates, **estimates, **dict.fromkeys(counts, 9))


def test_a_threshold(tmp_path):
    path = tmp_path / 't.json'
    write_calibration(path, calibration())

    def read():
        read_calibration(path).decide([0.25, 0.75])

    told_or_read(path, read, 'is not a threshold that `calibrate` has written .*Make it with')
    assert read_calibration(path) == calibration()


@pytest.mark.parametrize('backend', ['faiss', 'milvus'])
def test_the_state_of_a_gallery(tmp_path, backend):
    options, index = {
        'faiss': ({'kind': 'ivfpq'}, {'file': '1.faiss', 'kind': 'ivfpq', 'trained_on': 9}),
        'milvus': ({'uri': 'file.db', 'collection': 'pvlad'}, {'rows': 5, 'collection': 'pvlad_v2'}),
    }[backend]
    state = manifest.State(backend, 'm', 4, 3, 10, (manifest.Segment('1', 5),), options, index)
    manifest.commit(tmp_path, state)

    def read():
        found = manifest.read_state(tmp_path)
        assert found.rows + found.version + found.next_id + len(found.fingerprint) is not None
        if backend == 'milvus':
            assert isinstance(found.index.get('rows', 0) + 1, int)
            assert '://' not in found.options['uri'] and found.index.get('collection', found.options['collection'])
        if found.index and found.backend == 'faiss':
            assert tmp_path / found.index['file'] and found.index.get('trained_on', 0) * 4 is not None

    told_or_read(tmp_path / 'gallery.json', read, 'is damaged .*Restore it from a copy, or make the gallery', tmp_path)
    assert manifest.read_state(tmp_path) == state
    fields = json.loads((tmp_path / 'gallery.json').read_text())
    for name in ('segments', 'next_id', 'version', 'size'):  # by default an empty gallery
        (tmp_path / 'gallery.json').write_text(json.dumps({key: fields[key] for key in fields if key != name}))
        with pytest.raises(UserError, match=rf'is damaged \(Object missing required field `{name}`'):
            manifest.read_state(tmp_path)


def row(order: int, **fields) -> Row:
    said = {'embedding': np.full(3, order, np.float32), **fields}
    return Row(order, f't{order}', 0, 9, 0.5, None, 10, '', **said)


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'order': 'x'}, 'got `str` - at `$.order`'),
        ({'tracklet': 3}, 'got `int` - at `$.tracklet`'),
        ({'frames': 1e999}, 'got `float` - at `$.frames`'),
        ({'embedding': '?'}, ''),
        ({'embedding': 'AAAAAA=='}, 'of another size'),
        ({'embedding': 'AADAfwAAwH8AAMB/'}, 'not finite'),
        ({'embedding': None}, 'no reason is given'),
        ({'reason': None}, 'got `null` - at `$.reason`'),
        (b'[]', 'it holds no fields'),
        (b'[' * 100_000, 'nested too deeply'),
        (b'\xff', 'no UTF-8'),
    ],
)
def test_a_line_of_the_journal(tmp_path, change, says):
    job = {'model': 'm'}
    with open_journal(tmp_path / 'out.npz', job) as journal:
        for order in range(3):
            journal.add(row(order))
        path = journal.path
    lines = path.read_bytes().splitlines()
    lines[2] = change if isinstance(change, bytes) else json.dumps({**json.loads(lines[2]), **change}).encode()
    path.write_bytes(b'\n'.join(lines) + b'\n')
    with open_journal(tmp_path / 'out.npz', job) as journal:
        assert list(journal.rows) == ['t0'] and not journal.restarted
        assert journal.damaged.startswith('line 3: ') and says in journal.damaged
        journal.add(row(1))
    with open_journal(tmp_path / 'out.npz', job) as journal:
        assert list(journal.rows) == ['t0', 't1'] and not journal.damaged


@pytest.mark.parametrize('first', [b'[]', b'{}', b'{"job": 3}', b'[' * 100_000, b'\xff'])
def test_the_first_line_of_the_journal(tmp_path, first):
    path = tmp_path / '.out.npz.journal'
    path.write_bytes(first + b'\n{}\n')
    with open_journal(tmp_path / 'out.npz', {'model': 'm'}) as journal:
        assert not journal.rows and journal.damaged.startswith('line 1: ')
    assert json.loads(path.read_bytes()) == {'job': {'model': 'm'}}


def test_what_a_kill_leaves_of_the_journal_is_no_damage(tmp_path):
    with open_journal(tmp_path / 'out.npz', {}) as journal:
        journal.add(row(0))
        journal.add(row(1))
        path = journal.path
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with open_journal(tmp_path / 'out.npz', {}) as journal:
            assert not journal.damaged and len(journal.rows) == max(whole[:end].count(b'\n') - 1, 0)


@pytest.fixture(scope='module')
def work(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('work') / 'run')


@pytest.fixture(scope='module')
def export(work) -> Path:
    assert main.run(saved_run.get_config(str(work)), work, 'export') == 0
    return work / 'export'


def test_an_export(export, tmp_path, monkeypatch):
    folder = copied(export, tmp_path / 'export')
    fields = json.loads((folder / 'model.json').read_text())
    few = ('model.backbone.name', 'model.embedding_dim', 'model.pooling')
    fields['architecture'] = {name: fields['architecture'][name] for name in few}
    (folder / 'model.json').write_text(json.dumps(fields))
    monkeypatch.setattr('pvlad_jax.runs.exported_model.checked', lambda *_: (_ for _ in ()).throw(UserError('another')))

    def read():
        with pytest.raises(UserError) as error:
            pvlad_jax.load(folder)
        if 'was altered' not in str(error.value):
            raise error.value

    told_or_read(folder / 'model.json', read, r'model\.json (is damaged|cannot be read) \(', folder)


def test_the_loader_of_an_export(export, tmp_path, monkeypatch):
    folder = copied(export, tmp_path / 'export')
    alone = importlib.util.spec_from_file_location('alone', folder / 'load_model.py')
    loader = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(loader)
    assert Path(load_model.__file__).read_bytes() == (folder / 'load_model.py').read_bytes()
    monkeypatch.setattr(jax.export, 'deserialize', lambda content: pytest.fail('the program was read'))
    for name in ('model.json', 'weights.safetensors'):
        whole = (folder / name).read_bytes()
        for content in (b'', whole[: len(whole) // 2], b'[' * 100_000, b'[]', b'\xff' * 100, bytes(100)):
            (folder / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf'{name}.* is damaged.*Copy the folder again'):
                loader.load_model(folder)
        (folder / name).write_bytes(whole)
