"""Mode `export`: the network of a working directory as one folder for other programs (docs/export.md)."""

import contextlib
import importlib.metadata
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.export import Exported

import pvlad_jax
from pvlad_jax.config import Config
from pvlad_jax.config.data_set_names import is_join
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.evaluation.mean_of_data_sets import read_data_sets
from pvlad_jax.evaluation.result import read_result
from pvlad_jax.export import artifact
from pvlad_jax.export.model_card import model_card
from pvlad_jax.export.program import exported_program, statistics_shapes
from pvlad_jax.runs.inherited_weights import source_of
from pvlad_jax.runs.run_data import saved_data
from pvlad_jax.runs.trained_model import TrainedModel, load_trained
from pvlad_jax.runs.workdir import Folder, fields_at_start
from pvlad_jax.training.initialisation.pretrained import read_metadata

EXPORT = 'export'  # the folder in a working directory
RESIZE = (
    'Frames of another size are resized before, by OpenCV: INTER_AREA along an axis that shrinks (both at once where '
    'both do), then INTER_LINEAR along one that grows.'
)
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy')


def export_model(config: Config, workdir: Folder, output: Folder | None, log: Callable[[str], None]) -> Path:
    """Writes the export and returns its folder. Nothing is compiled and no data set is read.

    Args:
      config: evaluation.checkpoint says which checkpoint, evaluation.flip whether mirror images are averaged.
      output: a folder on a disk; None = WORKDIR/export.

    Raises:
      UserError: no trained network in the working directory, or an output that cannot be written.
    """
    if config.dataset.split == 'all':
        raise UserError(
            f'{workdir} holds a run of every split. Export one of them, such as --workdir={workdir}/split_0.'
        )
    if output is None and is_remote(workdir):
        raise UserError(f'{workdir} is in object storage: say with --output=DIR where on a disk the export goes.')
    folder = user_path(str(output or workdir / EXPORT))
    model = load_trained(workdir, config.evaluation.checkpoint)
    flip, weights = config.evaluation.flip, model.embedding_weights()
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()}
    log(f'Exporting {model.checkpoint}: tracing the network for {jax.__version__} of JAX.')
    program = exported_program(model.network, shapes, model.clip, flip)
    manifest = {
        **_description(model, flip, shapes),
        **_provenance(config, model, workdir),
        'platforms': list(program.platforms),
        'versions': {
            'pvlad_jax': pvlad_jax.__version__,
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            'jax_export_calling_convention': program.calling_convention_version,
        },
    }
    loader = resources.files('pvlad_jax.export').joinpath(artifact.LOADER).read_bytes()
    contents = {
        artifact.PROGRAM: bytes(_serialised(program)),
        artifact.WEIGHTS: artifact.weights_bytes(weights, manifest['fingerprint']),
        artifact.LOADER: loader,
        artifact.CARD: model_card(manifest).encode(),
    }
    artifact.write_export(folder, contents, manifest)
    for name in (artifact.PROGRAM, artifact.WEIGHTS):
        log(f'{folder / name}: {len(contents[name]):,} bytes')
    log(f'{folder}: fingerprint {manifest["fingerprint"]}. Read {artifact.CARD} before it is used on people.')
    return folder


def _serialised(program: Exported) -> bytearray:
    try:
        return program.serialize()
    except ModuleNotFoundError as error:  # which JAX does not declare
        raise UserError(
            f'--mode=export needs {error.name}, which is not installed: pip install -r requirements.txt'
        ) from error


def _description(model: TrainedModel, flip: bool, weights: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """What the function is."""
    network, (t, height, width) = model.network, model.clip
    state = statistics_shapes(network, weights, model.clip, flip)
    assert all(value.dtype == np.float32 for value in state.values())
    return {
        'format': artifact.FORMAT,
        'schema': artifact.SCHEMA,
        'fingerprint': model.fingerprint(flip),
        'flip': flip,
        'embedding': {'size': network.embedding, 'norm': 1, 'distance': 'cosine'},
        'input': {
            'clip': [t, height, width],
            'frames': f'uint8 RGB [B, S, {t}, {height}, {width}, 3]: B tracklets, S clips of each, consecutive frames',
            'valid': f'bool [B, S, {t}]: false where a clip is padded',
            'resize': RESIZE,
        },
        'normalisation': {
            'formula': '(pixel / 255 - mean) / std, inside model.jax',
            'mean': list(network.pixel_mean),
            'std': list(network.pixel_std),
        },
        'statistics': {
            'merge': network.aggregator.merge,
            'shapes': {name: list(value.shape) for name, value in state.items()},
        },
        'architecture': model.architecture,
    }


def _provenance(config: Config, model: TrainedModel, workdir: Folder) -> dict[str, Any]:
    """Where it comes from, as far as the working directory tells."""
    data, began = {}, fields_at_start(workdir)
    with contextlib.suppress(UserError):  # damaged: a card can do without
        data = saved_data(workdir)
    results, joined = _results(workdir, model.step), is_join(config.dataset.name)
    weights = began['model.backbone.weights']
    before = [one['data_set'] for one in data.get('trained_on', []) if one['inherited']]
    return {
        'training': {
            'dataset': config.dataset.name,
            'split': '' if joined else config.dataset.split,  # in the name
            'rendered': bool(config.dataset.build_options) and not joined,  # joined data sets were built apart
            'began_with': {'run': _run_name(began['init_from']), 'data_sets': before} if began['init_from'] else None,
            'people': data.get('people'),
            'counts': _counts(data.get('fingerprint') or {}),
            'step': model.step,
            'checkpoint': config.evaluation.checkpoint,
            'evaluated_otherwise': bool(results) and config.evaluation.flip != model.config.evaluation.flip,
        },
        'evaluation': None if joined else next(iter(results), None),
        **({'evaluations': results} if joined else {}),  # of each data set
        'imported_weights': {'file': Path(weights).name, **read_metadata(weights)} if weights else None,
    }


def _results(workdir: Folder, step: int | None) -> list[dict[str, Any]]:
    """Of this step: one, of joined data sets one each, or none."""
    for path in (workdir / 'eval' / f'{name}.json' for name in (f'step_{step}', 'latest')):
        one = read_result(path)
        results = [one] if one else list(read_data_sets(path).values())
        if results and all(result['step'] == step for result in results):
            return results
    return []


def _counts(fingerprint: dict[str, Any]) -> list[int] | None:
    """Tracklets, people and frames to train on, as data.json has them: of joined data sets all together; None where
    they are not in it.
    """
    each = [one.get('splits', {}).get('train') for one in fingerprint.get('data_sets', {'': fingerprint}).values()]
    return [sum(numbers) for numbers in zip(*each)] if all(each) else None


def _run_name(init_from: str) -> str:
    """'runs/mars' of '/home/me/runs/mars@900': paths of one machine are nobody else's."""
    return '/'.join(Path(source_of(init_from)[0]).parts[-2:])
