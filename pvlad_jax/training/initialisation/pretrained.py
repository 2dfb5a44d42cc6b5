"""Reads backbone weights made by data_prep/import_weights.py.

The file is safetensors with float32 tensors `params/...` and `batch_stats/...` under the names of the Flax module, the
metadata that `METADATA` lists and, where the source has them, `classifier/kernel`, `classifier/bias` and `head/...`
(`HEAD`).
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.backbones.inflation import inflate

FORMAT = 'pvlad-jax backbone weights 1'
# format; backbones: names that the file fits, by commas; origin, licence: sentences; source_sha256: of the file that
# was imported; tensors_sha256: see `tensors_digest`; pixel_mean, pixel_std: three numbers by commas, of the input the
# weights expect.
METADATA = ('format', 'backbones', 'origin', 'licence', 'source_sha256', 'tensors_sha256', 'pixel_mean', 'pixel_std')
# The layer that some published networks have between their global average and the classifier: linear `kernel` [C, F]
# and `bias`, then BatchNorm with `scale`, `shift`, `mean` and `var` (epsilon 1e-5), ReLU.
HEAD = ('kernel', 'bias', 'scale', 'shift', 'mean', 'var')
MAX_NAMED = 12  # names in one message
MAKE_ONE = 'Make one with data_prep/import_weights.py (docs/weights.md says where weights are found).'


def tensors_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and little-endian float32 contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f'{name} {tensors[name].shape}\n'.encode())
        digest.update(np.ascontiguousarray(tensors[name], '<f4').data)
    return digest.hexdigest()


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, and the metadata.

    Raises UserError for a file that is missing, truncated, altered, or not made by the importer.
    """
    with _opened(path) as (file, metadata):
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (AttributeError, TypeError) as error:  # types that NumPy lacks: bfloat16, float8
            raise UserError(f'{path} does not hold float32 tensors ({error}). {MAKE_ONE}') from error
    if tensors_digest(tensors) != metadata['tensors_sha256']:
        raise UserError(f'{path} was altered or damaged: its tensors do not have the hash in its metadata. {MAKE_ONE}')
    return tensors, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """Origin, licence and hash of the source of a file of weights, of which no tensor is read; {} where it cannot be
    read.
    """
    try:
        with _opened(path) as (_, metadata):
            return {name: metadata[name] for name in ('origin', 'licence', 'source_sha256')}
    except UserError:
        return {}


def digest_in_metadata(path: str | Path) -> str:
    """The hash of the tensors of a file of weights as its metadata has it, of which no tensor is read; '' where it
    cannot be read.
    """
    try:
        with _opened(path) as (_, metadata):
            return metadata['tensors_sha256']
    except UserError:
        return ''


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """(the file, its metadata), of which no tensor has been read yet."""
    path = user_path(path)
    if not path.is_file():
        raise UserError(f'There is no weights file {path} (config.model.backbone.weights). {MAKE_ONE}')
    try:
        with safe_open(path, framework='numpy') as file:
            metadata = file.metadata() or {}
            missing = [key for key in METADATA if key not in metadata]
            if missing or metadata['format'] != FORMAT:
                raise UserError(
                    f'{path} was not made by this importer: its metadata lacks '
                    f'{", ".join(missing) or "the known format"}. {MAKE_ONE}'
                )
            yield file, metadata
    except PermissionError as error:
        raise UserError(f'config.model.backbone.weights: {path} cannot be read: {error.strerror}.') from error
    except (SafetensorError, OSError) as error:
        raise UserError(f'{path} is not a whole safetensors file ({error}). {MAKE_ONE}') from error


def check_backbone_weights(
    path: str | Path, backbone: str, params_template: Mapping[str, Any], batch_stats_template: Mapping[str, Any]
) -> None:
    """UserError where `load_backbone_weights` would raise one, as far as the file's header tells: names and shapes, not
    contents.
    """
    with _opened(path) as (file, metadata):
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    _matched(path, backbone, shapes, metadata, params_template, batch_stats_template)


