"""OSNet from ONNX exports: the same function, with BatchNorms that training can use."""

import numpy as np
import pytest

from data_prep.import_weights import read_source
from data_prep.weights import osnet_onnx, osnet_torchreid
from data_prep.weights.image_networks import to_our_names
from data_prep.weights.training_frames import training_frames
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.models.backbones import osnet
from pvlad_jax.models.backbones.osnet import OSNet
from tests.helpers.small_backbones import compiled
from tests.helpers.small_image_networks import OSNET_CHANNELS, fewer_layers
from tests.test_backbone_parity import assert_equal, imported, randomised

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

HEIGHT, WIDTH = 32, 16
FRAMES = np.random.default_rng(0).integers(0, 256, (12, HEIGHT, WIDTH, 3), np.uint8)


STREAMS = 'ab'
pytestmark = pytest.mark.filterwarnings('ignore')  # of the exporter


@pytest.fixture(scope='module')
def peer():
    from tests.helpers.torch_image_networks import TorchOSNet

    return randomised(TorchOSNet(OSNET_CHANNELS, STREAMS)).eval()


@pytest.fixture(scope='module')
def file(peer, tmp_path_factory):
    return export(peer, tmp_path_factory.mktemp('export') / 'osnet.onnx')


@pytest.fixture
def known(monkeypatch):
    """The small network in place of osnet_x0_25."""
    fewer_layers(monkeypatch)
    monkeypatch.setitem(osnet.CHANNELS, 'osnet_x0_25', OSNET_CHANNELS)


def export(peer, path, **options):
    frames = torch.zeros(2, 3, HEIGHT, WIDTH)
    axes = {'input': {0: 'batch'}}
    torch.onnx.export(peer, (frames,), str(path), input_names=['input'], dynamic_axes=axes, dynamo=False, **options)
    return str(path)


def frames(height, width):
    assert (height, width) == (HEIGHT, WIDTH)
    return FRAMES


def test_an_export_with_folded_batch_norms_gives_its_features(peer, file, known):
    names = {tensor.name for tensor in onnx.load(file).graph.initializer}
    assert 'conv1.bn.weight' not in names  # folded, which is what this is about
    state, _ = osnet_onnx.read_state(file, frames)
    assert {n for n in peer.state_dict() if not n.endswith('num_batches_tracked')} == set(state)
    pixels = osnet_onnx._normalised(FRAMES)
    with torch.no_grad():
        expected = peer(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy()[None]
    variables = imported(to_our_names(state, 'export', osnet_torchreid.place))
    module = OSNet(OSNET_CHANNELS, temporal='2d', last_stride=2)
    x = pixels.transpose(0, 2, 3, 1)[None]
    ours = compiled(lambda w, x, v: module.apply(w, x, v, False)[0], variables, x, np.ones((1, len(FRAMES)), bool))
    assert_equal(ours, expected)


def test_exports_of_both_kinds_give_the_same_weights(file, peer, tmp_path):
    """dynamo=True, PyTorch's default since 2.9, names kernels instead of convolutions, and puts them into a file
    beside."""
    pytest.importorskip('onnxscript')
    newer = tmp_path / 'newer.onnx'
    torch.onnx.export(peer, (torch.zeros(1, 3, HEIGHT, WIDTH),), str(newer), dynamo=True, verbose=False)
    assert (tmp_path / 'newer.onnx.data').exists()
    (expected, _), (state, sha256) = (osnet_onnx.read_state(path, frames) for path in (file, str(newer)))
    assert set(state) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, rtol=2e-4, atol=2e-5 * np.abs(array).max(), err_msg=name)
    whole = onnx.load(newer)
    onnx.save(whole, str(tmp_path / 'whole.onnx'))
    alone, of_one = osnet_onnx.read_state(str(tmp_path / 'whole.onnx'), frames)
    np.testing.assert_equal(alone, state)
    assert of_one != sha256
    (tmp_path / 'newer.onnx.data').unlink()
    with pytest.raises(UserError, match=r'is not a whole ONNX file: .*newer\.onnx\.data'):
        osnet_onnx.read_state(str(newer), frames)


