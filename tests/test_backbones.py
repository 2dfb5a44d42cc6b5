"""Backbones: layer tables, strides, masks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import BACKBONES, build_backbone, c3d, osnet, resnet
from pvlad_jax.models.backbones.c3d import C3D
from pvlad_jax.models.backbones.i3d import I3D
from pvlad_jax.models.backbones.osnet import OSNet
from pvlad_jax.models.backbones.r3d import R3D
from pvlad_jax.models.backbones.resnet import ResNet50
from pvlad_jax.models.backbones.spec import check_clip
from pvlad_jax.ops.frame_mask import continued
from tests.helpers.micro import PROJECT_BACKBONES
from tests.helpers.quick_compilation import OPTIONS
from tests.helpers.small_backbones import SMALL, clips, compiled, draw, shapes, thin_channels
from tests.helpers.small_image_networks import OSNET_CHANNELS, fewer_layers

# Parameters of each publication's network without its classifier: r3d_18 33,371,472 and r2plus1d_18 31,505,325 with 400
# classes in torchvision, I3D 12,287,264 in PyTorch ports, whose 7,280 BatchNorm scales the original lacks; the others
# from the layer tables.
PARAMETERS = {
    'r3d_18': 33_371_472 - 400 * 513,
    'r3d_34': 63_475_904,
    'r3d_50': 46_198_976,
    'r2plus1d_18': 31_505_325 - 400 * 513,
    'r2plus1d_34': 61_626_461,
    'r2plus1d_50': 53_130_091,
    'i3d': 12_287_264 - 7_280,
    'i3d_mixed_4f': 7_523_264,
    'c3d': 27_655_936,
    'c3d_bn': 27_655_936 + 2_752,
    'r3d_tiny': 900_528,
    # In 2D, behind them the publication's 512 features: 0.2, 0.6, 1.3 and 2.2 million with those; 3x1x1 in place of
    # four 1x1 in 3D.
    'osnet_x0_25': 134_792 + 2 * (2 * 24 * 96 + 2 * 32 * 128),
    'osnet_x0_5': 497_426 + 2 * (2 * 48 * 192 + 2 * 64 * 256),
    'osnet_x0_75': 1_087_610 + 2 * (2 * 72 * 288 + 2 * 96 * 384),
    'osnet_x1_0': 1_905_828 + 2 * (2 * 96 * 384 + 2 * 128 * 512),
    # torchvision's ResNet-50 has 25,557,032 with its 1000 classes; five 3x3x3 in place of 3x3 in 3D. IBN-a changes no
    # number.
    'resnet50': 25_557_032 - 1000 * 2049 + 18 * (2 * 128**2 + 3 * 256**2),
    'resnet50_ibn_a': 25_557_032 - 1000 * 2049 + 18 * (2 * 128**2 + 3 * 256**2),
}


# One of each family has its 2D control and its other last stride looked at; depths and widths share them.
FAMILIES = ('r3d_50', 'r2plus1d_18', 'i3d', 'c3d', 'r3d_tiny', 'osnet_x0_25', 'resnet50')


@pytest.mark.parametrize('name', PROJECT_BACKBONES)
def test_layer_table(name):
    """Parameters, stages, strides and channels are as published, for both last strides and in the 2D control."""
    spec = BACKBONES[name]
    for temporal, last_stride in (('3d', 1), ('2d', 2))[: 1 + (name in FAMILIES)]:
        clip = tuple(2 * s for s in spec.min_clip(last_stride))
        (features, valid), variables = shapes(build_backbone(name, temporal, last_stride, clip=clip), clip)
        assert features.shape == (1, 2, 2, 2, spec.channels)
        assert valid.shape == (1, 2)
        assert set(variables['params']) == set(spec.layers)
        if temporal == '3d':
            assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == PARAMETERS[name]
        else:
            kernels = [v for k, v in flatten_dict(variables['params']).items() if k[-1] == 'kernel' and v.ndim == 5]
            assert kernels and all(kernel.shape[0] == 1 for kernel in kernels)


def test_sizes_that_are_no_multiple_of_the_stride_are_rounded_up():
    for name in ('r3d_18', 'c3d', 'i3d_mixed_4f'):
        spec = BACKBONES[name]
        st, sh, sw = spec.min_clip(2)
        (features, valid), _ = shapes(build_backbone(name, last_stride=2), (st + 1, 2 * sh + 3, sw + 1))
        assert features.shape[:4] == (*valid.shape, 3, 2) == (1, 2, 3, 2)


# A stage without stride and one with; the other two would be like the second.
TWO_STAGES = {**SMALL, 'blocks': (1, 1, 0, 0), 'stage_strides': ((1, 1, 1), (2, 2, 2), (1, 1, 1), (1, 1, 1))}
# Every kind of layer, small: stem pooling, bottlenecks, factored kernels, branches, both kinds of norm and none.
SMALL_NETWORKS = {
    'r3d': partial(R3D, **TWO_STAGES),
    'r3d_continued': partial(R3D, **TWO_STAGES, time_padding='continued'),
    'r2plus1d_continued': partial(R3D, **TWO_STAGES, factored=True, stem_kernel=(7, 5, 5), time_padding='continued'),
    'r2plus1d_bottleneck_pool': partial(R3D, **TWO_STAGES, stem_pool=True, bottleneck=True, factored=True),
    'c3d': C3D,
    'c3d_bn': partial(C3D, normalise=True),
    'i3d': partial(I3D, final='Mixed_3b'),
    'osnet': partial(OSNet, OSNET_CHANNELS, last_stride=2),
    'resnet_ibn': partial(ResNet50, width=4, ibn=True),
}


@pytest.fixture
def thin(monkeypatch):
    thin_channels(monkeypatch)
    fewer_layers(monkeypatch)
    # One convolution between two poolings.
    monkeypatch.setattr(c3d, 'CHANNELS', {k: v for k, v in c3d.CHANNELS.items() if k.endswith('a')})
    # With the average pool of conv3, these stages have every kind of layer; the others are of the same.
    monkeypatch.setattr(osnet, 'BLOCK_STAGES', ('conv3', 'conv4'))
    monkeypatch.setattr(resnet, 'LAYERS', {'layer1': 1, 'layer2': 1, 'layer4': 1})


def small_network(kind, **options):
    module = SMALL_NETWORKS[kind](**options)
    clip = (16, 32, 32)
    return module, jax.tree.map(jnp.asarray, draw(shapes(module, clip)[1]))


# r3d and c3d are held in r2plus1d_bottleneck_pool and c3d_bn.
@pytest.mark.parametrize(
    'kind', ['r2plus1d_bottleneck_pool', 'r3d_continued', 'r2plus1d_continued', 'c3d_bn', 'i3d', 'osnet', 'resnet_ibn']
)
def test_masked_frames_change_nothing(kind, thin):
    """Whatever they hold and however many they are; in training, so batch statistics are included."""
    module, variables = small_network(kind)
    x, valid = clips((2, 32, 16, 16)), np.arange(32)[None] < np.array([[19], [9]])
    run = jax.jit(lambda x, v: module.apply(variables, x, v, True, mutable=['batch_stats']), compiler_options=OPTIONS)
    (features, out), stats = run(np.where(valid[..., None, None, None], x, 0), valid)
    (other, _), other_stats = run(np.where(valid[..., None, None, None], x, np.nan), valid)
    jax.tree.map(np.testing.assert_array_equal, (features, stats), (other, other_stats))
    assert not np.asarray(features)[~np.asarray(out)].any()

    (shorter, shorter_out), shorter_stats = run(x[:, :19], valid[:, :19])
    assert (shorter_out.sum(1) == out.sum(1)).all() and shorter_out[0].all()
    scale = float(jnp.abs(shorter).max())
    # BatchNorm over a handful of places amplifies rounding.
    np.testing.assert_allclose(features[:, : shorter.shape[1]] / scale, shorter / scale, atol=1e-3)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), stats, shorter_stats)


@pytest.mark.parametrize('kind', ['r3d', 'r3d_continued', 'r2plus1d_continued'])
def test_a_clip_of_one_frame_repeated_looks_alike_at_all_times_where_it_is_continued(kind, thin):
    """However many of its frames are valid."""
    module, variables = small_network(kind)
    x, valid = np.repeat(clips((2, 1, 16, 16)), 12, 1), np.arange(12) < np.array([[12], [7]])
    features, out = jax.jit(lambda x, v: module.apply(variables, x, v, False), compiler_options=OPTIONS)(x, valid)
    spread = [np.ptp(np.asarray(f)[np.asarray(o)], axis=0).max() for f, o in zip(features, out)]
    assert (np.array(spread) < 1e-4 * np.abs(features).max()).all() == (kind != 'r3d')


def test_frames_beyond_the_ends_are_the_nearest_valid_ones():
    x = jnp.arange(1.0, 6)[None, :, None, None, None]
    rows = {2: [1, 1, 1, 2, 2, 2, 0, 0, 0], 4: [1, 1, 1, 2, 3, 4, 4, 4, 0], 5: [1, 1, 1, 2, 3, 4, 5, 5, 5]}
    for count, row in rows.items():
        for spoilt in (x, jnp.where(jnp.arange(5)[:, None, None, None] < count, x, jnp.nan)):
            np.testing.assert_array_equal(continued(spoilt, jnp.arange(5)[None] < count, 2).ravel(), row)


def test_frames_beyond_the_ends_in_a_program_for_any_number_of_clips():
    """As `--mode=export` writes it."""
    (n,) = jax.export.symbolic_shape('n')
    x, valid = (jax.ShapeDtypeStruct((n, 5, *more), kind) for more, kind in (((1, 1, 2), 'float32'), ((), bool)))
    program = jax.export.export(jax.jit(partial(continued, frames=1)))(x, valid)
    some, seen = np.arange(30, dtype=np.float32).reshape(3, 5, 1, 1, 2), np.arange(5)[None] < [[5], [3], [1]]
    np.testing.assert_array_equal(program.call(some, seen), continued(jnp.asarray(some), jnp.asarray(seen), 1))


@pytest.mark.parametrize('frames', [1, 3])
def test_the_gradient_of_frames_beyond_the_ends_is_the_transpose(frames):
    """<continued(x), g> = <x, gradient>, and frames that are not valid have none."""
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(5, 5, 1, 1, 2)), rng.normal(size=(5, 5 + 2 * frames, 1, 1, 2))
    valid = jnp.arange(5) < jnp.arange(1, 6)[:, None]
    y, pull = jax.vjp(lambda x: continued(x, valid, frames), jnp.asarray(x, jnp.float32))
    (gradient,) = pull(jnp.asarray(g, jnp.float32))
    np.testing.assert_allclose(np.sum(y * g), np.sum(x * gradient), rtol=1e-5)
    assert (np.asarray(gradient)[~valid] == 0).all()


@pytest.mark.parametrize('kind', ['r2plus1d_bottleneck_pool', 'c3d', 'resnet_ibn'])
def test_half_precision_and_finite_gradients(kind, thin):
    """bf16 is float32 to its rounding; gradients stay finite for flat pixels, NaN in padding and a clip without valid
    frames.
    """
    x, valid = clips((3, 16, 16, 16)), np.ones((3, 16), bool)
    x[1] = 0.3
    valid[0, 5:] = valid[2] = False
    x[0, 5:] = np.nan
    module, variables = small_network(kind)
    half = SMALL_NETWORKS[kind](dtype=jnp.bfloat16)
    (exact, _) = compiled(lambda v, x, m: module.apply(v, x, m, False), variables, x, valid)

    def loss(params, stats, x, valid):
        (y, _), updated = half.apply({'params': params, **stats}, x, valid, True, mutable=['batch_stats'])
        rounded, _ = half.apply({'params': params, **stats}, x, valid, False)
        return jnp.square(y.astype(jnp.float32)).sum(), (rounded, updated)

    params = variables.pop('params')
    (_, (rounded, updated)), gradients = compiled(jax.value_and_grad(loss, has_aux=True), params, variables, x, valid)
    assert rounded.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, updated)))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    error = np.asarray(rounded, np.float32) - exact
    assert np.sqrt(np.square(error).mean() / np.square(exact).mean()) < 0.03


def test_2d_control_sees_one_frame_at_a_time(thin):
    for kind, stride in (('r2plus1d_bottleneck_pool', 4), ('c3d', 8), ('i3d', 2)):
        module, variables = small_network(kind, temporal='2d')
        variables = jax.tree.map(jnp.asarray, variables)
        x, valid = clips((1, 16, 16, 16)), jnp.ones((1, 16), bool)
        noisy = clips((1, 16, 16, 16), seed=1)
        noisy[:, ::stride] = x[:, ::stride]
        run = jax.jit(lambda x, m=module, w=variables, v=valid: m.apply(w, x, v, False)[0], compiler_options=OPTIONS)
        np.testing.assert_array_equal(run(x), run(noisy))


def test_frozen_statistics_and_recomputation():
    """Frozen BatchNorm trains as it evaluates; remat changes memory, not results."""
    module, variables = small_network('r3d')
    frozen = SMALL_NETWORKS['r3d'](batch_norm='frozen', remat=True)
    x, valid = jnp.asarray(clips((2, 8, 16, 16))), jnp.ones((2, 8), bool)

    def loss(params, network, train):
        (y, _), updated = network.apply({**variables, 'params': params}, x, valid, train, mutable=['batch_stats'])
        return jnp.square(y).sum(), (y, updated['batch_stats'])

    def run(network, train):
        return compiled(
            jax.value_and_grad(partial(loss, network=network, train=train), has_aux=True), variables['params']
        )

    (_, (expected, _)), gradients = run(module, False)
    (_, (features, stats)), frozen_gradients = run(frozen, True)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, stats, variables['batch_stats'])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), gradients, frozen_gradients)


def test_bad_input_is_named():
    with pytest.raises(UserError, match=r"'r4d' is unknown; choose one of: .*r3d_18.*i3d"):
        build_backbone('r4d')
    with pytest.raises(UserError, match='temporal'):
        build_backbone('r3d_18', temporal='4d')
    with pytest.raises(UserError, match='last_stride'):
        build_backbone('r3d_18', last_stride=3)
    with pytest.raises(UserError, match='batch_norm'):
        build_backbone('r3d_18', batch_norm='off')
    with pytest.raises(UserError, match=r'time_padding.*i3d has no such choice'):
        build_backbone('i3d', time_padding='continued')
    for name, spec in PROJECT_BACKBONES.items():
        for axis in range(3):
            clip = list(spec.min_clip(2))
            clip[axis] -= 1
            with pytest.raises(UserError, match=rf'smaller than the stride of backbone {name}'):
                build_backbone(name, last_stride=2, clip=tuple(clip))
    with pytest.raises(UserError, match='smaller than the stride of backbone c3d'):
        shapes(build_backbone('c3d', last_stride=2), (16, 8, 16))


def test_the_smallest_clip_itself_is_taken():
    check_clip((4, 16, 8), (4, 16, 8), 'any')
    for smaller in ((3, 16, 8), (4, 15, 8), (4, 16, 7)):
        with pytest.raises(UserError, match='smaller than the stride of backbone any, 4x16x8'):
            check_clip(smaller, (4, 16, 8), 'any')
