"""An export is the network of its working directory: for JAX alone, for this program, and for nobody once it is
damaged.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import main
import pvlad_jax
from configs import run as saved_run
from pvlad_jax.commands.model_fingerprint import fingerprint_of
from pvlad_jax.core.errors import UserError
from pvlad_jax.export import artifact
from tests.helpers.small_models import copied, exported, write_workdir

RNG = np.random.default_rng(0)
LENGTHS = (1, 4, 9, 23)  # of clips of 4 frames
VIDEOS = [RNG.integers(0, 256, (n, 16, 8, 3), dtype=np.uint8) for n in LENGTHS]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model') / 'work')


@pytest.fixture(scope='module')
def folder(workdir) -> Path:
    return exported(workdir)


@pytest.fixture(scope='module')
def expected(workdir) -> np.ndarray:
    return pvlad_jax.load(workdir).embed_many(VIDEOS)


_ALONE = """
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition('.')[0] in ('pvlad_jax', 'flax', 'safetensors', 'orbax', 'jaxtyping', 'cv2',
                                      'ml_collections'):
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
import numpy as np
from load_model import load_model

embed = load_model(sys.argv[1], clips_per_step=2)
with np.load('videos.npz') as videos:
    np.save('found.npy', np.stack([embed(videos[name]) for name in videos]))
try:
    embed(np.zeros((2, 9, 9, 3), np.uint8))
except ValueError as error:
    print(error)
"""


def test_the_loader_needs_jax_alone(folder, expected, tmp_path):
    np.savez(tmp_path / 'videos.npz', *VIDEOS)
    command = [sys.executable, '-B', '-c', _ALONE, str(folder)]  # -B: no bytecode in a folder that other tests list
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    np.testing.assert_allclose(np.load(tmp_path / 'found.npy'), expected, atol=2e-6)
    assert 'uint8 RGB [n, 16, 8, 3]' in said


def own_loader(folder: Path):
    """`load_model` of the folder's own file."""
    spec = importlib.util.spec_from_file_location('load_model', folder / 'load_model.py')
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader.load_model


@pytest.fixture(scope='module')
def alone(folder):
    return own_loader(folder)(folder)


def test_the_loader_takes_lists_of_frames(alone, expected):
    np.testing.assert_allclose(alone(list(VIDEOS[2])), expected[2], atol=2e-6)
    np.testing.assert_allclose(alone(tuple(jax.numpy.asarray(VIDEOS[2]))), expected[2], atol=2e-6)


@pytest.mark.parametrize(
    ('frames', 'says'),
    [
        (None, 'not object'),
        (7, 'not int'),
        ('video.mp4', 'not <U9'),
        ([], r'not float64 \(0,\)'),
        (iter(VIDEOS[2]), 'not object'),
        ([None, None], 'not object'),
        ([VIDEOS[2][0], VIDEOS[2][0, :9]], 'not a list that is no array'),
        (VIDEOS[2][0], r'not uint8 \(16, 8, 3\)'),
        (VIDEOS[2][:0], r'not uint8 \(0, 16, 8, 3\)'),
        (list(VIDEOS[2] / 255), 'not float64'),
    ],
)
def test_the_loader_says_what_it_needs(alone, frames, says):
    with pytest.raises(ValueError, match=rf'Give uint8 RGB \[n, 16, 8, 3\] with n >= 1, or a list .*{says}'):
        alone(frames)


def program(folder: Path):
    """(its program, its weights, `state(b)` of b videos without clips) of an export."""
    manifest, weights = artifact.read_export(folder)
    empty = {'add': 0.0, 'max': -np.inf}[manifest['statistics']['merge']]
    shapes = manifest['statistics']['shapes'].items()
    call = jax.jit(jax.export.deserialize((folder / 'model.jax').read_bytes()).call)
    return call, weights, lambda b: {name: np.full((b, *shape), empty, np.float32) for name, shape in shapes}


