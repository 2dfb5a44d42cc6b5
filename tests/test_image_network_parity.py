"""OSNet and ResNet-50 equal the same networks in PyTorch, and give the features that were published."""

from functools import partial

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from data_prep.import_weights import read_source, templates, write_weights
from data_prep.weights import osnet_torchreid, resnet_torchvision
from data_prep.weights.image_networks import to_our_names
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import BACKBONES, build_backbone, osnet
from pvlad_jax.models.backbones.osnet import OmniScaleBlock, OSNet
from pvlad_jax.models.backbones.resnet import ResNet50
from pvlad_jax.training.initialisation.pretrained import load_backbone_weights, load_classifier, load_head
from tests.helpers.small_backbones import clips, compiled, shapes
from tests.helpers.small_image_networks import OSNET_CHANNELS, fewer_layers
from tests.test_backbone_parity import assert_equal, imported, randomised


def frames_first(x):
    """Clips [N, T, H, W, 3] -> frames [N T, 3, H, W] for PyTorch."""
    import torch

    return torch.from_numpy(x.reshape(-1, *x.shape[2:])).permute(0, 3, 1, 2)


def clips_again(y, clips):
    """Feature maps [N T, C, h, w] of PyTorch -> [N, T, h, w, C]."""
    y = y.detach().permute(0, 2, 3, 1).numpy()
    return y.reshape(clips, -1, *y.shape[1:])


def arrays(peer):
    return {name: tensor.numpy().copy() for name, tensor in peer.state_dict().items()}


@pytest.fixture(scope='module')
def msmt17(shared, tmp_path_factory):
    """The MSMT17 weights, imported; and what the original network gives for four pictures."""
    folder = shared / 'data' / 'weights'
    file = folder / 'osnet_x0_25_msmt17.safetensors'
    if not file.is_file():
        pytest.skip(f'needs {file.name} in the data folder')
    output = tmp_path_factory.mktemp('weights') / 'osnet.safetensors'
    with np.load(folder / 'osnet_x0_25_msmt17_golden.npz') as golden:
        return write_weights(read_source('torchreid', str(file), backbone='osnet_x0_25'), output), dict(golden)


def test_the_published_feature(msmt17):
    """Four pictures, as a clip through the 3D network, give the 512 numbers each that the original network gives."""
    path, golden = msmt17
    spec, head = BACKBONES['osnet_x0_25'], load_head(path)
    module = build_backbone('osnet_x0_25', last_stride=2)
    params, stats = load_backbone_weights(path, 'osnet_x0_25', *templates('osnet_x0_25'))
    assert params['conv4']['block1']['conv3']['conv']['kernel'].shape[0] == 3
    pixels = (golden['frames'][None] / np.float32(255) - np.float32(spec.pixel_mean)) / np.float32(spec.pixel_std)
    variables, valid = {'params': params, 'batch_stats': stats}, np.ones((1, 4), bool)
    features = compiled(lambda w, x, v: module.apply(w, x, v, False)[0], variables, pixels, valid)
    x = np.asarray(features)[0].mean((1, 2)) @ head['kernel'] + head['bias']
    x = (x - head['mean']) / np.sqrt(head['var'] + 1e-5) * head['scale'] + head['shift']
    np.testing.assert_allclose(np.maximum(x, 0), golden['feature'], atol=1e-4)


def test_osnet_equals_pytorch(monkeypatch):
    torch = pytest.importorskip('torch')
    fewer_layers(monkeypatch)
    from tests.helpers.torch_image_networks import TorchOSNet

    peer = randomised(TorchOSNet(OSNET_CHANNELS, osnet.STREAMS, last_stride=1))
    variables = imported(to_our_names(arrays(peer), 'the peer', osnet_torchreid.place))
    module = OSNet(OSNET_CHANNELS, temporal='2d', last_stride=1)
    x, valid = clips((2, 3, 32, 16)), np.ones((2, 3), bool)
    features = compiled(lambda w, x, v: module.apply(w, x, v, False)[0], variables, x, valid)
    with torch.no_grad():
        assert_equal(features, clips_again(peer(frames_first(x)), 2))


def test_a_block_of_osnet_trains_as_pytorch_does(monkeypatch):
    """Features, batch statistics and every gradient."""
    torch = pytest.importorskip('torch')
    fewer_layers(monkeypatch)
    from tests.helpers.torch_image_networks import OmniScale

    def ours(arrays):
        tensors = to_our_names({f'conv2.0.{name}': a for name, a in arrays.items()}, 'the peer', osnet_torchreid.place)
        return {kind: tree['conv2']['block0'] for kind, tree in imported(tensors).items()}

    peer = randomised(OmniScale(8, 64, osnet.STREAMS)).train()
    variables, module = ours(arrays(peer)), OmniScaleBlock(64, False, False, np.float32)
    rng = np.random.default_rng(5)
    x, weight = (rng.standard_normal((2, 3, 7, 4, c), np.float32) for c in (8, 64))
    inputs, valid = frames_first(x).requires_grad_(), np.ones((2, 3), bool)
    theirs = peer(inputs)
    (theirs * frames_first(weight)).sum().backward()

    def loss(params, x, stats, valid):
        y, updated = module.apply({'params': params, 'batch_stats': stats}, x, valid, True, mutable=['batch_stats'])
        return (y * weight).sum(), (y, updated['batch_stats'])

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, (features, stats)), (gradients, of_x) = compiled(run, variables['params'], x, variables['batch_stats'], valid)
    assert_equal(features, clips_again(theirs, 2))
    assert_equal(of_x, clips_again(inputs.grad, 2))
    expected = ours(arrays(peer) | {name: p.grad.numpy() for name, p in peer.named_parameters()})
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected['params']))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5 * scale), dict(gradients), expected['params'])
    means = [{k: v for k, v in flatten_dict(t).items() if k[-1] == 'mean'} for t in (stats, expected['batch_stats'])]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *means)
    assert torch.isfinite(inputs.grad).all()


