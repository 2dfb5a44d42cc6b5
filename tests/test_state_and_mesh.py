"""One device equals eight, a sharded state equals a replicated one, parts of a batch equal the whole where they
should.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.parallel import mesh as meshes
from pvlad_jax.parallel.mesh import gather_to_host, global_batch, make_mesh
from pvlad_jax.parallel.sharding import state_shardings
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.train_step import make_train_step, rows_of_part
from tests.helpers.micro import micro_config


def trained(config, devices, monkeypatch, steps=3, history=None):
    """(metrics of each step, final state on the host, shardings) of a run on that number of devices; states go into
    `history`.
    """
    monkeypatch.setattr(meshes, 'make_mesh', make_mesh)
    monkeypatch.setattr(
        'pvlad_jax.runs.experiment.make_mesh', lambda data, fsdp: make_mesh(data, fsdp, jax.devices()[:devices])
    )
    experiment = prepare(config)
    state = experiment.initial_state()
    step = make_train_step(config, experiment.network, experiment.optimizer, experiment.mesh, state)
    batches = TrainBatches(experiment.dataset, experiment.partition.train, config)
    metrics = []
    for i in range(steps):
        if history is not None:
            history.append(gather_to_host(state))
        batch = {k: batches[i][k] for k in ('clips', 'valid', 'label')}
        state, m = step(state, global_batch(batch, experiment.mesh))
        metrics.append({k: float(v) for k, v in m.items()})
    shardings = jax.tree.map(lambda x: x.sharding, state)
    return metrics, gather_to_host(state), shardings


def assert_same(one, other, atol=2e-5):
    for a, b in zip(one[0], other[0]):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key] == pytest.approx(b[key], abs=1e-4, rel=1e-4), key
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one[1]), jax.tree.leaves(other[1])):
        # Rounding goes by a tensor's largest values: on an AMD EPYC one and eight round the stem's gradient (up to 1.2)
        # by 8e-5 apart.
        allowed = max(atol, 1e-4 * np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, atol=allowed, rtol=1e-3, err_msg=jax.tree_util.keystr(path))


# SGD: Adam's first steps divide gradients by their own size and make any rounding of a zero visible.
FIELDS = {
    'optimizer.name': 'sgd',
    'optimizer.learning_rate': 0.05,
    'optimizer.ema': 0.9,
    'model.bnneck': True,
    'loss.oim': 0.5,
    'loss.centre': 0.01,
    'loss.auxiliary': 0.5,
}

AVERAGE = {'model.pooling': 'average'}  # traced in a third of the time, where the pooling does not matter


@pytest.mark.parametrize('mesh', [{}, {'mesh.data': 2, 'mesh.fsdp': 4}], ids=['data', 'fsdp'])
def test_one_device_equals_eight(micro_data, monkeypatch, mesh):
    monkeypatch.setattr('pvlad_jax.parallel.sharding.MIN_SHARDED_SIZE', 64)
    one = trained(micro_config(micro_data, **FIELDS), 1, monkeypatch)
    eight = trained(micro_config(micro_data, **FIELDS, **mesh), 8, monkeypatch)
    assert_same(one, eight)
    sharded = [s for s in jax.tree.leaves(eight[2]) if any(s.spec)]
    assert bool(sharded) == bool(mesh)  # under fsdp, parameters, moments and averages really are apart


def frozen_batch_norm(config):
    """Without weights to take the statistics from, which a user's configuration may not do."""
    backbone = dataclasses.replace(config.model.backbone, batch_norm='frozen')
    return dataclasses.replace(config, model=dataclasses.replace(config.model, backbone=backbone))


def test_accumulated_parts_equal_the_whole_without_batch_statistics_and_mining(micro_data, monkeypatch):
    fields = {'optimizer.name': 'sgd', 'loss.triplet': 0.0} | AVERAGE
    whole = trained(frozen_batch_norm(micro_config(micro_data, **fields)), 1, monkeypatch)
    parts = trained(
        frozen_batch_norm(micro_config(micro_data, **fields, **{'optimizer.accumulate': 2})), 1, monkeypatch
    )
    assert_same(whole, parts)


