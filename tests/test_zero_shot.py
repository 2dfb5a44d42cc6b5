"""Imported weights scored as they are: the pretrained head, embeddings without a layer, an untrained network in
--mode=eval.
"""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from configs import zero_shot
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import read_embeddings
from pvlad_jax.models.pooling.pretrained_head import HeadAverage, PretrainedHead
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.trained_model import load_trained
from pvlad_jax.training.initialisation.pretrained import load_head
from tests.helpers.micro import micro_config, micro_config_dict
from tests.helpers.small_backbones import clips
from tests.helpers.small_image_networks import HEAD_FEATURES, register, write_2d


def test_the_head_equals_pytorch_and_does_not_see_padding():
    torch = pytest.importorskip('torch')
    torch.manual_seed(0)
    peer = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU()).eval()
    for name, tensor in peer.state_dict().items():
        if tensor.ndim:
            tensor.copy_(torch.rand(tensor.shape) + (0.1 if 'var' in name else -0.4))
    state = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    head = {'kernel': state['0.weight'].T, 'bias': state['0.bias']}
    head |= {'scale': state['1.weight'], 'shift': state['1.bias']}
    variables = {'params': head, 'batch_stats': {'mean': state['1.running_mean'], 'var': state['1.running_var']}}
    x, valid = clips((2, 4, 3, 2)), np.array([[True] * 4, [True] * 2 + [False] * 2])
    x[1, 2:] = np.nan
    frames = np.asarray(PretrainedHead(5).apply(variables, jnp.asarray(x), jnp.asarray(valid)))
    with torch.no_grad():
        expected = peer(torch.from_numpy(x[valid].mean((1, 2)))).numpy()
    np.testing.assert_allclose(frames[valid], expected, atol=1e-5)
    assert not frames[~valid].any()
    head = {kind: {'head': tree} for kind, tree in variables.items()}
    statistics, _ = HeadAverage(5).apply(head, jnp.asarray(x), jnp.asarray(valid))
    mean = np.stack([frames[0].mean(0), frames[1, :2].mean(0)])  # of the valid ones
    np.testing.assert_allclose(HeadAverage(5).finish(statistics), mean, atol=1e-6)


@pytest.mark.parametrize('pooling', ['person_vlad', 'part_attention', 'average', 'max', 'stripes', 'pretrained_head'])
def test_without_a_layer_the_descriptor_is_the_embedding(pooling, monkeypatch):
    register(monkeypatch)
    name = 'small_resnet' if pooling == 'pretrained_head' else 'micro'
    fields = {'model.pooling': pooling, 'model.embedding_dim': 0}
    fields |= {'model.backbone.name': name, 'model.backbone.weights': 'any'}
    network = build_network(micro_config('', **fields).model, num_identities=3)
    params = jax.eval_shape(init_variables, network, (4, 32, 32), jax.random.key(0))['params']
    assert 'to_embedding' not in params and params['classifier']['kernel'].shape == (network.embedding, 3)


def test_imported_weights_are_scored_without_training(micro_data, tmp_path, monkeypatch, capfd):
    register(monkeypatch)
    path = write_2d('small_resnet', tmp_path)
    fields = {
        'model.pooling': 'pretrained_head',
        'model.embedding_dim': 0,
        'model.backbone.name': 'small_resnet',
        'model.backbone.weights': str(path),
        'evaluation.checkpoint': 'untrained',
        'clips.height': 32,
        'clips.width': 32,
    }
    config = micro_config_dict(micro_data, **fields)
    state = prepare(freeze(config)).initial_state()
    head = {**state.params['aggregator']['head'], **state.batch_stats['aggregator']['head']}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(head), load_head(path))

    assert main.run(config, tmp_path / 'work', 'eval') == 0
    result = json.loads((tmp_path / 'work' / 'eval' / 'latest.json').read_text())
    assert (result['step'], result['checkpoint']) == (0, 'untrained')
    assert not list((tmp_path / 'work' / 'checkpoints').glob('*'))
    assert read_embeddings(tmp_path / 'work' / 'embeddings' / 'query.npz').embedding.shape == (8, HEAD_FEATURES)
    # The working directory is then a model, although it holds no checkpoint.
    loaded = load_trained(tmp_path / 'work')
    expected = {'params': state.params, 'batch_stats': state.batch_stats}
    for kind, part in itertools.product(('params', 'batch_stats'), ('backbone', 'aggregator')):
        jax.tree.map(np.testing.assert_array_equal, loaded.variables[kind][part], jax.device_get(expected[kind][part]))
    assert main.run(config, tmp_path / 'work', 'train') == 2
    assert 'is for --mode=eval' in capfd.readouterr().err
    with pytest.raises(UserError, match='holds no head'):
        load_head(write_2d('small_resnet', tmp_path / 'headless', with_head=False))


def test_a_head_that_there_cannot_be_is_refused(micro_data, monkeypatch):
    register(monkeypatch)
    with pytest.raises(UserError, match='has no layer between'):
        config = micro_config('', **{'model.pooling': 'pretrained_head', 'model.backbone.weights': 'any'})
        build_network(config.model, num_identities=3)
    fields = {'model.pooling': 'pretrained_head', 'model.backbone.name': 'small_resnet'}
    config = micro_config(micro_data, **fields, **{'clips.height': 32, 'clips.width': 32})
    with pytest.raises(UserError, match=r'set model\.backbone\.weights'):
        prepare(config).initial_state()


def test_the_configuration_is_the_published_network():
    config = freeze(zero_shot.get_config('weights=w.safetensors'))
    assert (config.clips.height, config.clips.width) == (256, 128)
    assert (config.model.backbone.last_stride, config.model.embedding_dim) == (2, 0)
    assert config.model.pooling == 'pretrained_head' and not config.model.bnneck
