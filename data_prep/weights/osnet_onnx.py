"""OSNet from an ONNX export of torchreid's network -> a state dict in torchreid's naming.

Exporters multiply a convolution's kernel by the scale of the BatchNorm behind it, and keep the sum of their shifts as
the convolution's bias. Which scale and statistics there were is lost. For a network that is only applied this does not
matter; one that is trained further normalises by its batch. So BatchNorm is put back with the statistics that the
convolution's results have over training frames, and the scale and shift that undo them: the same function in
evaluation mode, and nearly the same with the statistics of a batch.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.paths import user_path
from pvlad_jax.models.backbones.inflation import IMAGENET_PIXELS

FRAMES = 256  # whose statistics are taken
_EPSILON = 1e-5  # of PyTorch's BatchNorm
_AT_ONCE = 16  # frames
# An operation of another network: OSNet-IBN and OSNet-AIN normalise instances.
_REFUSED = {'InstanceNormalization', 'LayerNormalization', 'GroupNormalization', 'QLinearConv', 'ConvInteger'}


def read_state(file: str | None, frames) -> tuple[dict[str, np.ndarray], str]:
    """float32 arrays by torchreid's names, and the SHA-256 of the file (and of those beside it that hold its tensors).

    Args:
      file: The .onnx file; its input is frames [N,3,H,W], RGB with ImageNet's mean and deviation.
      frames: (height, width) -> uint8 RGB [M,H,W,3], asked for where BatchNorms are folded.

    Raises UserError where packages are missing or the file is no export of OSNet.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  (runs the file further down; both are an extra)
        from onnx import numpy_helper
    except ImportError as error:
        raise UserError(
            'ONNX files need the packages of requirements-onnx.txt: pip install onnx onnxruntime.'
        ) from error
    if file is None:
        raise UserError('This source needs --file, an ONNX file on disk.')
    path = user_path(file)
    if not path.is_file():
        raise UserError(f'--file: there is no file {path}.')
    sha256 = hashlib.sha256(path.read_bytes())
    try:
        model = onnx.load(path, load_external_data=False)
        others = _other_files(model)
        onnx.load_external_data_for_model(model, str(path.parent))  # refuses files that do not lie beside it
        for other in others:
            sha256.update((path.parent / other).read_bytes())
        onnx.checker.check_model(model)
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except Exception as error:  # protobuf's own classes; a tensor in another file that is missing
        raise UserError(f'{path} is not a whole ONNX file: {first_line(error)}') from error
    if found := sorted({node.op_type for node in model.graph.node} & _REFUSED):
        raise UserError(f'{path} is not OSNet, or not in floating point: it has the operation {", ".join(found)}.')
    state, folded = _by_module(model.graph, values, path)
    if folded:
        state |= _unfolded(model, folded, frames, path)
    return state, sha256.hexdigest()