@pytest.mark.parametrize('dynamo', [False, True])
def test_the_head_of_an_export_gives_its_feature(peer, tmp_path, dynamo):
    if dynamo:
        pytest.importorskip('onnxscript')
    fc = torch.nn.Sequential(torch.nn.Linear(OSNET_CHANNELS[-1], 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU())
    fc = randomised(fc).eval()

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.__dict__.update(peer.__dict__)  # its modules under their own names
            self._modules = {**peer._modules, 'fc': fc}

        def forward(self, x):
            return fc(type(peer).forward(self, x).mean((2, 3)))

    path = tmp_path / 'osnet.onnx'
    torch.onnx.export(Network().eval(), (torch.zeros(2, 3, HEIGHT, WIDTH),), str(path), dynamo=dynamo, verbose=False)
    state, _ = osnet_onnx.read_state(str(path), frames)
    pooled = torch.randn(4, OSNET_CHANNELS[-1])
    read = torch.nn.Sequential(*(type(layer)(*args) for layer, args in zip(fc, ((OSNET_CHANNELS[-1], 5), (5,), ()))))
    read.load_state_dict({n[3:]: torch.from_numpy(a) for n, a in state.items() if n.startswith('fc.')}, strict=False)
    whole = {name for name in fc.state_dict() if not name.endswith('num_batches_tracked')}
    assert whole == {name[3:] for name in state if name.startswith('fc.')}
    with torch.no_grad():
        torch.testing.assert_close(read.eval()(pooled), fc(pooled), rtol=1e-5, atol=1e-6)


def test_its_batch_norms_have_the_statistics_of_the_frames(file):
    """So on these frames training mode, which normalises by the batch, gives what evaluation mode gives."""
    from tests.helpers.torch_image_networks import TorchOSNet

    state, _ = osnet_onnx.read_state(file, frames)
    peer = TorchOSNet(OSNET_CHANNELS, STREAMS)
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)
    pixels = torch.from_numpy(osnet_onnx._normalised(FRAMES))
    with torch.no_grad():
        expected, trained = peer.eval()(pixels), peer.train()(pixels)
    scale = expected.abs().max()
    assert scale > 0.1 and (trained - expected).abs().max() < 1e-4 * scale


def test_an_export_that_keeps_its_batch_norms_is_read_as_it_is(peer, tmp_path):
    options = {'training': torch.onnx.TrainingMode.PRESERVE, 'do_constant_folding': False}
    file = export(peer, tmp_path / 'osnet.onnx', **options)

    def none(height, width):
        raise AssertionError('nothing is folded')

    state, _ = osnet_onnx.read_state(file, none)
    expected = {n: t.numpy() for n, t in peer.state_dict().items() if not n.endswith('num_batches_tracked')}
    np.testing.assert_equal(state, expected)


def test_an_import_takes_its_frames_from_a_built_data_set(file, known, micro_data):
    data_dir, name = str(micro_data), 'micro'
    weights = read_source('torchreid-onnx', file, dataset=name, data_dir=data_dir, backbone='osnet_x0_25')
    assert weights.backbones == ('osnet_x0_25',) and 'batch_stats/conv1/norm/mean' in weights.tensors
    seen = training_frames(data_dir, name, osnet_onnx.FRAMES, HEIGHT, WIDTH)
    assert len(seen) == len(TrackletDataset.open(data_dir, name).tables['train'])
    state, _ = osnet_onnx.read_state(file, lambda height, width: seen)
    np.testing.assert_array_equal(weights.tensors['batch_stats/conv1/norm/mean'], state['conv1.bn.running_mean'])
    with pytest.raises(UserError, match='--dataset=NAME'):
        read_source('torchreid-onnx', file)
    with pytest.raises(UserError, match=r'No data set .none.'):
        read_source('torchreid-onnx', file, dataset='none', data_dir=data_dir)
    with pytest.raises(UserError, match='not of --backbone=osnet_x1_0'):
        read_source('torchreid-onnx', file, dataset=name, data_dir=data_dir, backbone='osnet_x1_0')


def test_an_export_for_more_frames_at_once_than_there_are_is_refused(file, tmp_path):
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = len(FRAMES) + 1
    large = tmp_path / 'large.onnx'
    onnx.save(model, str(large))
    with pytest.raises(UserError, match='exported for 13 frames at a time, and the training split gives 12'):
        osnet_onnx.read_state(str(large), frames)


def test_other_files_are_refused(file, tmp_path):
    with pytest.raises(UserError, match='needs --file'):
        read_source('torchreid-onnx', None)
    with pytest.raises(UserError, match='there is no file'):
        read_source('torchreid-onnx', str(tmp_path / 'none.onnx'))
    bad = tmp_path / 'bad.onnx'
    bad.write_bytes(b'no protobuf')
    with pytest.raises(UserError, match='is not a whole ONNX file'):
        read_source('torchreid-onnx', str(bad))
    model = onnx.load(file)
    folded = next(node for node in model.graph.node if node.op_type == 'Conv' and len(node.input) > 2)
    model.graph.node.insert(0, onnx.helper.make_node('Identity', [folded.input[2]], ['computed']))
    folded.input[2] = 'computed'
    onnx.save(model, str(bad))
    with pytest.raises(UserError, match='not stored under a name'):
        read_source('torchreid-onnx', str(bad))
    model = onnx.load(file)
    del model.graph.node[0].output[:]
    onnx.save(model, str(bad))
    with pytest.raises(UserError, match='is not a whole ONNX file'):
        read_source('torchreid-onnx', str(bad))
    model = onnx.load(file)
    for node in model.graph.node:
        node.name = ''
    onnx.save(model, str(bad))
    with pytest.raises(UserError, match='not named by its module'):
        read_source('torchreid-onnx', str(bad))
    normed = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.InstanceNorm2d(4, affine=True)).eval()
    with pytest.raises(UserError, match='InstanceNormalization'):
        read_source('torchreid-onnx', export(normed, tmp_path / 'normed.onnx'))
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False)).eval()
    with pytest.raises(UserError, match='is no osnet_x0_25, osnet_x0_5'):
        read_source('torchreid-onnx', export(plain, tmp_path / 'plain.onnx'))
