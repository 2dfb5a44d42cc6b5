"""A trained network as an ONNX file, compared with the network before it is there (docs/export.md)."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.export.to_onnx.check import Difference, RuntimeFailure, compare
from pvlad_jax.export.to_onnx.graph import NotInOnnx
from pvlad_jax.export.to_onnx.program import onnx_model
from pvlad_jax.models.tracklet_network import build_network
from pvlad_jax.runs.export import RESIZE
from pvlad_jax.runs.trained_model import TrainedModel

# Of numbers of unit vectors and, as a share of the largest, of statistics. Rounding gave 2e-7 in a trained network, and
# 9e-6 in one of random norms, which magnify it.
TOLERANCE = 5e-5


def write_onnx(model: TrainedModel, path: Path, log: Callable[[str], None]) -> Difference:
    """Writes the file beside `path`, compares it with the network, and renames it.

    Args:
      model: evaluation.flip of its configuration says whether mirror images are averaged. A network that computes in
        another type than float32 is written in float32.

    Returns: what the comparison found.

    Raises:
      UserError: the network has an operation without a rule, ONNX Runtime refuses the file or computes something else,
        or the file cannot be written. What was at `path` before then stays.
    """
    import onnx  # these two are an extra
    import onnxruntime

    model = _in_float32(model, log)
    flip, weights, fields = model.config.evaluation.flip, model.embedding_weights(), model.config.model
    what = f'The network (pooling {fields.pooling!r} on backbone {fields.backbone.name!r})'
    log(f'Writing {model.checkpoint} as ONNX.')
    try:
        written = onnx_model(model.network, flip, weights, model.clip, _properties(model, flip))
    except NotInOnnx as error:
        raise UserError(f'{what} cannot be written as ONNX: there is no rule for {error}.') from error
    with atomic_write(path) as partial:
        partial.write_bytes(written.SerializeToString())
        log('Comparing it in ONNX Runtime with the network in JAX, which is compiled for that.')
        try:
            difference = compare(partial, model.network, flip, weights, model.clip)
        except RuntimeFailure as error:
            version = onnxruntime.__version__
            raise UserError(f'{what} was written, but ONNX Runtime {version} cannot run it: {error}') from error
        if not difference.within(TOLERANCE):
            raise UserError(
                f'{what} differs in ONNX Runtime from JAX: by {difference.embedding:.1e} in an embedding, '
                f'{difference.statistics:.1e} in the statistics, where {TOLERANCE:.0e} is allowed. No file was left.'
            )
        size = partial.stat().st_size
    log(
        f'{path}: {size:,} bytes, fingerprint {model.fingerprint(flip)}. Largest difference from JAX: '
        f'{difference.embedding:.1e} in an embedding (onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}).'
    )
    return difference


def _in_float32(model: TrainedModel, log: Callable[[str], None]) -> TrainedModel:
    """The weights are float32 anyway; ONNX Runtime has no convolutions in bfloat16 on a CPU."""
    if model.network.dtype == jnp.float32:
        return model
    log(
        f'Note: the network computes in {model.network.dtype}, the file in float32, which has another fingerprint: '
        'embed a gallery and its queries with one of the two.'
    )
    fields = dataclasses.replace(model.config.model, dtype='float32')
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, model=fields),
        network=build_network(fields, model.network.num_identities),
    )


def _properties(model: TrainedModel, flip: bool) -> Mapping[str, str]:
    """What a program needs that runs the file, and what tells it from others."""
    merge = model.network.aggregator.merge
    about = {
        'clip': list(model.clip),
        'merge': merge,
        'before_first_clip': 0.0 if merge == 'add' else '-inf',
        'flip': flip,
        'architecture': model.architecture,
        'step': model.step,
    }
    return {
        'fingerprint': model.fingerprint(flip),
        'resize': RESIZE,
        **{name: json.dumps(value) for name, value in about.items()},
    }
