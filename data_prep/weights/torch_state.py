"""Reads a PyTorch state dict, a .pth or a .safetensors file, without running anything in it."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.paths import user_path

# A norm's tensors by PyTorch's names; {} is the norm.
NORM = {
    'weight': 'params/{}/scale',
    'bias': 'params/{}/bias',
    'running_mean': 'batch_stats/{}/mean',
    'running_var': 'batch_stats/{}/var',
}
_COUNTER = 'num_batches_tracked'  # of a norm, a whole number that no reader takes


def read_state_dict(file: str | None) -> tuple[dict[str, np.ndarray], str]:
    """float32 arrays by PyTorch's names, and the file's SHA-256.

    A dict under 'state_dict' or 'model' is taken out; a leading 'module.' or 'backbone.' is cut off. Raises UserError.
    """
    if file is None:
        raise UserError('This source needs --file, a PyTorch state dict on disk.')
    path = user_path(file)
    if not path.is_file():
        raise UserError(f'--file: there is no file {path}.')
    state = _safetensors(path) if path.suffix == '.safetensors' else _pickled_tensors(path)
    arrays: dict[str, np.ndarray] = {}
    for full_name, value in state.items():
        name = full_name
        for prefix in ('module.', 'backbone.'):
            name = name.removeprefix(prefix)
        if name in arrays:
            raise UserError(
                f'{path} holds {name} twice, with and without a prefix: {full_name} is one of them. Save the network '
                'that is meant alone.'
            )
        if value.dtype.kind != 'f' and not name.endswith(_COUNTER):
            raise UserError(
                f'{path}: {full_name} is of type {value.dtype}, not floating point, as in a quantised network. Save it '
                'as float32.'
            )
        with np.errstate(over='ignore'):  # what becomes infinite is refused with the rest (number_checks.py)
            arrays[name] = np.asarray(value, np.float32)
    return arrays, hashlib.sha256(path.read_bytes()).hexdigest()


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last two: types that NumPy lacks
        raise UserError(f'{path} is not a whole safetensors file of float32 or float16 tensors ({error}).') from error


def _pickled_tensors(path: Path) -> dict[str, np.ndarray]:
    """Of a .pth file, read with weights_only."""
    try:
        import torch
    except ImportError as error:
        raise UserError(
            'PyTorch checkpoints need the package torch (a CPU build is enough): pip install torch.'
        ) from error
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are damaged or hold more than tensors
        raise UserError(f'{path} is not a PyTorch file of tensors alone: {first_line(error)}') from error
    for key in ('state_dict', 'model'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UserError(f'{path} is not a state dict: it should map names to tensors.')
    try:
        return {
            name: (value.detach().to(torch.float32) if value.is_floating_point() else value.detach()).numpy()
            for name, value in state.items()
        }
    except Exception as error:  # of tensors without numbers (meta) or of another layout (sparse, quantised)
        raise UserError(f'{path} holds tensors that are no plain arrays: {first_line(error)}') from error


def kernel_from_torch(weight: np.ndarray) -> np.ndarray:
    """[out, in, kt, kh, kw] -> [kt, kh, kw, in, out]; [out, in, kh, kw] -> [1, kh, kw, in, out]."""
    weight = weight[:, :, None] if weight.ndim == 4 else weight
    return np.ascontiguousarray(weight.transpose(2, 3, 4, 1, 0))
