"""A run that is refused before its first step leaves no working directory that was not there before, and others as they
were."""

import contextlib
import fcntl
import os
from pathlib import Path

import pytest

import main
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.folder_lock import LOCK, Locked, lock_folder
from pvlad_jax.runs import preflight
from pvlad_jax.runs.workdir import InUse, claim
from tests.helpers.failed_run import fails
from tests.helpers.micro import micro_config, micro_config_dict
from tests.helpers.micro_splits import build_micro_splits
from tests.helpers.small_models import copied, write_workdir


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp('trained') / 'run')


def refused(capfd, config, folder: Path, mode: str = 'train', output: Path | None = None) -> str:
    """What is said of a run in a new folder, which is not there afterwards; nor are those above it."""
    target = output or folder
    assert not target.parent.exists()
    assert main.run(config, folder, mode, output=output) == 2
    assert not target.parent.exists()
    return capfd.readouterr().err


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'init_from': '/nope'}, 'There is no working directory /nope'),
        ({'init_from': '{trained}@3'}, 'holds no checkpoint of step 3'),
        ({'init_from': '{trained}', 'model.backbone.temporal': '2d'}, 'has a backbone of other arrays'),
        ({'model.backbone.weights': '/nope.safetensors'}, 'There is no weights file /nope.safetensors'),
        ({'model.backbone.weights': __file__}, 'is not a whole safetensors file'),
        ({'model.pooling': 'pretrained_head'}, "model.pooling = 'pretrained_head'"),
        ({'dataset.name': 'none'}, "No data set 'none'"),
        ({'clips.height': 10**8, 'clips.width': 10**8}, 'and this machine has'),
    ],
)
@pytest.mark.parametrize('split', ['0', 'all'])
def test_a_refused_training_leaves_nothing(tmp_path, tmp_path_factory, trained, capfd, fields, says, split):
    data = tmp_path / 'data'
    build_micro_splits(data)
    filled = {k: v.format(trained=trained) if isinstance(v, str) else v for k, v in fields.items()}
    name = {'dataset.name': 'micro_splits', 'dataset.split': split, 'compile_cache': ''}
    said = refused(capfd, micro_config_dict(data, **{**name, **filled}), tmp_path / 'runs' / 'new')
    assert says in said


def test_an_evaluation_does_not_write_over_another_training(micro_data, trained, tmp_path, capfd):
    other = copied(trained, tmp_path / 'other')
    before = sorted(other.rglob('*'))
    assert main.run(micro_config_dict(micro_data), trained, 'eval', output=other) == 2
    assert f'--output={other} is the working directory of another training' in capfd.readouterr().err
    assert sorted(other.rglob('*')) == before


def test_a_refused_evaluation_leaves_no_output(micro_data, trained, tmp_path, capfd):
    before = sorted(path for path in trained.rglob('*'))
    config = micro_config_dict(micro_data, **{'evaluation.dataset': 'nope'})
    assert "No data set 'nope'" in refused(capfd, config, trained, 'eval', tmp_path / 'a' / 'b')
    config = micro_config_dict(micro_data, **{'evaluation.checkpoint': 'untrained', 'model.backbone.weights': '/nope'})
    assert 'no weights file /nope' in refused(capfd, config, tmp_path / 'a' / 'b', 'eval')
    assert sorted(path for path in trained.rglob('*')) == before


def test_folders_that_were_there_and_files_of_others_stay(micro_data, tmp_path, capfd):
    config = micro_config_dict(micro_data, **{'init_from': '/nope'})
    (tmp_path / 'empty').mkdir()
    fails(capfd, config, tmp_path / 'empty')
    assert [path.name for path in (tmp_path / 'empty').iterdir()] == [LOCK]
    with pytest.raises(UserError), claim(tmp_path / 'a' / 'run'):
        (tmp_path / 'a' / 'other').mkdir()
        raise UserError('No.')
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['other']
    for number, left in enumerate(('config.json', 'checkpoints/1/state', 'eval/latest.json', 'notes.txt')):
        folder = tmp_path / f'kept{number}'
        with pytest.raises(UserError), claim(folder):
            (folder / 'compile_cache').mkdir()
            (folder / left).parent.mkdir(parents=True, exist_ok=True)
            (folder / left).touch()
            raise UserError('No.')
        assert (folder / left).exists() and (folder / 'compile_cache').exists() and (folder / LOCK).exists()


@pytest.mark.parametrize(
    ('error', 'left'),
    [
        (UserError('No.'), False),
        (MemoryError(), False),
        (OSError(28, 'No space left on device'), False),
        (KeyboardInterrupt(), True),
        (ZeroDivisionError(), True),
        (None, True),
    ],
    ids=repr,
)
def test_what_a_new_folder_holds_when_it_is_left(tmp_path, error, left):
    folder = tmp_path / 'a' / 'b'
    with contextlib.suppress(Exception, KeyboardInterrupt):
        with claim(folder):
            (folder / 'checkpoints').mkdir()
            (folder / 'compile_cache' / 'cpu').mkdir(parents=True)
            (folder / 'compile_cache' / 'cpu' / 'program').write_text('')
            if error:
                raise error
    assert folder.exists() == (tmp_path / 'a').exists() == left
    with claim(folder):  # the lock is free
        pass


def test_a_lock_that_its_holder_has_removed_holds_nothing(tmp_path, monkeypatch):
    """A run that waits for the lock of one that is refused must not hold a file that nobody else can see."""
    flock, calls = fcntl.flock, []

    def removed_meanwhile(file, operation):
        calls.append(operation)
        if len(calls) == 1:
            os.unlink(tmp_path / LOCK)
            (tmp_path / LOCK).touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, 'flock', removed_meanwhile)
    with lock_folder(tmp_path):
        assert len(calls) == 2
        with pytest.raises(Locked):
            lock_folder(tmp_path)

    def gone_meanwhile(file, operation):
        calls.append(operation)
        if len(calls) == 1:
            os.unlink(tmp_path / 'new' / LOCK)
            (tmp_path / 'new').rmdir()
        flock(file, operation)

    calls.clear()
    monkeypatch.setattr(fcntl, 'flock', gone_meanwhile)
    with claim(tmp_path / 'new'), pytest.raises(InUse):
        claim(tmp_path / 'new')
    assert (tmp_path / 'new' / LOCK).exists()


@pytest.mark.parametrize(
    ('memory', 'training', 'fits'),
    [(0, True, True), (24_576, True, True), (24_575, True, False), (12_288, False, True), (12_287, False, False)],
)
def test_clips_of_a_step_beyond_the_memory_of_the_machine(micro_data, monkeypatch, memory, training, fits):
    """8 tracklets of 2 clips in training, 8 clips in evaluation, of 4 x 16 x 8 pixels of 3 bytes."""
    monkeypatch.setattr(preflight, '_memory', lambda: memory)
    config = micro_config(micro_data)
    if fits:
        preflight.check_memory(config, training)
    else:
        with pytest.raises(UserError, match=r'of 4 frames of 16 x 8 pixels are 0 GB, and this'):
            preflight.check_memory(config, training)
