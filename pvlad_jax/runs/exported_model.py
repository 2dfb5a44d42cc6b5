"""A trained network out of the folder of an export, for this program: rebuilt from model.json and weights.safetensors,
so that it computes what its working directory does. The program in model.jax is for others."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.settings import with_present_names
from pvlad_jax.export.artifact import MANIFEST, read_export
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.runs.trained_model import CLASSIFIER, TrainedModel, checked
from pvlad_jax.runs.workdir import config_of


def load_exported(folder: Path) -> TrainedModel:
    """The network of an export, with an empty classifier; `config.evaluation.flip` as it was exported.

    Raises:
      UserError: the folder is damaged, of another program or version, or does not agree with itself.
    """
    manifest, weights = read_export(folder)
    path = folder / MANIFEST
    try:
        config = config_of(_fields(manifest))
        network = build_network(config.model, num_identities=1)
        shapes = jax.eval_shape(init_variables, network, _clip(manifest), jax.random.key(0))
        for name, shape in flatten_dict(shapes, sep='/').items():
            if name.startswith(CLASSIFIER):
                weights[name] = np.zeros(shape.shape, shape.dtype)
    except UserError as error:
        raise UserError(f'{path} does not fit this version of the program: {error}') from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f'{path} is damaged ({error}). Export it again (main.py --mode=export).') from error
    altered = UserError(
        f'{path} was altered, or made by another version of the program: the network that it describes and the weights '
        'do not have the fingerprint in it. Export the working directory again (main.py --mode=export).'
    )
    try:
        step = manifest['training'].get('step')
        model = checked(config, unflatten_dict(weights, sep='/'), f'the export {folder}', str(folder), step)
    except UserError as error:
        raise altered from error
    if model.fingerprint(config.evaluation.flip) != manifest['fingerprint']:
        raise altered
    return model


def _clip(manifest: dict[str, Any]) -> tuple[int, int, int]:
    frames, height, width = manifest['input']['clip']
    return frames, height, width


def _fields(manifest: dict[str, Any]) -> dict[str, Any]:
    """The configuration's fields that an embedding depends on.

    What is for training alone keeps its default, or is off.
    """
    clip = dict(zip(('clips.frames', 'clips.height', 'clips.width'), _clip(manifest)))
    off = {'augment.pad': 0, 'compile_cache': ''}  # the folder of an export is only read
    return {**with_present_names(Config, manifest['architecture']), **clip, **off, 'evaluation.flip': manifest['flip']}
