"""What training begins with: centred descriptors, words where the descriptors are, the same on every run and mesh."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.batch_norm import statistics_by_group
from pvlad_jax.models.tracklet_network import build_network
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.initialisation.data_dependent import sample_descriptors
from tests.helpers.micro import micro_config


def started(micro_data, **fields):
    experiment = prepare(micro_config(micro_data, **fields))
    return experiment, gather_to_host(experiment.initial_state())


def descriptors_of(experiment, state):
    batches = TrainBatches(experiment.dataset, experiment.partition.train, experiment.config, augment=False)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return sample_descriptors(experiment.config, experiment.network, variables, batches)


@pytest.mark.parametrize('shared', [False, True])
def test_words_stand_where_the_descriptors_are(micro_data, shared):
    experiment, state = started(micro_data, **{'model.shared_codebook': shared})
    words = state.params['aggregator']['vlad']
    assert words['centres'].shape == ((1 if shared else 2), 3, 4)
    u = descriptors_of(experiment, state)
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-5)  # centred
    unit = u / np.linalg.norm(u, axis=-1, keepdims=True)
    weight, bias = (
        np.broadcast_to(words[k], (2, *words[k].shape[1:])) for k in ('assignment_weight', 'assignment_bias')
    )
    logits = np.einsum('npd,pkd->npk', unit, weight) + bias
    ordered = np.sort(logits, axis=-1)
    # What NetVLAD's α means.
    assert np.mean(ordered[..., -1] - ordered[..., -2]) == pytest.approx(np.log(100), rel=0.05)
    distance = ((unit[:, :, None] - np.broadcast_to(words['centres'], (2, 3, 4))) ** 2).sum(-1)
    np.testing.assert_array_equal(logits.argmax(-1), distance.argmin(-1))
    assert all((np.bincount(logits.argmax(-1)[:, p], minlength=3) > 0).all() for p in range(2))  # no word is empty


def test_the_start_is_the_same_every_time_and_for_the_average(micro_data):
    _, one = started(micro_data, **{'optimizer.ema': 0.9})
    _, other = started(micro_data, **{'optimizer.ema': 0.9})
    jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, {'params': one.params, 'batch_stats': one.batch_stats}, one.ema)
    _, third = started(micro_data, seed=1)
    assert (
        np.abs(third.params['aggregator']['vlad']['centres'] - one.params['aggregator']['vlad']['centres']).max() > 1e-3
    )


def test_a_start_without_centring_leaves_the_bias(micro_data):
    _, plain = started(micro_data, **{'vlad_init.centre_descriptors': False})
    np.testing.assert_array_equal(plain.params['aggregator']['part_alignment']['part_descriptor']['bias'], 0)


@pytest.mark.parametrize(
    ('batch_norm', 'accumulate', 'devices'), [('sync', 1, 1), ('sync', 2, 1), ('local', 1, 2), ('local', 2, 2)]
)
def test_descriptors_are_those_of_the_training_step(micro_data, batch_norm, accumulate, devices):
    """The network that k-means sees is the one that the first updates see: BatchNorm takes the same statistics."""
    fields = {
        'model.backbone.batch_norm': batch_norm,
        'optimizer.accumulate': accumulate,
        'vlad_init.batches': 1,
        'vlad_init.max_descriptors': 10_000,
    }
    experiment, state = started(micro_data, **fields, **{'batch.tracklets': 4})
    variables = jax.tree.map(jnp.asarray, {'params': state.params, 'batch_stats': state.batch_stats})
    batches = TrainBatches(experiment.dataset, experiment.partition.train, experiment.config, augment=False)
    sampled = sample_descriptors(experiment.config, experiment.network, variables, batches, devices)
    batch, expected = batches[0], []
    train = jax.jit(partial(experiment.network.apply, train=True, mutable=['batch_stats']))
    for part in range(accumulate):
        people = [p for p in range(4) if p % accumulate == part]  # every A-th person, four tracklets each
        rows = np.concatenate([np.arange(4 * p, 4 * p + 4) for p in people])
        with statistics_by_group(devices if batch_norm == 'local' else 1):
            clips, valid = (jnp.asarray(batch[key][rows]) for key in ('clips', 'valid'))
            output, _ = train(variables, clips, valid)
        places = np.broadcast_to(np.asarray(output.valid)[..., None, None], output.part_descriptors.shape[:5])
        expected.append(np.asarray(output.part_descriptors)[places])
    expected = np.concatenate(expected)
    np.testing.assert_allclose(sampled, expected, rtol=1e-4, atol=1e-5)
    evaluate = jax.jit(experiment.network.apply)
    evaluated = np.asarray(evaluate(variables, batch['clips'], batch['valid']).part_descriptors)
    # With the running statistics of the start the same descriptors are not centred: the comparison above can fail.
    assert np.abs(evaluated.reshape(-1, 2, 4).mean(0)).max() > 10 * np.abs(expected.mean(0)).max()


def test_a_frozen_network_is_sampled_with_its_own_statistics(micro_data):
    fields = {'vlad_init.batches': 1, 'vlad_init.max_descriptors': 10_000}
    experiment, state = started(micro_data, **fields)
    frozen = dataclasses.replace(experiment.config.model.backbone, batch_norm='frozen')
    config = dataclasses.replace(experiment.config, model=dataclasses.replace(experiment.config.model, backbone=frozen))
    network = build_network(config.model, experiment.num_identities)
    stats = {'backbone': jax.tree.map(lambda x: np.asarray(x) + 0.3, state.batch_stats['backbone'])}
    variables = jax.tree.map(jnp.asarray, {'params': state.params, 'batch_stats': stats})
    batches = TrainBatches(experiment.dataset, experiment.partition.train, config, augment=False)
    train = jax.jit(partial(network.apply, train=True))
    output = train(variables, batches[0]['clips'], batches[0]['valid'])
    places = np.broadcast_to(np.asarray(output.valid)[..., None, None], output.part_descriptors.shape[:5])
    whole = sample_descriptors(config, network, variables, batches)
    np.testing.assert_allclose(whole, np.asarray(output.part_descriptors)[places], rtol=1e-4, atol=1e-5)
    for n in (5, 24):  # clips a step: the last step is filled up, or holds all 16 at once
        other = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, clips_per_step=n))
        np.testing.assert_allclose(sample_descriptors(other, network, variables, batches), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('fields', [{'mesh.data': 4, 'mesh.fsdp': 2}, {'mesh.fsdp': 8}])
def test_the_start_is_the_same_on_every_mesh(micro_data, fields):
    one, other = (started(micro_data, **f)[1].params['aggregator'] for f in ({}, fields))
    jax.tree.map(np.testing.assert_array_equal, one, other)