@pytest.mark.parametrize(('ibn', 'last_stride'), [(False, 1), (True, 2)])
def test_resnet_equals_pytorch(ibn, last_stride, monkeypatch):
    torch = pytest.importorskip('torch')
    fewer_layers(monkeypatch)
    from tests.helpers.torch_image_networks import TorchResNet

    peer = randomised(TorchResNet((1, 1, 1, 1), 4, ibn, last_stride))
    variables = imported(to_our_names(arrays(peer), 'the peer', resnet_torchvision.place))
    module = ResNet50(width=4, ibn=ibn, temporal='2d', last_stride=last_stride)
    x, valid = clips((2, 2, 65, 32)), np.ones((2, 2), bool)
    features = compiled(lambda w, x, v: module.apply(w, x, v, False)[0], variables, x, valid)
    with torch.no_grad():
        assert_equal(features, clips_again(peer(frames_first(x)), 2))


# --- Files ---


def check_names(tensors, name):
    """Every parameter of the 2D network, no other, and of its shape."""
    like = shapes(build_backbone(name, temporal='2d'), (1, 32, 32))[1]
    wanted = {k: leaf.shape for k, leaf in flatten_dict(dict(like), sep='/').items()}
    assert {k: v.shape for k, v in tensors.items() if k.split('/')[0] not in ('head', 'classifier')} == wanted


def test_files_of_the_model_zoo(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.helpers.torch_image_networks import TorchOSNet

    with torch.device('meta'):
        network = TorchOSNet(osnet.CHANNELS['osnet_x0_5'], classes=1041)
    state = {f'module.{k}': torch.full(v.shape, 0.5, dtype=v.dtype) for k, v in network.state_dict().items()}
    torch.save({'state_dict': state, 'epoch': 3}, tmp_path / 'zoo.pth')
    weights = read_source('torchreid', str(tmp_path / 'zoo.pth'), backbone='osnet_x0_5')
    assert weights.backbones == ('osnet_x0_5',)
    check_names(weights.tensors, 'osnet_x0_5')
    path = write_weights(weights, tmp_path / 'out.safetensors')
    assert load_head(path)['kernel'].shape == (256, 512) and load_classifier(path)[0].shape == (512, 1041)

    with pytest.raises(UserError, match='holds weights of osnet_x0_5, not of --backbone=osnet_x1_0'):
        read_source('torchreid', str(tmp_path / 'zoo.pth'), backbone='osnet_x1_0')
    with pytest.raises(UserError, match='is no resnet50 or resnet50_ibn_a in the naming of torchvision-2d'):
        read_source('torchvision-2d', str(tmp_path / 'zoo.pth'))
    with pytest.raises(UserError, match='--backbone belongs to --source=torchreid, torchreid-onnx or torchvision-2d'):
        read_source('torchvision', str(tmp_path / 'zoo.pth'), backbone='resnet50')
    torch.save(state | {'conv2.0.IN.weight': torch.zeros(64)}, tmp_path / 'in.pth')
    with pytest.raises(UserError, match=r'no place for 1 names, such as conv2\.0\.IN\.weight'):
        read_source('torchreid', str(tmp_path / 'in.pth'))


@pytest.mark.parametrize(('name', 'options', 'head', 'classes'), [
    ('resnet50', {'fc': 'classifier'}, None, (2048, 1000)),  # torchvision
    ('resnet50', {'fc': 'head'}, (2048, 512), (512, 751)),  # torchreid's resnet50_fc512
    ('resnet50_ibn_a', {'ibn': True, 'fc': 'classifier'}, None, (2048, 1000)),  # IBN-Net
])  # fmt: skip
def test_names_of_resnet(name, options, head, classes):
    torch = pytest.importorskip('torch')
    from tests.helpers.torch_image_networks import TorchResNet

    with torch.device('meta'):
        state = {k: np.broadcast_to(np.float32(0.5), v.shape) for k, v in TorchResNet(**options).state_dict().items()}
    assert resnet_torchvision.backbone_of(state) == name and osnet_torchreid.backbone_of(state) is None
    tensors = to_our_names(state, 'the peer', resnet_torchvision.place)
    check_names(tensors, name)
    assert tensors['classifier/kernel'].shape == classes
    assert ('head/kernel' in tensors) == (head is not None) and (head is None or tensors['head/kernel'].shape == head)


def test_osnet_with_other_norms_is_another_network():
    keys = ('conv1.conv.weight', *(f'conv{n}.0.conv3.conv.weight' for n in (2, 3, 4)))
    for name, widths in osnet.CHANNELS.items():
        state = {key: np.zeros(width) for key, width in zip(keys, widths)}
        assert osnet_torchreid.backbone_of({**state, 'conv1.bn.running_mean': np.zeros(widths[0])}) == name
        assert osnet_torchreid.backbone_of(state) is None  # as OSNet-IBN, which has instance norms there


def test_damaged_safetensors_are_refused(tmp_path):
    (tmp_path / 'cut.safetensors').write_bytes(b'\x10\0\0\0\0\0\0\0{"a":')
    with pytest.raises(UserError, match='is not a whole safetensors file'):
        read_source('torchreid', str(tmp_path / 'cut.safetensors'))