def test_parts_of_a_batch_hold_whole_people(micro_data, monkeypatch):
    config = micro_config(micro_data, **AVERAGE, **{'optimizer.accumulate': 2})
    metrics, *_ = trained(config, 2, monkeypatch)
    # The mean distances are 0 where no anchor has both a positive and a negative.
    assert all(m['triplet_positive'] > 0 and m['triplet_negative'] > 0 for m in metrics)


def test_parts_of_a_batch_move_the_statistics_one_after_the_other(micro_data, monkeypatch):
    config, states = micro_config(micro_data, **AVERAGE, **{'optimizer.accumulate': 2}), []
    states.append(trained(config, 1, monkeypatch, steps=1, history=states)[1])
    experiment = prepare(config)
    batch, statistics = TrainBatches(experiment.dataset, experiment.partition.train, config)[0], states[0].batch_stats
    train = jax.jit(functools.partial(experiment.network.apply, train=True, mutable=['batch_stats']))
    for part in range(2):
        rows = rows_of_part(len(batch['clips']), part, 2, config.batch.tracklets)
        variables = {'params': states[0].params, 'batch_stats': statistics}
        statistics = train(variables, batch['clips'][rows], batch['valid'][rows])[1]['batch_stats']
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), states[1].batch_stats, statistics)


def test_a_part_of_a_batch_that_devices_cannot_share_is_an_error(micro_data):
    with pytest.raises(UserError, match=r'accumulate = 4 cannot be split evenly over 8'):
        prepare(micro_config(micro_data, **{'optimizer.accumulate': 2}))


@pytest.mark.parametrize(('data', 'fsdp', 'shape'), [(-1, 1, (8, 1)), (2, -1, (2, 4)), (4, 2, (4, 2))])
def test_mesh_sizes(micro_data, data, fsdp, shape):
    mesh = make_mesh(data, fsdp)
    assert tuple(mesh.shape.values()) == shape


@pytest.mark.parametrize(('data', 'fsdp'), [(3, 1), (-1, 3), (-1, -1), (0, 8), (2, 2)])
def test_a_mesh_that_does_not_fit_is_an_error(micro_data, data, fsdp):
    with pytest.raises(UserError, match='does not fit 8 device'):
        make_mesh(data, fsdp)


def test_the_largest_axis_that_divides_is_sharded_of_arrays_worth_it():
    shapes = {
        (8, 64, 512): PartitionSpec(None, None, 'fsdp'),
        (8, 64, 514): PartitionSpec(None, 'fsdp', None),  # 514 cannot be shared by 4
        (256, 256): PartitionSpec(None, 'fsdp'),  # of equals the last
        (127, 129): PartitionSpec(),  # none
        (4, 4096): PartitionSpec(None, 'fsdp'),
        (4, 4092): PartitionSpec(),  # too small
    }
    tree = {str(shape): jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes}
    found = state_shardings(tree, make_mesh(2, 4))
    assert {shape: found[str(shape)].spec for shape in shapes} == shapes


def test_a_batch_that_devices_cannot_share_is_an_error(micro_data):
    with pytest.raises(UserError, match=r'= 6 cannot be split evenly over 8'):
        prepare(micro_config(micro_data, **{'batch.identities': 3}))


def test_what_is_evaluated_averages_statistics_like_parameters(micro_data, monkeypatch):
    """BatchNorm statistics of the last steps belong to other parameters than the average does."""
    fields = {'optimizer.ema': 0.6, 'optimizer.learning_rate': 0.05, 'model.bnneck': True} | AVERAGE
    config = micro_config(micro_data, **fields)
    states = []
    states.append(trained(config, 1, monkeypatch, history=states)[1])
    average = {'params': states[0].params, 'batch_stats': states[0].batch_stats}
    for step, state in enumerate(states[1:]):
        d = min(0.6, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda a, b, d=d: d * a + (1 - d) * b, average, {'params': state.params, 'batch_stats': state.batch_stats}
        )
    evaluated = states[-1].variables()
    assert set(evaluated['batch_stats']) == {'backbone', 'neck'}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), evaluated, average)
    last = states[-1].batch_stats
    assert any(
        np.abs(a - b).max() > 1e-3 for a, b in zip(jax.tree.leaves(evaluated['batch_stats']), jax.tree.leaves(last))
    )