def load_backbone_weights(
    path: str | Path,
    backbone: str,
    params_template: Mapping[str, Any],
    batch_stats_template: Mapping[str, Any],
    inflation: str = 'centre',
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and batch statistics of a backbone, as nested dicts of float32 NumPy arrays like the templates.

    Arguments:
      path: The weights file.
      backbone: A name of the registry.
      params_template, batch_stats_template: Trees of anything with a `shape`: what the module's `init` gives; {} for a
        backbone without BatchNorm.
      inflation: How kernels of an inflated 2D network become temporal ones, where the templates have them (`inflate`).
        Files hold such networks in 2D, so that one file serves any choice of temporal blocks and the 2D control.
    Stages beyond the backbone's cut are left out, where the file names that backbone as one it fits.
    Raises UserError, listing the names that differ, for weights of another network or with names missing, too many or
    of another shape (such as the 2D control's).
    """
    tensors, metadata = read_weights(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = _matched(path, backbone, shapes, metadata, params_template, batch_stats_template)
    found = {
        name: inflate(tensors[name], shape[0], inflation) if _is_2d(tensors[name].shape, shape) else tensors[name]
        for name, shape in wanted.items()
    }
    nested = unflatten_dict({name: tensor.astype(np.float32) for name, tensor in found.items()}, sep='/')
    return nested.get('params', {}), nested.get('batch_stats', {})


def _is_near(text: str, expected: tuple[float, ...]) -> bool:
    try:
        found = [float(v) for v in text.split(',')]
    except ValueError:
        return False
    return len(found) == len(expected) and np.allclose(found, expected, atol=1e-5)


def _matched(
    path: str | Path,
    backbone: str,
    shapes: Mapping[str, tuple[int, ...]],
    metadata: Mapping[str, str],
    params_template: Mapping[str, Any],
    batch_stats_template: Mapping[str, Any],
) -> dict[str, tuple[int, ...]]:
    """The names that the network takes from the file, and the shapes that it has them in.

    UserError where they do not fit each other.
    """
    spec = BACKBONES[backbone]
    fits = metadata['backbones'].split(',')
    if backbone not in fits:
        raise UserError(f'{path} holds weights of {" or ".join(fits)}, not of {backbone} (model.backbone.name).')
    for field, expected in (('pixel_mean', spec.pixel_mean), ('pixel_std', spec.pixel_std)):
        if not _is_near(metadata[field], expected):
            raise UserError(
                f'{path} expects pixels of {field} {metadata[field]}, but {backbone} is fed with {expected}.'
            )
    templates = {'params': dict(params_template), 'batch_stats': dict(batch_stats_template)}
    wanted = {
        name: tuple(leaf.shape) for name, leaf in flatten_dict(templates, sep='/').items() if hasattr(leaf, 'shape')
    }
    found = {
        name: shape
        for name, shape in shapes.items()
        if name.split('/')[0] in templates and (name in wanted or name.split('/')[1] in spec.layers)
    }
    if spec.blocks:
        found = {name: wanted[name] if _is_2d(shape, wanted.get(name)) else shape for name, shape in found.items()}
    differences = [
        *(f'{name} {wanted[name]} is missing' for name in sorted(wanted.keys() - found.keys())),
        *(f'{name} {found[name]} is not in the network' for name in sorted(found.keys() - wanted.keys())),
        *(
            f'{name} is {found[name]} in the file and {shape} in the network'
            for name, shape in sorted(wanted.items())
            if name in found and found[name] != shape
        ),
    ]
    if differences:
        hint = '' if spec.blocks else ' Weights fit the 3D network (temporal = 3d) they were made for.'
        more = f' and {len(differences) - MAX_NAMED} more' if len(differences) > MAX_NAMED else ''
        raise UserError(
            f'{path} does not fit backbone {backbone} ({len(differences)} of {len(wanted)} names differ): '
            f'{"; ".join(differences[:MAX_NAMED])}{more}.{hint}'
        )
    return wanted


def _is_2d(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> bool:
    """Whether it is the shape of the 2D kernel that a temporal kernel of shape `wanted` begins from."""
    return (
        wanted is not None and len(shape) == len(wanted) == 5 and shape[0] == 1 < wanted[0] and shape[1:] == wanted[1:]
    )


def load_classifier(path: str | Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Kernel [C, classes] and bias [classes] of the classifier that came with the weights, or None where there is
    none.
    """
    tensors, _ = read_weights(path)
    if 'classifier/kernel' not in tensors:
        return None
    return tensors['classifier/kernel'], tensors['classifier/bias']


def load_head(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of HEAD. Raises UserError for a file without them, or with those of another size."""
    tensors, metadata = read_weights(path)
    missing = [name for name in HEAD if f'head/{name}' not in tensors]
    if missing:
        raise UserError(
            f'{path} holds no head: the published network has no layer between its global average and its classifier, '
            'or the file was imported without it (model.pooling = pretrained_head needs one).'
        )
    backbone = metadata['backbones'].split(',')[0]
    features, wanted = tensors['head/kernel'].shape[-1], BACKBONES[backbone].head_features
    if features != wanted:
        raise UserError(
            f'{path} holds a head of {features} features, where that of the published {backbone} has {wanted}. Take '
            "model.pooling = 'average', which needs none."
        )
    return {name: tensors[f'head/{name}'] for name in HEAD}