def _other_files(model) -> list[str]:
    """Those beside the .onnx file that hold some of its tensors, as PyTorch writes by default since 2.9."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == 'location'})


def _by_module(graph, values: dict, path: Path) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, np.ndarray]]]:
    """(state dict without the folded BatchNorms, those by the name of the convolution's result: their module, bias)"""
    state = {name: array for name, array in values.items() if re.fullmatch(r'(conv[1-5]|fc)[\w.]*\.\w+', name)}
    folded = {}
    for node in graph.node:
        if node.op_type != 'Conv':
            continue
        module = _module_of_kernel(node) or _module(node.name)
        if not module or not all(name in values for name in node.input[1:]):
            raise UserError(
                f'{path}: the convolution {node.name or node.output[0]!r} is not named by its module, or its numbers '
                'are not stored under a name, so they cannot be assigned. Those of '
                'torch.onnx.export(..., dynamo=False) of PyTorch 1.13 and newer are.'
            )
        gate = re.fullmatch(r'(.*\.gate\.fc[12])(_\d+)?', module)  # one gate, called for each stream
        module = gate.group(1) if gate else module
        state[f'{module}.weight'] = values[node.input[1]]
        if len(node.input) < 3:
            continue
        if gate:
            state[f'{module}.bias'] = values[node.input[2]]
        else:
            state.pop(node.input[2], None)
            folded[node.output[0]] = (f'{module.rpartition(".")[0]}.bn', values[node.input[2]])
    if 'fc.0.weight' in state and 'fc.1.weight' not in state:  # folded too; the head is only applied, never trained
        size = len(state['fc.0.weight'])
        state |= {f'fc.1.{name}': np.zeros(size) for name in ('bias', 'running_mean')}
        state |= {'fc.1.weight': np.full(size, np.sqrt(1 + _EPSILON)), 'fc.1.running_var': np.ones(size)}
    return {name: np.asarray(array, np.float32) for name, array in state.items()}, folded


def _module_of_kernel(node) -> str | None:
    """'conv2.0.conv1.conv' where the kernel has kept its name, as in exports with dynamo=True."""
    named = re.fullmatch(r'(conv[1-5][\w.]*)\.weight', node.input[1]) if len(node.input) > 1 else None
    return named and named.group(1)


def _module(node: str) -> str:
    """'/conv2/conv2.0/conv2b/conv2b.1/conv1/Conv' -> 'conv2.0.conv2b.1.conv1': a sequence's entry repeats its name."""
    *scopes, _ = node.strip('/').split('/')
    following = [*scopes[1:], '']
    return '.'.join(scope for scope, after in zip(scopes, following) if not after.startswith(f'{scope}.'))


def _unfolded(model, folded: dict, frames, path: Path) -> dict[str, np.ndarray]:
    """The tensors of the folded BatchNorms."""
    state = {}
    for (norm, bias), (mean, variance) in zip(folded.values(), _statistics(model, folded, frames, path)):
        state |= {
            f'{norm}.running_mean': mean - bias,
            f'{norm}.running_var': variance,
            f'{norm}.weight': np.sqrt(variance + _EPSILON),
            f'{norm}.bias': mean,
        }
    return {name: array.astype(np.float32) for name, array in state.items()}


def _statistics(model, outputs, frames, path: Path) -> list[Float[np.ndarray, '2 C']]:
    """Mean and variance of each channel of these tensors over all frames and places."""
    import onnx
    import onnxruntime

    given = model.graph.input[0]
    shape = [axis.dim_value for axis in given.type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[1] != 3:
        raise UserError(f'{path}: its input {given.name!r} is not frames of the shape [N,3,H,W].')
    pixels = frames(shape[2] or 256, shape[3] or 128)
    at_once = shape[0] or min(_AT_ONCE, len(pixels))
    if len(pixels) < at_once:
        raise UserError(
            f'{path}: it was exported for {at_once} frames at a time, and the training split gives {len(pixels)}. '
            'Export it for one, or name a larger data set.'
        )
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in outputs:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    try:
        session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=['CPUExecutionProvider'])
        sums, count = [0.0] * len(outputs), [0] * len(outputs)
        for start in range(0, len(pixels) - at_once + 1, at_once):
            batch = _normalised(pixels[start : start + at_once])
            for i, result in enumerate(session.run(list(outputs), {given.name: batch})):
                result = result.astype(np.float64)
                sums[i] += np.stack([result.sum((0, 2, 3)), np.square(result).sum((0, 2, 3))])
                count[i] += result.size // result.shape[1]
    except Exception as error:  # ONNX Runtime's own classes
        raise UserError(f'ONNX Runtime cannot run {path}: {first_line(error)}') from error
    moments = [total / number for total, number in zip(sums, count)]
    return [np.stack([mean, square - mean**2]) for mean, square in moments]


def _normalised(pixels: np.ndarray) -> Float[np.ndarray, 'N 3 H W']:
    mean, std = (np.float32(IMAGENET_PIXELS[name]) for name in ('pixel_mean', 'pixel_std'))
    return np.ascontiguousarray(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