def test_tracklets_together_or_alone_clips_at_once_or_one_by_one(folder, expected):
    call, weights, state = program(folder)
    clips, valid = np.zeros((2, 3, 4, 16, 8, 3), np.uint8), np.zeros((2, 3, 4), bool)
    for row, video in enumerate((VIDEOS[1], VIDEOS[2])):
        clips.reshape(2, 12, 16, 8, 3)[row, : len(video)] = video
        valid.reshape(2, 12)[row, : len(video)] = True
    clips[~valid] = 99  # what stands in padding does not matter
    together = call(weights, clips, valid, state(2))[0]
    now = state(2)
    for clip in range(3):
        embedding, now = call(weights, clips[:, clip : clip + 1], valid[:, clip : clip + 1], now)
    np.testing.assert_allclose(together, expected[1:3], atol=2e-6)
    np.testing.assert_allclose(embedding, expected[1:3], atol=2e-6)


def test_mirror_images_and_maxima(tmp_path):
    workdir = write_workdir(tmp_path / 'work', **{'model.pooling': 'max', 'evaluation.flip': True})
    folder = exported(workdir)
    wanted = pvlad_jax.load(workdir)
    np.testing.assert_allclose(own_loader(folder)(folder)(VIDEOS[2]), wanted.embed(VIDEOS[2]), atol=2e-6)
    assert pvlad_jax.load(folder).fingerprint == wanted.fingerprint


def test_this_program_takes_an_export_for_the_working_directory(folder, workdir, expected, tmp_path):
    other = shutil.copytree(folder, tmp_path / 'elsewhere')
    model = pvlad_jax.load(other)
    assert model.fingerprint == pvlad_jax.load(workdir).fingerprint == fingerprint_of(str(other))
    np.testing.assert_array_equal(model.embed_many(VIDEOS), expected)
    assert str(other) in repr(model)
    with pytest.raises(UserError, match='holds one checkpoint'):
        pvlad_jax.load(other, checkpoint='best')
    assert pvlad_jax.load(other, flip=True).fingerprint != model.fingerprint


def test_what_is_exported_is_described(folder):
    manifest, weights = artifact.read_export(folder)
    assert manifest['platforms'] == ['cpu', 'cuda', 'tpu'] and manifest['input']['clip'] == [4, 16, 8]
    assert not [name for name in weights if 'classifier' in name or 'loss' in name]
    assert not [name for name in manifest['architecture'] if 'weights' in name]  # paths of one machine
    assert (manifest['training']['step'], manifest['evaluation'], manifest['imported_weights']) == (2, None, None)
    assert 'nothing is claimed' in (folder / 'MODEL_CARD.md').read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        'MODEL_CARD.md', 'load_model.py', 'model.jax', 'model.json', 'weights.safetensors',
    ]  # fmt: skip


def changed_json(folder: Path, **fields) -> None:
    path = folder / 'model.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def cut(name: str):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def flipped_bit(name: str):
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return damage


def other_weights(folder: Path) -> None:
    """Whole and with the right hashes, but not what the fingerprint is of."""
    manifest, weights = artifact.read_export(folder)
    name = min(weights)
    weights[name] = weights[name] + 1
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != 'model.json'}
    artifact.write_export(folder, {**contents, 'weights.safetensors': artifact.weights_bytes(weights, '')}, manifest)


@pytest.mark.parametrize(
    ('damage', 'says'),
    [
        (lambda folder: (folder / 'model.json').unlink(), r'holds no model\.json'),
        (lambda folder: (folder / 'model.jax').unlink(), r'holds no model\.jax'),
        (lambda folder: (folder / 'weights.safetensors').unlink(), r'holds no weights\.safetensors'),
        (cut('model.json'), r'model\.json is damaged'),
        (cut('model.jax'), r'model\.jax is cut'),
        (cut('weights.safetensors'), r'weights\.safetensors is cut'),
        (flipped_bit('weights.safetensors'), r'its hash does not agree'),
        (lambda folder: (folder / 'model.json').write_text('[]'), 'it holds no fields'),
        (lambda folder: changed_json(folder, format='onnx'), 'not written by this program'),
        (lambda folder: changed_json(folder, schema=99), 'has schema 99'),
        (lambda folder: changed_json(folder, files=3), r'got `int` - at `\$\.files`'),
        (lambda folder: changed_json(folder, input={'clip': 7}), 'damaged'),
        (
            lambda folder: changed_json(folder, architecture={'model.backbone.name': 'unknown'}),
            'does not fit this version',
        ),
        (lambda folder: changed_json(folder, architecture={'model.backbone.name': 'micro'}), 'was altered'),
        (lambda folder: changed_json(folder, flip=True), 'was altered'),
        (other_weights, 'was altered'),
    ],
)
def test_a_damaged_or_foreign_export_is_one_sentence(folder, tmp_path, damage, says):
    folder = copied(folder, tmp_path / 'export')
    damage(folder)
    with pytest.raises(UserError, match=says) as error:
        pvlad_jax.load(folder)
    assert str(folder) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('how', [cut, flipped_bit], ids=['cut', 'one bit'])
