"""A network as an ONNX file computes in ONNX Runtime what it does in JAX; what differs or cannot be written is one
sentence, and leaves what was there."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import lax

import pvlad_jax
from pvlad_jax.commands import dispatcher
from pvlad_jax.config import BackboneConfig, ModelConfig
from pvlad_jax.export.artifact import is_export
from pvlad_jax.models.pooling import POOLINGS
from pvlad_jax.models.tracklet_network import build_network, init_variables
from tests.helpers import micro  # noqa: F401  enters its backbone
from tests.helpers.small_backbones import draw, thin_channels
from tests.helpers.small_image_networks import fewer_layers
from tests.helpers.small_models import write_workdir
from tests.test_export import exported

onnx = pytest.importorskip('onnx', reason='needs onnx of requirements-onnx.txt')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs ONNX Runtime of requirements-onnx.txt')

from pvlad_jax.export.to_onnx import check  # noqa: E402
from pvlad_jax.export.to_onnx.arithmetic import ELEMENTWISE  # noqa: E402
from pvlad_jax.export.to_onnx.graph import Graph, NotInOnnx  # noqa: E402
from pvlad_jax.export.to_onnx.program import RULES, onnx_model, write_program  # noqa: E402

RNG = np.random.default_rng(0)


def command(*arguments: str) -> int:
    return dispatcher.main(['export_onnx', *arguments])


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model') / 'work')


@pytest.fixture(scope='module')
def file(workdir) -> Path:
    path = workdir.parent / 'micro.onnx'
    assert command(f'--model={workdir}', f'--output={path}') == 0
    return path


def embedded(path: Path, video: np.ndarray) -> np.ndarray:
    """As docs/export.md shows it: clip after clip, in constant memory."""
    session = onnxruntime.InferenceSession(str(path))
    about = session.get_modelmeta().custom_metadata_map
    t, height, width = json.loads(about['clip'])
    empty = float(json.loads(about['before_first_clip']))
    state = {
        one.name: np.full((1, *one.shape[1:]), empty, np.float32)
        for one in session.get_inputs()
        if one.name.startswith('before_')
    }
    for start in range(0, len(video), t):
        some = video[start : start + t]
        clip = np.concatenate([some, np.zeros((t - len(some), height, width, 3), np.uint8)])
        valid = np.arange(t) < len(some)
        embedding, *after = session.run(None, {'frames': clip[None, None], 'valid': valid[None, None], **state})
        state = dict(zip(state, after))
    return embedding[0]


def test_videos_of_any_length_clip_by_clip(file, workdir):
    model = pvlad_jax.load(workdir)
    for length in (1, 4, 9):
        video = RNG.integers(0, 256, (length, 16, 8, 3), dtype=np.uint8)
        np.testing.assert_allclose(embedded(file, video), model.embed(video), atol=2e-6)
    about = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    assert about['fingerprint'] == model.fingerprint and json.loads(about['step']) == 2
    onnx.checker.check_model(str(file), full_check=True)


def test_sizes_are_open_and_named(file):
    inputs = {one.name: one for one in onnxruntime.InferenceSession(str(file)).get_inputs()}
    assert list(inputs) == ['frames', 'valid', 'before_residual']
    assert (inputs['frames'].shape, inputs['frames'].type) == (['B', 'S', 4, 16, 8, 3], 'tensor(uint8)')
    assert inputs['valid'].shape == ['B', 'S', 4] and inputs['before_residual'].shape[0] == 'B'


def test_an_export_gives_the_same_file_as_its_working_directory(file, workdir, tmp_path):
    folder = exported(workdir, tmp_path / 'export')
    assert is_export(folder) and command(f'--model={folder}', f'--output={tmp_path / "x.onnx"}') == 0
    assert (tmp_path / 'x.onnx').read_bytes() == file.read_bytes()


def network_of(backbone: str, pooling: str, clip, **fields):
    """(network, weights) of one with few parts, by its names."""
    about = BackboneConfig(name=backbone, temporal=fields.pop('temporal', '3d'))
    small = {'parts': 2, 'clusters': 3, 'descriptor_dim': 4, 'embedding_dim': 8}
    network = build_network(ModelConfig(backbone=about, pooling=pooling, **small, **fields), 1)
    shapes = jax.eval_shape(init_variables, network, clip, jax.random.key(0))
    weights = flatten_dict(jax.tree.map(np.asarray, draw(shapes)), sep='/')
    return network, {name: value for name, value in weights.items() if 'classifier' not in name}


def difference(tmp_path: Path, network, weights, clip, flip: bool = False) -> check.Difference:
    path = tmp_path / 'x.onnx'
    onnx.save(onnx_model(network, flip, weights, clip, {}), path)
    return check.compare(path, network, flip, weights, clip)


@pytest.mark.parametrize('pooling', [*(name for name in POOLINGS if name != 'pretrained_head'), 'colour_masks'])
def test_every_pooling_and_mirror_images(pooling, tmp_path):
    clip = (4, 16, 8)
    fields = {'bnneck': True, 'position_term': pooling == 'part_attention'}
    if pooling == 'stripes':
        clip, fields = (4, 32, 16), {}
    if pooling == 'colour_masks':
        pooling, fields = 'person_vlad', {'colour_masks': True}
    network, weights = network_of('micro', pooling, clip, **fields)
    assert difference(tmp_path, network, weights, clip, flip=True).within(2e-6)


# 3D, grouped and pointwise convolutions, temporal strides, poolings, branches, instance norms, a published head.
@pytest.mark.parametrize(
    ('backbone', 'pooling', 'clip', 'fields'),
    [
        ('r3d_tiny', 'person_vlad', (4, 32, 16), {}),
        ('osnet_x0_25', 'pretrained_head', (2, 32, 16), {'temporal': '2d'}),
        ('osnet_x0_25', 'person_vlad', (2, 32, 16), {'temporal': '2d', 'embedding_by_part': True}),
        ('i3d_mixed_4f', 'average', (8, 32, 16), {}),
    ],
)
def test_backbones(backbone, pooling, clip, fields, tmp_path, monkeypatch):
    thin_channels(monkeypatch)
    fewer_layers(monkeypatch)
    network, weights = network_of(backbone, pooling, clip, **fields)
    assert difference(tmp_path, network, weights, clip).within(2e-5)  # random weights magnify rounding


OPERATIONS = {
    'a window between numbers that are known': lambda x: lax.dynamic_slice(x, (0, 1, 0), (x.shape[0], 2, 3)),
    'both ends cut': lambda x: lax.pad(x, 7.0, [(0, 0, 0), (-1, 2, 0), (1, -1, 0)]),
    'steps': lambda x: x[:, ::2, 1::3],
    'places': lambda x: x[:, jnp.array([2, 0, 0])],
    'a grid of places': lambda x: x[:, jnp.array([[2], [1]]), jnp.array([[0, 3]])],
    'one place': lambda x: x[:, 1],
    'backwards': lambda x: x[:, ::-1],
    'parts': lambda x: jnp.concatenate(jnp.split(x, [1, 3], axis=2)[::-1], 2),
    'unstacked': lambda x: jnp.stack(jnp.unstack(x, axis=1)[::-1], axis=2),
    'broadcast before a sum': lambda x: jnp.broadcast_to(x[:, :1], x.shape).sum(1),
    'a batched product': lambda x: jnp.einsum('bij,bkj->ikb', x, x + 1),
    'whether all, whether any': lambda x: jnp.stack([(x > 0).all(1), (x > 0).any(1), (x != x).any(1)], 1) * 1.0,
    'numbers among symbols': lambda x: jnp.ones(x.shape) * x.shape[0],
    'powers and roots': lambda x: jnp.where(x > 0, jnp.sqrt(jnp.abs(x)), x**3) - lax.rsqrt(1 + x * x),
    'a dilated convolution': lambda x: lax.conv_general_dilated(
        x, jnp.arange(24.0).reshape(3, 4, 2), (2,), [(2, 1)], rhs_dilation=(2,), dimension_numbers=('NHC', 'HIO', 'NHC')
    ),
}


@pytest.mark.parametrize('name', OPERATIONS)
def test_operations(name, tmp_path):
    (b,) = jax.export.symbolic_shape('b')
    traced = jax.make_jaxpr(OPERATIONS[name])(jax.ShapeDtypeStruct((b, 3, 4), np.float32))
    graph = Graph({'b': ('x', 0)})
    (value,) = write_program(graph, traced, [graph.input('x', (b, 3, 4), np.float32)])
    graph.output('y', value, traced.out_avals[0].shape)
    session = onnxruntime.InferenceSession(graph.model('test', '0', {}).SerializeToString())
    x = RNG.standard_normal((5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {'x': x})[0], OPERATIONS[name](x), rtol=2e-6, atol=2e-6)


def test_what_has_no_rule_is_named():
    graph = Graph({})
    for function, says in ((jnp.sort, 'operation sort'), (lambda x: x[jnp.argmax(x)], 'argmax')):
        with pytest.raises(NotInOnnx, match=says):
            write_program(graph, jax.make_jaxpr(function)(jnp.zeros(3)), [graph.input('x', (3,), np.float32)])


def test_what_fails_is_one_sentence_and_leaves_what_was_there(workdir, tmp_path, capsys, monkeypatch):
    path = tmp_path / 'x.onnx'
    path.write_text('before')

    def refused(says: str) -> None:
        assert command(f'--model={workdir}', f'--output={path}') == 2
        error = capsys.readouterr().err
        assert says in error and error.startswith('Error: ') and error.count('\n') == 1
        assert [one.read_text() for one in tmp_path.iterdir()] == ['before']

    with monkeypatch.context() as patch:
        patch.delitem(RULES, 'conv_general_dilated')
        refused(
            "(pooling 'person_vlad' on backbone 'micro') cannot be written as ONNX: there is no rule for the operation"
        )
    with monkeypatch.context() as patch:
        patch.setitem(ELEMENTWISE, 'logistic', ('Neg',))
        refused('differs in ONNX Runtime from JAX')
    with monkeypatch.context() as patch:
        patch.setitem(ELEMENTWISE, 'logistic', ('Nonsense',))
        refused('cannot run it')
    assert command(f'--model={tmp_path / "none"}', f'--output={path}') == 2
    assert 'no working directory' in capsys.readouterr().err
    assert command(f'--model={workdir}', f'--output={tmp_path / "x.txt"}') == 2
    assert 'must end in .onnx' in capsys.readouterr().err


def test_half_precision_is_written_in_single_and_said(workdir, tmp_path, capsys):
    half = write_workdir(tmp_path / 'work', **{'model.dtype': 'bfloat16'})
    assert command(f'--model={half}', f'--output={tmp_path / "x.onnx"}') == 0
    assert 'computes in bfloat16, the file in float32' in capsys.readouterr().out
    single = pvlad_jax.load(workdir)  # of the same weights
    about = onnxruntime.InferenceSession(str(tmp_path / 'x.onnx')).get_modelmeta().custom_metadata_map
    assert about['fingerprint'] == single.fingerprint != pvlad_jax.load(half).fingerprint


def test_numbers_that_are_none_differ():
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    for found, expected, largest in (
        ([1, -inf], [1, -inf], 0),
        ([1, 2], [1.5, 2], 0.5),
        ([nan], [1], inf),
        ([1], [nan], inf),
        ([nan], [nan], inf),
        ([-inf], [inf], inf),
        ([1, 2], [1], inf),
    ):
        assert check._largest(np.array(found, np.float32), np.array(expected, np.float32)) == largest
    assert not check.Difference(float('nan'), 0.0).within(1.0) and not check.Difference(0.0, np.inf).within(1.0)


def test_missing_libraries_are_named(tmp_path):
    code = (
        'import sys\n'
        'sys.modules[sys.argv[1]] = None\n'
        'from pvlad_jax.commands import dispatcher\n'
        'sys.exit(dispatcher.main(["export_onnx", "--model=none", f"--output={sys.argv[2]}/x.onnx"]))'
    )
    root = Path(__file__).resolve().parents[1]
    for name, says in (('onnx', 'needs onnx'), ('onnxruntime', 'needs onnxruntime')):
        ended = subprocess.run(
            [sys.executable, '-c', code, name, str(tmp_path)], cwd=root, capture_output=True, text=True
        )
        assert ended.returncode == 2 and f'this {says}, which is not installed: pip install -r' in ended.stderr
        assert 'requirements-onnx.txt' in ended.stderr and ended.stderr.count('\n') == 1
