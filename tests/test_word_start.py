"""What training begins with: centred descriptors, words where the descriptors are, the same on every run and mesh."""

import dataclasses

import jax
import numpy as np
import pytest

from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.jobs.experiment import prepare
from pvlad_jax.parallel.mesh import whole_on_host
from pvlad_jax.training.word_start import sample_descriptors
from tests.micro import micro_config


def started(micro_data, **fields):
    experiment = prepare(micro_config(micro_data, **fields))
    return experiment, whole_on_host(experiment.first_state())


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
    weight, bias = (np.broadcast_to(words[k], (2, *words[k].shape[1:])) for k in ('assignment_weight', 'assignment_bias'))
    logits = np.einsum('npd,pkd->npk', unit, weight) + bias
    ordered = np.sort(logits, axis=-1)
    assert np.mean(ordered[..., -1] - ordered[..., -2]) == pytest.approx(np.log(100), rel=0.05)  # what NetVLAD's α means
    distance = ((unit[:, :, None] - np.broadcast_to(words['centres'], (2, 3, 4))) ** 2).sum(-1)
    np.testing.assert_array_equal(logits.argmax(-1), distance.argmin(-1))
    assert all((np.bincount(logits.argmax(-1)[:, p], minlength=3) > 0).all() for p in range(2))  # no word is empty


def test_the_start_is_the_same_every_time_and_for_the_average(micro_data):
    _, one = started(micro_data, **{'optimizer.ema': 0.9})
    _, other = started(micro_data, **{'optimizer.ema': 0.9})
    jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, one.params, one.ema)
    _, third = started(micro_data, seed=1)
    assert np.abs(third.params['aggregator']['vlad']['centres'] - one.params['aggregator']['vlad']['centres']).max() > 1e-3


def test_a_start_without_centring_leaves_the_bias(micro_data):
    _, plain = started(micro_data, **{'vlad_init.centred': False})
    np.testing.assert_array_equal(plain.params['aggregator']['part_alignment']['part_descriptor']['bias'], 0)


def test_the_sample_does_not_depend_on_how_many_clips_a_step_has(micro_data):
    experiment, state = started(micro_data)  # 16 clips a batch
    whole = descriptors_of(experiment, state)
    for n in (5, 16, 24):  # with 24 all 16 at once
        other = dataclasses.replace(experiment.config, evaluation=dataclasses.replace(experiment.config.evaluation, clips_per_step=n))
        np.testing.assert_allclose(descriptors_of(dataclasses.replace(experiment, config=other), state), whole, rtol=1e-4, atol=1e-6)
