"""C3D trained on Sports-1M, as a PyTorch state dict converted from the authors' Caffe model."""

import re

import numpy as np

from data_prep.weights.imported_weights import ImportedWeights
from data_prep.weights.torch_state import kernel_from_torch, read_state_dict
from pvlad_jax.core.errors import UserError

LAYERS = ('conv1a', 'conv2a', 'conv3a', 'conv3b', 'conv4a', 'conv4b', 'conv5a', 'conv5b')
# Caffe's per-channel mean, RGB, of pixels 0..255 (the mean cube's average to about a grey value).
PIXEL_MEAN = (128.0, 117.0, 104.0)
PIXEL_STD = 0.225


def read(file: str | None, channels: str = 'bgr') -> ImportedWeights:
    """Weights from a local state dict; `channels` is the order that its first convolution sees ('bgr' as in Caffe, or
    'rgb')."""
    state, sha256 = read_state_dict(file)
    return ImportedWeights(
        tensors=to_our_names(state, str(file), channels),
        backbones=('c3d',),
        origin=f'C3D trained on Sports-1M (Tran 2015), PyTorch state dict with {channels.upper()} input',
        licence="that of the file's source (the authors' model: BSD)",
        source_sha256=sha256,
        pixel_mean=tuple(v / 255 for v in PIXEL_MEAN),
        pixel_std=(PIXEL_STD,) * 3,
    )


def to_our_names(state: dict[str, np.ndarray], what: str, channels: str) -> dict[str, np.ndarray]:
    """Our names, layout and pixels: the first convolution is turned to RGB and takes (v / 255 - mean) / std for v - 255
    mean.

    Fully connected layers are left out. Raises UserError for a state dict without exactly C3D's convolutions.
    """
    tensors, unknown = {}, []
    for name, array in state.items():
        match = re.fullmatch(r'conv(\d)([ab]?)(?:\.conv)?\.(weight|bias)', name)
        layer = match and f'conv{match[1]}{match[2] or "a"}'
        if layer in LAYERS and array.ndim == (5 if match[3] == 'weight' else 1):
            leaf, ours = ('kernel', kernel_from_torch(array)) if match[3] == 'weight' else ('bias', array)
            place = f'params/{layer}/conv/{leaf}'
            if place in tensors:
                raise UserError(
                    f'{what} holds the {match[3]} of {layer} twice, under two names; {name} is one of them.'
                )
            tensors[place] = ours
        elif not re.match(r'fc[678]', name):
            unknown.append(name)
    wanted = [f'params/{layer}/conv/{leaf}' for layer in LAYERS for leaf in ('kernel', 'bias')]
    missing = [name for name in wanted if name not in tensors]
    if unknown or missing:
        raise UserError(
            f'{what} is not a C3D state dict (conv1 or conv1a ... conv5b, fc6-fc8): no place for '
            f'{", ".join(unknown[:8]) or "none"}; missing {", ".join(missing[:8]) or "none"}.'
        )
    kernel = tensors['params/conv1a/conv/kernel']
    if kernel.shape[3] != 3:
        raise UserError(f'{what}: conv1 sees {kernel.shape[3]} channels, not 3 colours.')
    if channels == 'bgr':
        kernel = kernel[:, :, :, ::-1]
    tensors['params/conv1a/conv/kernel'] = np.ascontiguousarray(kernel * np.float32(255 * PIXEL_STD))
    return tensors
