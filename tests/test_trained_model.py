"""Reading a working directory: which checkpoint, what is refused, and the fingerprint of what was read."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import pytest

import pvlad_jax
from pvlad_jax.config import Config, flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.trained_model import TrainedModel, load_trained
from tests.helpers.small_models import copied, write_workdir


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def model(workdir):
    return pvlad_jax.load(workdir)


def test_the_fingerprint_is_of_weights_architecture_and_preprocessing(workdir, tmp_path, model):
    assert pvlad_jax.load(copied(workdir, tmp_path / 'copy')).fingerprint == model.fingerprint
    trained = load_trained(workdir)
    whole = trained.fingerprint(False)
    trained.variables['params']['classifier']['kernel'][:] += 1  # takes no part in an embedding
    assert trained.fingerprint(False) == whole
    jax.tree.leaves(trained.variables['params']['backbone'])[0][...] += 1e-3
    assert trained.fingerprint(False) != whole
    taller = dataclasses.replace(model.model.config.clips, height=24)
    other = dataclasses.replace(model.model, config=dataclasses.replace(model.model.config, clips=taller))
    assert other.fingerprint(False) != model.model.fingerprint(False) == model.fingerprint


def test_a_field_that_an_earlier_version_did_not_have_leaves_the_fingerprint_as_it_was(workdir, monkeypatch):
    trained = load_trained(workdir)
    architecture, whole = trained.architecture, trained.fingerprint(False)
    defaults = flatten(Config())
    changed = [name for name, value in architecture.items() if value != defaults[name]]
    assert changed and architecture['model.vlad_norm'] == 'codeword'
    for name in architecture:
        without = {other: value for other, value in architecture.items() if other != name}
        monkeypatch.setattr(TrainedModel, 'architecture', property(lambda _, without=without: without))
        assert (trained.fingerprint(False) == whole) == (name not in changed)


def test_the_next_checkpoint_is_taken_where_one_is_deleted_while_it_is_read(workdir, tmp_path, monkeypatch):
    """By a training beside it; what no training has deleted is not tried again."""
    folder, variables, read = copied(workdir, tmp_path / 'run') / 'checkpoints', Checkpoints.variables, []

    def trained_meanwhile(self, step):
        read.append(step)
        if (folder / '2').exists():
            (folder / '2').rename(folder / '4')
        return variables(self, step)

    monkeypatch.setattr(Checkpoints, 'variables', trained_meanwhile)
    assert load_trained(tmp_path / 'run').step == 4 and read == [2, 4]
    read.clear()
    shutil.rmtree(folder / '4' / 'state')
    with pytest.raises(UserError, match='damaged'):
        load_trained(tmp_path / 'run')
    assert read == [4]


def damaged(workdir: Path, how: str) -> Path:
    config = workdir / 'config.json'
    if how == 'no folder':
        return workdir / 'none'
    if how == 'no config':
        config.unlink()
    elif how == 'config cut':
        config.write_text(config.read_text()[:200])
    elif how == 'config of a list':
        config.write_text('[1, 2]')
    elif how == 'unknown field':
        config.write_text(json.dumps({**json.loads(config.read_text()), 'model.nonsense': 1}))
    elif how == 'a value for a section':
        config.write_text('{"model": 3}')
    elif how == 'another network':
        config.write_text(json.dumps({**json.loads(config.read_text()), 'model.embedding_dim': 9}))
    elif how == 'no checkpoint':
        for path in (workdir / 'checkpoints').iterdir():
            path.rename(workdir / path.name)
    elif how == 'no state':
        (workdir / 'checkpoints' / '2' / 'state').rename(workdir / 'state')
    elif how == 'state cut':
        for path in (workdir / 'checkpoints' / '2' / 'state').rglob('*'):
            if path.is_file() and path.stat().st_size > 0:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return workdir


@pytest.mark.parametrize(
    ('how', 'says'),
    [
        ('no folder', 'no working directory'),
        ('no config', r'holds no config\.json'),
        ('config cut', 'is damaged'),
        ('config of a list', 'is damaged'),
        ('unknown field', 'nonsense'),
        ('a value for a section', 'config.model = 3'),
        ('another network', 'not what the checkpoint of step 2 was trained with'),
        ('no checkpoint', 'holds no checkpoint'),
        ('no state', 'damaged'),
        ('state cut', 'damaged'),
    ],
)
def test_a_corrupt_working_directory_is_one_sentence(workdir, tmp_path, how, says):
    with pytest.raises(UserError, match=says) as error:
        pvlad_jax.load(damaged(copied(workdir, tmp_path / 'model'), how))
    assert str(tmp_path) in str(error.value)


def test_the_best_checkpoint_is_chosen_by_the_validation_people(workdir, tmp_path):
    with pytest.raises(UserError, match='no best one'):
        pvlad_jax.load(workdir, checkpoint='best')
    folder = copied(workdir, tmp_path / 'model')
    (folder / 'checkpoints' / '2' / 'evaluation.json').write_text('{"validation": {"mAP": 0.5}}')
    assert 'best by validation mAP (50.0%)' in repr(pvlad_jax.load(folder, checkpoint='best'))
    with pytest.raises(UserError, match='choose one of'):
        pvlad_jax.load(workdir, checkpoint='first')
