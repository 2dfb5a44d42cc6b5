"""A run given again, or evaluated: what it needs of what it was begun with, and what it leaves alone."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

import main
import pvlad_jax
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.evaluate import restore_chosen
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.initialisation.pretrained import FORMAT, METADATA, tensors_digest
from tests.helpers.micro import build_micro, micro_config_dict

FIELDS = {'training.steps': 2, 'training.checkpoint_every': 1, 'model.pooling': 'average'}


def write_weights(path, changed=None) -> None:
    """Weights of the micro backbone, as the importer writes them."""
    rng = np.random.default_rng(3)
    tensors = {
        'params/stem/conv/kernel': rng.normal(size=(3, 3, 3, 3, 8)).astype(np.float32) * 0.1,
        'params/stem/norm/scale': np.ones(8, np.float32),
        'params/stem/norm/bias': np.zeros(8, np.float32),
        'batch_stats/stem/norm/mean': np.zeros(8, np.float32),
        'batch_stats/stem/norm/var': np.ones(8, np.float32),
    } | (changed or {})
    about = dict.fromkeys(METADATA, 'x') | {
        'format': FORMAT,
        'backbones': 'micro',
        'tensors_sha256': tensors_digest(tensors),
        'pixel_mean': '0.5,0.5,0.5',
        'pixel_std': '0.25,0.25,0.25',
    }
    save_file(tensors, path, about)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """(configuration, working directory) of a finished run that began with imported weights."""
    folder = tmp_path_factory.mktemp('resumed')
    build_micro(folder / 'data')
    write_weights(folder / 'backbone.safetensors')
    config = micro_config_dict(
        folder / 'data', **FIELDS, **{'model.backbone.weights': str(folder / 'backbone.safetensors')}
    )
    assert main.run(config, folder / 'run', 'train') == 0
    return config, folder / 'run'


def another(config, **fields):
    config = config.copy_and_resolve_references()
    for path, value in fields.items():
        section, leaf = path.rsplit('.', 1)
        node = config
        for part in section.split('.'):
            node = node[part]
        node[leaf] = value
    return config


def tree(folder) -> dict:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob('*'))}


@pytest.mark.parametrize('path', ['gone.safetensors', ''])
def test_weights_are_needed_for_a_new_run_only(run, tmp_path, capfd, path):
    config, workdir = run
    without = another(config, **{'model.backbone.weights': path and str(tmp_path / path)})
    assert main.run(without, workdir, 'eval') == 0
    shutil.copytree(workdir, tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '2')
    assert main.run(without, tmp_path / 'run', 'train') == 0  # resumed at step 1
    assert 'after step 1 of 2' in capfd.readouterr().out
    states = []
    for folder in (workdir, tmp_path / 'run'):
        checkpoints = Checkpoints(folder / 'checkpoints', freeze(config).checkpoint, read_only=True)
        states.append(gather_to_host(checkpoints.restore(prepare(freeze(config)).state_shapes())[0]))
    np.testing.assert_array_equal(*(state.params['backbone']['stem']['conv']['kernel'] for state in states))
    if path:
        assert main.run(without, tmp_path / 'new', 'train') == 2
        assert (
            f'no weights file {tmp_path / path}' in capfd.readouterr().err
            and not (tmp_path / 'new' / 'config.json').exists()
        )


def test_weights_that_do_not_fit_are_told_before_anything_is_computed(run, tmp_path, monkeypatch):
    config, _ = run
    monkeypatch.setattr(
        'pvlad_jax.training.initialisation.pretrained.tensors_digest',
        lambda tensors: pytest.fail('the tensors were read'),
    )
    write_weights(tmp_path / 'other.safetensors', {'params/stem/norm/scale': np.ones(9, np.float32)})
    (tmp_path / 'cut.safetensors').write_bytes((tmp_path / 'other.safetensors').read_bytes()[:50])
    for name, says in {
        'other': r'stem/norm/scale is \(9,\) in the file and \(8,\) in the network',
        'cut': 'not a whole safetensors',
    }.items():
        with_file = another(config, **{'model.backbone.weights': str(tmp_path / f'{name}.safetensors')})
        experiment = prepare(freeze(with_file))
        with pytest.raises(UserError, match=says):
            experiment.check_weights(experiment.state_shapes())


def test_an_evaluation_changes_nothing_in_the_checkpoints(run, tmp_path, capfd):
    """A training at the same time may be in the middle of a save, or of deleting a checkpoint."""
    config, workdir = run[0], tmp_path / 'run'
    shutil.copytree(run[1], workdir)
    folder = workdir / 'checkpoints'
    (folder / 'deleted' / '1').mkdir(parents=True)
    shutil.copytree(folder / '2', folder / '3.orbax-checkpoint-tmp-7')
    before = tree(folder)
    assert main.run(config, workdir, 'eval') == 0
    assert tree(folder) == before
    reader = Checkpoints(folder, freeze(config).checkpoint, read_only=True)
    assert reader.steps() == [1, 2]
    reader.close()
    assert tree(folder) == before
    missing = Checkpoints(workdir / 'nothing', freeze(config).checkpoint, read_only=True)
    assert missing.latest_step() is None and not (workdir / 'nothing').exists()
    assert main.run(config, workdir / 'mistyped', 'eval') == 2
    assert 'holds no checkpoint to evaluate' in capfd.readouterr().err and not (workdir / 'mistyped').exists()


@pytest.mark.parametrize(('field', 'value'), [('clips.stride', 2), ('seed', 7)])
def test_a_configuration_that_is_not_the_checkpoints_is_refused(run, tmp_path, capfd, field, value):
    """Shapes of arrays fit, so nothing else would notice that config.json was edited."""
    config, workdir = run[0], tmp_path / 'run'
    shutil.copytree(run[1], workdir)
    saved = json.loads((workdir / 'config.json').read_text())
    (workdir / 'config.json').write_text(json.dumps({**saved, field: value}))
    (edited := config.copy_and_resolve_references()).update_from_flattened_dict({field: value})
    for mode in ('train', 'eval'):
        assert main.run(another(edited, **{'training.steps': 4}), workdir, mode) == 2
        said = capfd.readouterr().err
        assert 'is not what the checkpoint of step 2 was trained with' in said and 'now\n' in said, said
        assert f'{field}: {saved[field]!r} before, {value!r} now' in said
    with pytest.raises(UserError, match=f'{field}: .* before, .* now'):
        pvlad_jax.load(workdir)
    (workdir / 'config.json').write_text(json.dumps({**saved, 'evaluation.flip': True}))  # which may differ
    assert pvlad_jax.load(workdir).size


def test_a_change_of_the_data_that_comes_to_nothing_is_not_kept(run, tmp_path, capfd):
    """It was accepted, and then its frames could not be read: the run's own data are still its own."""
    config, workdir, damaged = run[0], tmp_path / 'run', tmp_path / 'data'
    shutil.copytree(run[1], workdir)
    shutil.copytree(config.dataset.data_dir, damaged)
    (shard,) = damaged.rglob('*-gallery.array_record-*')
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    before = (workdir / 'data.json').read_bytes()
    on = {'dataset.data_dir': str(damaged)}
    assert main.run(another(config, **on), workdir, 'eval') == 2 and 'but other frames' in capfd.readouterr().err
    assert main.run(another(config, **on, **{'dataset.on_change': 'accept'}), workdir, 'eval') == 2
    assert 'Accepted' in capfd.readouterr().out and (workdir / 'data.json').read_bytes() == before
    shard.unlink()
    assert main.run(another(config, **on), workdir, 'eval') == 2
    assert 'holds 0 of the 1 record files of the split gallery' in capfd.readouterr().err
    assert main.run(config, workdir, 'eval') == 0


