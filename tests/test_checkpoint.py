"""Checkpoints: on another mesh, of another network or format, damaged; which of them are kept."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from pvlad_jax.config import CheckpointConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.parallel.mesh import gather_to_host, global_batch, make_mesh
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.checkpoint_digests import DIGESTS
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.train_step import make_train_step
from tests.helpers.micro import micro_config

FIELDS = {
    'optimizer.name': 'sgd',
    'optimizer.learning_rate': 0.05,
    'optimizer.ema': 0.9,
    'loss.oim': 0.5,
    'loss.auxiliary': 0.5,
}
KEEP = CheckpointConfig(keep_latest=2, keep_best=1)


def on_devices(n: int, monkeypatch, data_dir, **fields):
    """An experiment on the first n devices; arrays of 64 and more elements are sharded under fsdp."""
    monkeypatch.setattr('pvlad_jax.parallel.sharding.MIN_SHARDED_SIZE', 64)
    monkeypatch.setattr(
        'pvlad_jax.runs.experiment.make_mesh', lambda data, fsdp: make_mesh(data, fsdp, jax.devices()[:n])
    )
    return prepare(micro_config(data_dir, **FIELDS, **fields))


def go_on(experiment, state, first: int, last: int):
    """(state, losses) of the steps from `first` up to `last`."""
    step = make_train_step(experiment.config, experiment.network, experiment.optimizer, experiment.mesh, state)
    batches = TrainBatches(experiment.dataset, experiment.partition.train, experiment.config)
    losses = []
    for i in range(first, last):
        batch = {k: batches[i][k] for k in ('clips', 'valid', 'label')}
        state, metrics = step(state, global_batch(batch, experiment.mesh))
        losses.append(float(metrics['loss']))
    return state, losses


def sharded(state) -> bool:
    return any(any(x.sharding.spec) for x in jax.tree.leaves(state) if isinstance(x, jax.Array))


def test_saved_on_eight_devices_goes_on_on_two(micro_data, tmp_path, monkeypatch):
    """Each array in four parts, read in two."""
    experiment = on_devices(8, monkeypatch, micro_data, **{'mesh.data': 2, 'mesh.fsdp': 4})
    state, _ = go_on(experiment, experiment.initial_state(), 0, 2)
    assert sharded(state)
    checkpoints = Checkpoints(tmp_path, KEEP)
    checkpoints.save(2, state, {'next_index': 2}, {})
    checkpoints.close()
    saved = gather_to_host(state)
    expected, losses = go_on(experiment, state, 2, 5)

    other = on_devices(2, monkeypatch, micro_data, **{'mesh.data': 1, 'mesh.fsdp': 2})
    checkpoints = Checkpoints(tmp_path, KEEP)
    restored, data = checkpoints.restore(other.state_shapes())
    checkpoints.close()
    assert data == {'next_index': 2} and sharded(restored)
    assert {d for x in jax.tree.leaves(restored) for d in x.sharding.device_set} == set(jax.devices()[:2])
    jax.tree.map(np.testing.assert_array_equal, saved, gather_to_host(restored))
    ended, losses_on_two = go_on(other, restored, data['next_index'], 5)
    np.testing.assert_allclose(losses_on_two, losses, rtol=1e-4)
    expected, ended = gather_to_host(expected), gather_to_host(ended)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(ended), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))


def made_of(fields, data_dir, folder):
    """(experiment, its first state on the host, folder with the checkpoints of steps 1 and 2)."""
    experiment = prepare(micro_config(data_dir, **fields))
    state = experiment.initial_state()
    checkpoints = Checkpoints(folder, KEEP)
    for step in (1, 2):
        checkpoints.save(step, state, {'next_index': step}, {'model.clusters': 3})
    checkpoints.close()
    return experiment, gather_to_host(state), folder


@pytest.fixture(scope='module')
def made(micro_data, tmp_path_factory):
    return made_of(FIELDS, micro_data, tmp_path_factory.mktemp('made'))


@pytest.fixture(scope='module')
def fewer_arrays(micro_data, tmp_path_factory):
    """A restore costs by the array; there are files of every kind for few as for many."""
    fields = {'model.pooling': 'average', 'optimizer.name': 'sgd'}
    return made_of(fields, micro_data, tmp_path_factory.mktemp('fewer'))


def restore(like, folder: Path, step: int | None = None):
    checkpoints = Checkpoints(folder, KEEP)
    try:
        return checkpoints.restore(like, step)
    finally:
        checkpoints.close()


@pytest.mark.parametrize(
    'fields',
    [
        {'model.clusters': 4},
        {'model.bnneck': True},
        {'model.pooling': 'average'},
        {'optimizer.name': 'adamw'},
        {'optimizer.ema': 0.0},
    ],
    ids=lambda f: '='.join(map(str, *f.items())),
)
def test_a_checkpoint_of_another_network_is_refused(made, micro_data, fields):
    _, _, folder = made
    other = prepare(micro_config(micro_data, **{**FIELDS, **fields}))
    with pytest.raises(UserError, match='does not fit this network'):
        restore(other.state_shapes(), folder)


@pytest.mark.parametrize(
    ('number', 'message'),
    [
        (0, 'checkpoint format 0; this program reads 2'),
        (3, 'checkpoint format 3; this program reads 2'),
        (1, 'without one of the BatchNorm statistics'),
    ],
)
def test_another_format_is_refused(made, tmp_path, number, message):
    experiment, _, folder = made
    shutil.copytree(folder, tmp_path / 'c')
    (tmp_path / 'c' / '2' / DIGESTS).unlink()
    about = tmp_path / 'c' / '2' / 'about' / 'metadata'
    content = json.loads(about.read_text())
    about.write_text(json.dumps({**content, 'format': number}))
    with pytest.raises(UserError, match=message):
        restore(experiment.state_shapes(), tmp_path / 'c')


@pytest.mark.parametrize('number', [1, 2])
def test_an_average_without_statistics_is_not_evaluated(made, tmp_path, number):
    _, saved, _ = made
    other = jax.tree.map(lambda x: x + 1, saved.params)
    ema = {'params': other, 'batch_stats': saved.batch_stats} if number == 2 else other
    checkpoints = Checkpoints(tmp_path, KEEP)
    checkpoints.save(1, dataclasses.replace(saved, ema=ema), {'next_index': 1}, {})
    checkpoints.close()
    (tmp_path / '1' / DIGESTS).unlink()
    about = tmp_path / '1' / 'about' / 'metadata'
    about.write_text(json.dumps({**json.loads(about.read_text()), 'format': number}))
    found = Checkpoints(tmp_path, KEEP, read_only=True).variables(1)
    assert found.keys() == {'params', 'batch_stats'}
    jax.tree.map(np.testing.assert_array_equal, found['params'], other if number == 2 else saved.params)


def test_a_step_that_is_not_there_is_told(made):
    experiment, _, folder = made
    with pytest.raises(UserError, match=r'no checkpoint of step 7 .* 1, 2'):
        restore(experiment.state_shapes(), folder, 7)


@pytest.mark.parametrize('how', ['cut', 'gone', 'changed'])
def test_a_damaged_checkpoint_is_told_or_harmless(fewer_arrays, tmp_path, how):
    """File by file. Never another state than the one that was saved, and the checkpoint before it stays readable. All
    that is damaged in the files of an item is told."""
    experiment, saved, folder = fewer_arrays
    like, told = experiment.state_shapes(), 0
    files = sorted(p.relative_to(folder) for p in (folder / '2').rglob('*') if p.is_file())
    assert len(files) > 5
    for file in files:
        shutil.rmtree(tmp_path / 'c', ignore_errors=True)
        shutil.copytree(folder, tmp_path / 'c')
        path = tmp_path / 'c' / file
        content = path.read_bytes()
        if how == 'gone':
            path.unlink()
        elif how == 'cut':
            path.write_bytes(content[: len(content) // 2])
        elif content:
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :])
        try:
            state, data = restore(like, tmp_path / 'c')
        except UserError as error:
            assert 'damaged' in str(error) or 'format' in str(error), error
            told += 1
        else:
            assert file.parent.name == '2' or not content, file
            if data != {'next_index': 1}:  # where even the step's mark is gone, the one before is the last
                assert data == {'next_index': 2}
                jax.tree.map(np.testing.assert_array_equal, saved, gather_to_host(state))
    assert told >= 2
    _, data = restore(like, tmp_path / 'c', 1)
    assert data == {'next_index': 1}


def test_one_bit_of_a_checkpoint_is_told_by_all_that_read_it(made, tmp_path):
    experiment, _, folder = made
    files = [path for path in (folder / '2').rglob('*') if path.is_file() and path.parent != folder / '2']
    for path in [*sorted(files, key=lambda path: path.stat().st_size)[-3:], folder / '2' / 'about' / 'metadata']:
        shutil.rmtree(tmp_path / 'c', ignore_errors=True)
        damaged = Path(shutil.copytree(folder, tmp_path / 'c')) / path.relative_to(folder)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x40
        damaged.write_bytes(content)
        checkpoints = Checkpoints(tmp_path / 'c', KEEP, read_only=True)
        for read in (lambda c: c.restore(experiment.state_shapes()), lambda c: c.variables(2)):
            with pytest.raises(UserError, match=rf'{path.name} does not hold .* step 2 is damaged.*there are: 1\)'):
                read(checkpoints)
        assert checkpoints.variables(1)
        checkpoints.close()


@pytest.mark.parametrize('content', [None, b'', b'{"state/d', b'[]'], ids=['none', 'empty', 'cut', 'a list'])
def test_a_checkpoint_without_digests_is_read(fewer_arrays, tmp_path, content):
    """Of an earlier version, or after a power cut."""
    _, saved, folder = fewer_arrays
    shutil.copytree(folder, tmp_path / 'c')
    (tmp_path / 'c' / '2' / DIGESTS).unlink()
    if content is not None:
        (tmp_path / 'c' / '2' / DIGESTS).write_bytes(content)
    checkpoints = Checkpoints(tmp_path / 'c', KEEP, read_only=True)
    found = checkpoints.variables(2)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, found['params'], saved.params)


def test_an_evaluation_that_is_added_leaves_a_checkpoint_whole(made, tmp_path):
    experiment, saved, _ = made
    checkpoints = Checkpoints(tmp_path, KEEP)
    for step in (1, 2, 3):
        checkpoints.save(step, saved, {'next_index': step}, {})
        checkpoints.record_evaluation(step, {'validation': {'mAP': 0.5}})
        assert len(json.loads((tmp_path / str(step) / DIGESTS).read_text())) > 5
    checkpoints.close()
    assert restore(experiment.state_shapes(), tmp_path)[1] == {'next_index': 3}


def test_the_latest_and_the_best_are_kept_and_nothing_half_deleted(made, tmp_path):
    experiment, _, _ = made
    state = experiment.initial_state()
    checkpoints = Checkpoints(tmp_path / 'c', KEEP)
    for step, mAP in ((1, 0.3), (2, 0.9), (3, 0.5), (4, None), (5, None)):
        checkpoints.save(step, state, {'next_index': step}, {})
        if mAP is not None:
            checkpoints.record_evaluation(step, {'validation': {'mAP': mAP}})
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / 'c').iterdir() if p.is_dir()) == ['2', '4', '5']
    # What a kill in the midst of a save or of a deletion leaves behind goes at the next start.
    (tmp_path / 'c' / 'deleted' / '3').mkdir(parents=True)
    shutil.copytree(tmp_path / 'c' / '5', tmp_path / 'c' / '6.orbax-checkpoint-tmp')
    again = Checkpoints(tmp_path / 'c', KEEP)
    assert again.steps() == [2, 4, 5] and again.best() == (2, pytest.approx(0.9)) and again.latest_step() == 5
    again.close()
    assert sorted(p.name for p in (tmp_path / 'c').iterdir() if p.is_dir()) == ['2', '4', '5']
