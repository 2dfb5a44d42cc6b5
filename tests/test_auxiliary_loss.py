"""The auxiliary head: its losses are PyTorch's, they teach the backbone, and nothing of it is left in an embedding."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.config import LossConfig
from pvlad_jax.losses import LossSizes, build_losses, init_losses, total_loss
from pvlad_jax.losses.auxiliary import AuxiliaryLoss
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.pooling.global_pooling import Average
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.runs.trained_model import load_trained
from pvlad_jax.training.optimizer import decayed
from tests.helpers.loss_inputs import IDS, LABELS, PEOPLE
from tests.helpers.micro import micro_config
from tests.helpers.small_models import write_workdir
from tests.test_loss_terms import check_against_torch, torch_cross_entropy, torch_triplet

CHANNELS, EMBEDDING = 7, 5
CONFIG = LossConfig(identity=0.5, triplet=2.0, auxiliary=1.0)
NAMES = ('layer', 'bias', 'scale', 'classifier')


def parameters() -> dict:
    params, state = AuxiliaryLoss(CONFIG).init(LossSizes(PEOPLE, EMBEDDING, CHANNELS), jax.random.key(0))
    assert not state
    rng = np.random.default_rng(1)  # bias and scale away from 0 and 1
    return {name: value + 0.1 * rng.normal(size=value.shape).astype(np.float32) for name, value in params.items()}


def mean_feature(rows: int = len(LABELS)) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(rows, CHANNELS)).astype(np.float32) + 1


def test_it_equals_torch():
    def ours(x, *params):
        params = {f'loss_auxiliary_{name}': value for name, value in zip(NAMES, params)}
        return AuxiliaryLoss(CONFIG)(types.SimpleNamespace(mean_feature=x), IDS, params, {}).value

    def theirs(torch, x, layer, bias, scale, classifier):
        feature = x @ layer + bias
        normed = torch.nn.functional.batch_norm(feature, None, None, scale, training=True)
        unit = feature / torch.linalg.vector_norm(feature, dim=1, keepdim=True)
        identity = torch_cross_entropy(torch, normed @ classifier, CONFIG.label_smoothing)
        return 0.5 * identity + 2.0 * torch_triplet(torch, unit, CONFIG.triplet_margin)

    params = parameters()
    check_against_torch(ours, theirs, mean_feature(), *(params[f'loss_auxiliary_{name}'] for name in NAMES), rtol=1e-4)


def test_a_layer_and_a_classifier_are_decayed_alone():
    chosen = decayed(parameters())
    assert [chosen[f'loss_auxiliary_{name}'] for name in NAMES] == [True, False, False, True]


@pytest.fixture(scope='module')
def clips():
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (4, 2, 4, 16, 8, 3), dtype=np.uint8)
    valid = np.ones((4, 2, 4), bool)
    valid[1, 1, 2:], valid[2, 1] = False, False
    return jnp.asarray(clips), jnp.asarray(valid)


@pytest.mark.parametrize('pooling', ['person_vlad', 'average', 'max'])
def test_the_mean_is_that_of_the_average_pooling(clips, pooling):
    config = micro_config('no_data', **{'model.pooling': pooling})
    network = build_network(config.model, 3)
    variables = init_variables(network, (4, 16, 8), jax.random.key(0))
    mean = network.apply(variables, *clips).mean_feature
    for video, valid, found in zip(*clips, mean):
        x, times = network.apply(variables, video[valid.any(1)], valid[valid.any(1)], method='local_features')
        statistics, _ = Average().apply({}, x, times)
        whole = {name: value.sum(0, keepdims=True) for name, value in statistics.items()}
        np.testing.assert_allclose(found, Average().finish(whole)[0], rtol=1e-5)
    noise = jnp.where(clips[1][..., None, None, None], clips[0], 77)
    np.testing.assert_array_equal(network.apply(variables, noise, clips[1]).mean_feature, mean)


def test_it_teaches_the_backbone_and_nothing_behind_it(clips):
    config = micro_config('no_data')
    network = build_network(config.model, 3)
    variables = init_variables(network, (4, 16, 8), jax.random.key(0))
    labels = jnp.array([0, 1, 0, 1])
    terms = {'auxiliary': build_losses(dataclasses.replace(config.loss, auxiliary=1.0))['auxiliary']}
    sizes = LossSizes(3, network.embedding, BACKBONES['micro'].channels)
    loss_params, _ = init_losses(terms, sizes, jax.random.key(1))

    def loss(params):
        output, _ = network.apply({**variables, 'params': params}, *clips, train=True, mutable=['batch_stats'])
        return total_loss(terms, output, labels, loss_params, {})[0]

    gradients = jax.grad(loss)(variables['params'])
    for name, tree in gradients.items():
        moved = any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(tree))
        assert moved == (name == 'backbone'), name


def test_an_embedding_does_not_depend_on_it(tmp_path):
    with_it = load_trained(write_workdir(tmp_path / 'with', **{'loss.auxiliary': 1.0}))
    without = load_trained(write_workdir(tmp_path / 'without'))
    assert with_it.fingerprint(flip=True) == without.fingerprint(flip=True)
    assert not [name for name in with_it.variables['params'] if 'auxiliary' in name]