def test_an_evaluation_takes_the_next_checkpoint_where_one_is_deleted_while_it_is_read(run, tmp_path, monkeypatch):
    config, workdir = run
    shutil.copytree(workdir, tmp_path / 'run')
    folder, restore = tmp_path / 'run' / 'checkpoints', Checkpoints.restore

    def trained_meanwhile(self, like, step=None):
        if (folder / '2').exists():
            (folder / '2').rename(folder / '4')
        return restore(self, like, step)

    monkeypatch.setattr(Checkpoints, 'restore', trained_meanwhile)
    checkpoints = Checkpoints(folder, freeze(config).checkpoint, read_only=True)
    experiment = prepare(freeze(config))
    state, which = checkpoints.read_during_training(lambda: restore_chosen(experiment, checkpoints))
    assert int(state.step) == 2 and which == 'last' and checkpoints.steps() == [1, 4]


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_rebuilt_data_are_noticed(run, tmp_path, capfd, mode):
    config, workdir = run
    build_micro(tmp_path / 'data', seed=5)
    other = another(config, **{'dataset.data_dir': str(tmp_path / 'data')})
    before = {name: made for name, made in tree(workdir).items() if name != '.lock'}
    assert main.run(other, workdir, mode) == 2
    err = capfd.readouterr().err
    assert 'is not the one that this run was trained on: the same labels as before, but other frames' in err
    assert {name: made for name, made in tree(workdir).items() if name != '.lock'} == before
    shutil.copytree(config.dataset.data_dir, tmp_path / 'moved')
    moved = another(config, **{'dataset.data_dir': str(tmp_path / 'moved')})
    assert main.run(moved, workdir, mode) == 0
