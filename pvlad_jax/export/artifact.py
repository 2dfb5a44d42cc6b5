"""The folder of an exported network: what lies in it, written atomically and checked when it is read.

| file | content |
|---|---|
| model.jax | the program of `export.program`, serialised by jax.export |
| weights.safetensors | its arrays by name, float32, without the classifier's |
| model.json | what both are, with their sizes and hashes (`Manifest`) |
| load_model.py | a loader that needs JAX alone |
| MODEL_CARD.md | for people |

Nothing in it is a pickle, and nothing is executed when it is read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_folder
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.core.saved_files import NoFile, json_object, reading

FORMAT, SCHEMA = 'pvlad-jax model', 1
MANIFEST, PROGRAM, WEIGHTS = 'model.json', 'model.jax', 'weights.safetensors'
CARD, LOADER = 'MODEL_CARD.md', 'load_model.py'
HASHED = (PROGRAM, WEIGHTS)  # the others may be edited
_SECTIONS = ('embedding', 'input', 'normalisation', 'statistics', 'architecture', 'training', 'files')
Manifest = TypedDict(
    'Manifest', {'format': str, 'schema': int, 'fingerprint': str, 'flip': bool, **dict.fromkeys(_SECTIONS, dict)}
)
_AGAIN = 'Export it again (main.py --mode=export), or copy the folder again.'


def is_export(path: str | os.PathLike) -> bool:
    """Whether a folder holds an export, whole or not, and no working directory."""
    if is_remote(path):
        return False
    folder = user_path(Path(path))
    return not (folder / 'config.json').exists() and any((folder / name).exists() for name in (MANIFEST, PROGRAM))


def weights_bytes(weights: Mapping[str, np.ndarray], fingerprint: str) -> bytes:
    """The content of weights.safetensors. ValueError for arrays that are not float32."""
    other = sorted(name for name, value in weights.items() if value.dtype != np.float32)
    if other:
        raise ValueError(f'{other[0]} is {weights[other[0]].dtype}, not float32.')
    arrays = {name: np.ascontiguousarray(value) for name, value in sorted(weights.items())}
    return save(arrays, {'format': f'{FORMAT} {SCHEMA}', 'fingerprint': fingerprint})


def write_export(folder: Path, contents: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Writes beside `folder` and renames when all is there. An export of before is replaced, further files in it are
    kept.

    Args:
      contents: of all files but model.json, whose `files` are added here.

    Raises:
      UserError: the folder holds something else, is being written by another process, or cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and (is_export(folder) or not any(folder.iterdir()))):
        raise UserError(f'{folder} exists and is no export: it is left as it is. Give another --output.')
    files = {name: {'bytes': len(contents[name]), 'sha256': _digest(contents[name])} for name in HASHED}
    text = json.dumps({**manifest, 'files': files}, indent=1, allow_nan=False) + '\n'
    with atomic_folder(folder, keep=lambda name: True) as partial:  # such as a threshold.json
        for name, content in {**contents, MANIFEST: text.encode()}.items():
            (partial / name).write_bytes(content)


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(model.json, weights by name) of a whole export.

    Raises:
      UserError: a file is missing, cut or altered, or the folder comes from another program or a later version.
    """
    manifest = _manifest(folder)
    contents = {}
    for name in HASHED:
        try:
            with reading(folder / name, _AGAIN):
                contents[name] = (folder / name).read_bytes()
        except NoFile:
            raise UserError(f'{folder} is no whole export: it holds no {name}. {_AGAIN}') from None
        told = manifest['files'].get(name)
        if told != {'bytes': len(contents[name]), 'sha256': _digest(contents[name])}:
            size = told.get('bytes') if isinstance(told, dict) else None
            found = f'{len(contents[name]):,} bytes' if size != len(contents[name]) else 'its hash'
            raise UserError(
                f'{folder / name} is cut, altered or of another export: {found} does not agree with {MANIFEST}. '
                f'{_AGAIN}'
            )
    try:
        return manifest, load(contents[WEIGHTS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f'{folder / WEIGHTS} is no safetensors file ({error}). {_AGAIN}') from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        with reading(path, _AGAIN):
            manifest = json_object(path.read_bytes())
    except NoFile:
        raise UserError(f'{folder} is no whole export: it holds no {MANIFEST}. {_AGAIN}') from None
    if manifest.get('format') != FORMAT:
        raise UserError(
            f'{path} was not written by this program: its "format" is not "{FORMAT}". Give the folder of an export.'
        )
    if manifest.get('schema') != SCHEMA:
        raise UserError(
            f'{path} has schema {manifest.get("schema")!r}; this version of the program reads {SCHEMA}. Update it, or '
            'export the working directory again with this version.'
        )
    with reading(path, _AGAIN):
        msgspec.convert(manifest, Manifest)
    return manifest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
