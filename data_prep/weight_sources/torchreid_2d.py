"""Image re-identification networks in torchreid's naming: OSNet and ResNet-50, as its model zoo has them."""

import re

import numpy as np

from data_prep.weight_sources import ImportedWeights
from data_prep.weight_sources.torch_state import kernel_from_torch, read_state_dict
from pvlad_jax.errors import UserError
from pvlad_jax.models.backbones import osnet
from pvlad_jax.models.backbones.inflation import IMAGENET_PIXELS

NORM = {'weight': 'params/{}/scale', 'bias': 'params/{}/bias'}
NORM |= {'running_mean': 'batch_stats/{}/mean', 'running_var': 'batch_stats/{}/var'}
HEAD = {'0.weight': 'kernel', '0.bias': 'bias', '1.weight': 'scale', '1.bias': 'shift', '1.running_mean': 'mean', '1.running_var': 'var'}
LICENCE = 'MIT (torchreid); the weights, trained on data sets for research, for research use'


def read(file: str | None, backbone: str | None = None) -> ImportedWeights:
    """Weights from a local .pth or .safetensors file; the network is found out from its names and shapes.

    backbone: what it is expected to be. Raises UserError where it is something else.
    """
    state, sha256 = read_state_dict(file)
    name = backbone_of(state, str(file))
    if backbone is not None and backbone != name:
        raise UserError(f'{file} holds weights of {name}, not of --backbone={backbone}.')
    return ImportedWeights(
        tensors=to_our_names(state, str(file)),
        backbones=(name,),
        origin=f'{name}, state dict in the naming of torchreid (Zhou 2019)',
        licence=LICENCE,
        source_sha256=sha256,
        **IMAGENET_PIXELS,
    )


def backbone_of(state: dict[str, np.ndarray], what: str) -> str:
    """The registry's name of the network that a state dict belongs to, or UserError."""
    widths = tuple(
        array.shape[0] for key in ('conv1.conv.weight', *(f'conv{n}.0.conv3.conv.weight' for n in (2, 3, 4)))
        if (array := state.get(key)) is not None
    )  # fmt: skip
    for name, channels in osnet.CHANNELS.items():
        if widths == channels:
            return name
    raise UserError(
        f"{what} is none of {', '.join(osnet.CHANNELS)} in torchreid's naming: first names {', '.join(list(state)[:5])}. "
        'OSNet-IBN and OSNet-AIN are other networks.'
    )


def to_our_names(state: dict[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Names and layouts of our OSNet, 2D kernels as [1, kh, kw, C, D].

    `fc` becomes `head/...`, `classifier` the classifier. Raises UserError listing names without a place.
    """
    tensors, unknown = {}, []
    for name, array in state.items():
        if name.endswith('num_batches_tracked'):
            continue
        if match := re.fullmatch(r'classifier\.(weight|bias)', name):
            tensors['classifier/' + ('kernel' if match[1] == 'weight' else 'bias')] = np.ascontiguousarray(array.T)
        elif name.startswith('fc.') and name[3:] in HEAD:
            tensors[f'head/{HEAD[name[3:]]}'] = np.ascontiguousarray(array.T)
        elif (found := _of_backbone(name, array)) is not None:
            tensors[found[0]] = found[1]
        else:
            unknown.append(name)
    if unknown:
        raise UserError(f'{what}: no place for {len(unknown)} names, such as {", ".join(unknown[:8])}.')
    return tensors


def _of_backbone(name: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
    """'conv2.0.conv2b.1.bn.weight' -> 'params/conv2/block0/conv2b_1/norm/scale'; None for a name without a place."""
    module, _, leaf = name.rpartition('.')
    parts = ['norm' if part == 'bn' else part for part in module.split('.')]
    if parts[1:2] == ['2']:  # conv2.2.0: the transition
        parts[1:3] = ['transition']
    elif len(parts) > 2:
        parts[1] = f'block{parts[1]}'
        if parts[2] == 'conv2a':
            parts[2] = 'conv2a_0'
        elif parts[2] in ('conv2b', 'conv2c', 'conv2d'):
            parts[2:4] = ['_'.join(parts[2:4])]
    place = '/'.join(parts)
    if parts[-1] == 'norm':
        return (NORM[leaf].format(place), array) if leaf in NORM else None
    if 'gate' in parts:  # 1x1 convolutions of a single place: matrices
        if leaf == 'weight':
            return f'params/{place}/kernel', np.ascontiguousarray(array.reshape(array.shape[:2]).T)
        return f'params/{place}/bias', array
    return (f'params/{place}/kernel', kernel_from_torch(array[:, :, None])) if leaf == 'weight' and array.ndim == 4 else None