@pytest.mark.parametrize('name', ['model.jax', 'weights.safetensors'])
def test_the_loader_names_the_file_that_is_damaged(folder, tmp_path, name, how):
    folder = copied(folder, tmp_path / 'export')
    how(name)(folder)
    with pytest.raises(ValueError, match=rf'export/{name} is damaged: its SHA-256 .*Copy the folder again'):
        own_loader(folder)(folder)


@pytest.mark.parametrize(
    'damage',
    [
        cut('model.json'),
        lambda folder: (folder / 'model.json').write_text('[]'),
        lambda folder: changed_json(folder, files=3),
        lambda folder: changed_json(folder, files={}),
        lambda folder: changed_json(folder, statistics={'merge': 'adx', 'shapes': {}}),
    ],
)
def test_the_loader_tells_a_damaged_description(folder, tmp_path, damage):
    folder = copied(folder, tmp_path / 'export')
    damage(folder)
    with pytest.raises(ValueError, match=r'export/model\.json (or weights\.safetensors )?is damaged \('):
        own_loader(folder)(folder)


def test_an_export_is_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    target = copied(folder, tmp_path / 'export')
    (target / 'threshold.json').write_text('{}')
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    contents = {name: content for name, content in before.items() if not name.endswith('.json')}
    manifest, write = json.loads(before['model.json']), Path.write_bytes

    def full(path, content):
        if path.name == 'model.json':
            raise OSError(28, 'No space left on device')
        return write(path, content)

    monkeypatch.setattr(Path, 'write_bytes', full)
    for place in (target, tmp_path / 'new'):
        with pytest.raises(UserError, match='No space left'):
            artifact.write_export(place, contents, manifest)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ['export']  # nothing that would fill the disk is left
    monkeypatch.undo()
    artifact.write_export(target, contents, manifest)
    assert {path.name for path in target.iterdir()} == set(before)  # a threshold among them
    artifact.write_export(target, {**contents, 'MODEL_CARD.md': b'new'}, manifest)
    assert (target / 'MODEL_CARD.md').read_bytes() == b'new'
    artifact.write_export(tmp_path / 'new', contents, manifest)
    assert pvlad_jax.load(tmp_path / 'new').size == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ['export', 'new']


def test_where_an_export_cannot_go_and_what_cannot_be_exported(folder, workdir, tmp_path, capfd):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.tex').write_text('')
    shutil.copytree(folder, tmp_path / 'work')
    (tmp_path / 'work' / 'config.json').write_text('{}')  # a working directory, whatever was put beside
    for name in ('full', 'work'):
        with pytest.raises(UserError, match='is no export'):
            artifact.write_export(tmp_path / name, {name: b'' for name in artifact.HASHED}, {})
    config = saved_run.get_config(str(workdir))
    assert main.run(config, tmp_path / 'none', 'export') == 2
    assert 'no working directory' in capfd.readouterr().err
    config.dataset.split = 'all'
    assert main.run(config, tmp_path / 'none', 'export') == 2
    assert 'Export one of them' in capfd.readouterr().err
    given = main.with_saved_config(['main.py', '--mode=export', f'--workdir={workdir}'])
    assert len(given) == 4 and given[1].endswith(f'configs/run.py:{workdir}')
