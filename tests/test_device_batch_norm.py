"""BatchNorm whose statistics are those of each device's share of the batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.batch_norm import BatchNorm, statistics_by_group
from pvlad_jax.parallel.mesh import global_batch
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.train_step import make_train_step
from tests.helpers.micro import micro_config


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_groups_equal_as_many_batches_apart(groups):
    rng = np.random.default_rng(groups)
    x = rng.normal(3, 2, (8, 3, 2, 2, 5)).astype(np.float32) * np.arange(1, 9).reshape(8, 1, 1, 1, 1)
    valid = np.arange(3) < rng.integers(1, 4, (8, 1))
    x, valid = jnp.asarray(x), jnp.asarray(valid)
    norm = BatchNorm()
    variables = jax.jit(partial(norm.init, train=True))(jax.random.key(0), x, valid)

    def program():
        return jax.jit(lambda x, valid: norm.apply(variables, x, valid, True, mutable=['batch_stats']))

    with statistics_by_group(groups):  # which is looked at where a program is traced
        got, after = program()(x, valid)
    run = program()
    parts = [run(*part) for part in zip(jnp.split(x, groups), jnp.split(valid, groups))]
    np.testing.assert_allclose(got, np.concatenate([part[0] for part in parts]), rtol=1e-5, atol=1e-5)
    for name, value in after['batch_stats'].items():
        np.testing.assert_allclose(
            value, np.mean([part[1]['batch_stats'][name] for part in parts], 0), rtol=1e-5, atol=1e-6
        )


def test_the_training_step_takes_them_device_by_device(micro_data):
    """The first gradient differs from that of global statistics, and nothing of the backbone's forward pass crosses
    devices.
    """
    fields = {'model.pooling': 'average', 'batch.tracklets': 4}  # whose pooling reduces nothing itself
    experiments = {
        kind: prepare(micro_config(micro_data, **fields, **{'model.backbone.batch_norm': kind}))
        for kind in ('sync', 'local')
    }
    after, reductions = {}, {}
    for kind, e in experiments.items():
        state = e.initial_state()
        step = make_train_step(e.config, e.network, e.optimizer, e.mesh, state)
        batch = TrainBatches(e.dataset, e.partition.train, e.config)[0]
        batch = global_batch({k: batch[k] for k in ('clips', 'valid', 'label')}, e.mesh)
        program = step.lower(state, batch).compile()
        reductions[kind] = program.as_text().count('all-reduce(')
        state, metrics = program(state, batch)
        after[kind] = jax.tree.leaves(state.batch_stats['backbone'])
        assert np.isfinite(float(metrics['loss']))
    assert reductions['local'] < reductions['sync']
    assert not all(jnp.allclose(a, b) for a, b in zip(after['sync'], after['local']))
