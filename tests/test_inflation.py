"""2D networks inflated to 3D: at their start they are the 2D network, frame by frame, whatever the choice of temporal
blocks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.import_weights import templates
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import BACKBONES, build_backbone, resnet
from pvlad_jax.models.backbones.inflation import ThreeFrameConv, choose_temporal_blocks, inflate, three_frames
from pvlad_jax.models.backbones.osnet import average_pool
from pvlad_jax.models.tracklet_network import build_network
from pvlad_jax.training.initialisation.pretrained import load_backbone_weights
from tests.helpers.micro import micro_config
from tests.helpers.quick_compilation import OPTIONS
from tests.helpers.small_backbones import clips, compiled, shapes
from tests.helpers.small_image_networks import register, write_2d


def test_inflated_kernels():
    kernel = clips((1, 3, 3, 2))
    centre, mean = inflate(kernel, 3, 'centre'), inflate(kernel, 3, 'mean')
    assert centre.shape == mean.shape == (3, 3, 3, 2, 3) and centre.dtype == mean.dtype == np.float32
    np.testing.assert_array_equal(centre, np.stack([0 * kernel[0], kernel[0], 0 * kernel[0]]))
    np.testing.assert_allclose(mean, np.stack([kernel[0] / 3] * 3), rtol=1e-6)
    np.testing.assert_array_equal(inflate(kernel, 1, 'mean'), kernel)
    with pytest.raises(UserError, match="inflation is 'first'; it must be one of 'centre', 'mean'"):
        inflate(kernel, 3, 'first')


def test_neighbours_that_are_missing_are_the_frame_itself():
    x = jnp.arange(1.0, 7).reshape(1, 6, 1, 1, 1)
    valid = jnp.array([[True, True, False, True, True, False]])
    clip = jnp.where(valid[..., None, None, None], x, 0)
    seen = jnp.concatenate(three_frames(clip, valid, jnp.int32(0)), axis=-1)[0, :, 0, 0]
    for frame, expected in {0: (1, 1, 2), 1: (1, 2, 2), 3: (4, 4, 5), 4: (4, 5, 5)}.items():
        assert seen[frame].tolist() == list(expected)


@pytest.mark.parametrize(('size', 'stride'), [(1, 1), (3, 2)])
def test_the_convolution_equals_pytorch(size, stride):
    """conv3d of PyTorch over a clip whose first and last frame are repeated."""
    torch = pytest.importorskip('torch')
    x, valid = clips((2, 5, 4, 7)), np.ones((2, 5), bool)
    conv = ThreeFrameConv(6, (3, size, size), (1, stride, stride))
    variables = conv.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(valid))
    kernel = variables['params']['kernel']
    # No tap is zero: an ordinary random start.
    assert kernel.shape == (3, size, size, 3, 6) and all(float(jnp.abs(tap).max()) > 0 for tap in kernel)
    theirs = torch.from_numpy(np.concatenate([x[:, :1], x, x[:, -1:]], 1)).permute(0, 4, 1, 2, 3)
    weight = torch.from_numpy(np.array(kernel)).permute(4, 3, 0, 1, 2)
    expected = torch.nn.functional.conv3d(theirs, weight, stride=(1, stride, stride), padding=(0, size // 2, size // 2))
    np.testing.assert_allclose(compiled(conv.apply, variables, x, valid), expected.permute(0, 2, 3, 4, 1), atol=1e-5)


def test_resnets_own_temporal_blocks_are_those_of_ap3d():
    every_second = [f'{layer}.{i}' for layer in ('layer2', 'layer3') for i in range(0, resnet.LAYERS[layer], 2)]
    for name in ('resnet50', 'resnet50_ibn_a'):
        assert list(BACKBONES[name].temporal_blocks) == every_second and len(every_second) == 5


def test_temporal_blocks_are_chosen_by_name():
    blocks, default = ('layer1.0', 'layer1.1', 'layer2.0'), ('layer1.1',)

    def chosen(text):
        return choose_temporal_blocks(text, blocks, default, 'net')

    assert chosen('default') == default and chosen('none') == () and chosen('all') == blocks
    assert chosen('layer2+layer1.0') == chosen(' layer2 + layer1.0') == ('layer1.0', 'layer2.0')
    assert chosen('layer1') == blocks[:2]
    for wrong in ('layer3', 'layer1.2', '', 'layer1.0,layer2.0', 'layer1.0+'):
        with pytest.raises(UserError, match=r'net has no block .*layer1\.0, layer1\.1, layer2\.0'):
            chosen(wrong)
    with pytest.raises(UserError, match='r3d_18 is not an inflated 2D network'):
        build_backbone('r3d_18', temporal_blocks='all')
    kernels = shapes(build_backbone('resnet50', temporal_blocks='layer3.1+layer4'), (1, 16, 16))[1]['params']
    three = [f'{layer}.{block[5:]}' for layer in ('layer1', 'layer2', 'layer3', 'layer4') for block in kernels[layer]
             if kernels[layer][block]['conv2']['conv']['kernel'].shape[0] == 3]  # fmt: skip
    assert three == ['layer3.1', 'layer4.0', 'layer4.1', 'layer4.2']


@pytest.mark.parametrize(('fields', 'says'), [
    ({'temporal_blocks': 'all', 'temporal': '2d'}, "temporal_blocks = 'all' has no effect"),
    ({'inflation': 'mean'}, "inflation = 'mean' has no effect"),
    ({'inflation': 'mean', 'weights': 'any', 'temporal': '2d'}, "inflation = 'mean' has no effect"),
    ({'temporal_blocks': 'conv3', 'name': 'r3d_18'}, 'r3d_18 is not an inflated 2D network'),
    ({'temporal_blocks': 'layer3'}, "osnet_x0_25 has no block 'layer3'"),
])  # fmt: skip
def test_choices_without_effect_are_refused(fields, says):
    with pytest.raises(UserError, match=says):
        config = micro_config('', **{f'model.backbone.{k}': v for k, v in ({'name': 'osnet_x0_25'} | fields).items()})
        build_network(config.model, num_identities=3)


def test_averages_of_odd_sizes_are_over_the_places_there_are():
    x = clips((1, 2, 5, 3))
    y = average_pool(jnp.asarray(x))
    assert y.shape == (1, 2, 3, 2, 3)
    np.testing.assert_allclose(y[:, :, 0, 0], x[:, :, :2, :2].mean((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(y[:, :, 2, 1], x[:, :, 4, 2], rtol=1e-5)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_the_gradient_of_an_average_is_shared_by_its_places(dtype):
    x = jnp.asarray(clips((1, 2, 5, 3)), dtype)
    y, pull = jax.vjp(average_pool, x)
    g = jnp.asarray(np.random.default_rng(0).normal(size=y.shape), dtype)
    (gradient,) = pull(g)
    places = np.array([2, 2, 1])[:, None] * np.array([2, 1])  # of each average
    shares = np.repeat(np.repeat(np.asarray(g, np.float32) / places[..., None], 2, 2), 2, 3)[:, :, :5, :3]
    assert gradient.dtype == dtype
    np.testing.assert_allclose(np.asarray(gradient, np.float32), shares, rtol=1e-6 if dtype == jnp.float32 else 1e-2)


@pytest.mark.parametrize('name', ['small_osnet', 'small_resnet'])
def test_an_inflated_network_begins_as_the_2d_network(name, monkeypatch, tmp_path):
    """One file of 2D weights serves 2D and 3D.

    Centre: equal on any clip; mean: on static ones, to the ends and next to padding.
    """
    register(monkeypatch)
    path = write_2d(name, tmp_path)
    moving, valid = clips((2, 4, 32, 32)), np.array([[True] * 4, [True] * 2 + [False] * 2])
    x, valid = jnp.concatenate([moving, np.repeat(moving[:, :1], 4, 1)]), jnp.concatenate([valid, valid])

    def loaded(module, how):
        like = shapes(module, (4, 32, 32))[1]
        params, stats = load_backbone_weights(path, name, like['params'], like['batch_stats'], how)
        return {'params': params, 'batch_stats': stats}

    def program(module):
        run = jax.jit(lambda w: module.apply(w, x, valid, False)[0])
        return run.lower(loaded(module, 'centre')).compile(compiler_options=OPTIONS)

    flat, deep = build_backbone(name, temporal='2d'), build_backbone(name, temporal_blocks='all')
    run = program(deep)
    expected, centre, mean = program(flat)(loaded(flat, 'mean')), run(loaded(deep, 'centre')), run(loaded(deep, 'mean'))
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(centre / scale, expected / scale, atol=1e-5)
    np.testing.assert_allclose(mean[2:] / scale, expected[2:] / scale, atol=1e-5)
    assert jnp.abs(mean[:2] - expected[:2]).max() > 0.01 * scale  # it does see its neighbours


def test_files_that_do_not_fit_are_refused(monkeypatch, tmp_path):
    register(monkeypatch)
    path = write_2d('small_resnet', tmp_path)
    params, stats = templates('small_resnet')
    wider = shapes(BACKBONES['small_resnet'].build(width=8), (1, 32, 32))[1]
    with pytest.raises(
        UserError, match=r'conv1/conv/kernel is \(1, 1, 1, 4, 4\) in the file and \(1, 1, 1, 8, 8\) in the network'
    ):
        load_backbone_weights(path, 'small_resnet', wider['params'], stats)
    with pytest.raises(UserError, match='weights of small_resnet, not of small_osnet'):
        load_backbone_weights(path, 'small_osnet', params, stats)
