"""OSNet in torchreid's naming -> our names."""

import re

import numpy as np

from data_prep.weights.torch_state import NORM, kernel_from_torch
from pvlad_jax.models.backbones import osnet

# (stage)(block, or 2 = transition)(unit)(leaf), for example conv2.0.conv2b.1.bn.weight.
_NAME = re.compile(r'(conv[1-5])(?:\.(\d))?\.(?:(.+)\.)?([^.]+)')


def backbone_of(state: dict[str, np.ndarray]) -> str | None:
    """The registry's name by the stages' widths; None for another network, OSNet-IBN and OSNet-AIN included."""
    keys = ('conv1.conv.weight', *(f'conv{n}.0.conv3.conv.weight' for n in (2, 3, 4)))
    widths = tuple(width for key in keys if key in state for width in state[key].shape[:1])
    plain = 'conv1.bn.running_mean' in state  # the others normalise instances there
    return next((name for name, channels in osnet.CHANNELS.items() if widths == channels and plain), None)


def place(name: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
    """'conv2.0.conv2b.1.bn.weight' -> 'params/conv2/block0/conv2b_1/norm/scale' and its array; None for a name without
    a place."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    stage, block, unit, leaf = match.groups()
    parts = [stage]
    if block == '2':
        parts += ['transition', *(unit or '').split('.')[1:]]  # conv2.2.0.conv
    elif block is not None:
        parts += [f'block{block}', *_unit(unit or '')]
    else:
        parts += (unit or '').split('.')
    if parts[-1] == 'bn':
        return (NORM[leaf].format('/'.join([*parts[:-1], 'norm'])), array) if leaf in NORM else None
    ours = '/'.join(parts)
    if 'gate' in parts:  # 1x1 convolutions of a single place: matrices
        if leaf == 'bias':
            return f'params/{ours}/bias', array
        if array.shape[2:] != (1, 1):
            return None
        return f'params/{ours}/kernel', np.ascontiguousarray(array.reshape(array.shape[:2]).T)
    return (f'params/{ours}/kernel', kernel_from_torch(array)) if leaf == 'weight' and array.ndim == 4 else None


def _unit(unit: str) -> list[str]:
    """Light convolutions: 'conv2a.conv1' -> conv2a_0, conv1; 'conv2b.1.conv1' -> conv2b_1, conv1."""
    first, *others = unit.split('.')
    if first == 'conv2a':
        return ['conv2a_0', *others]
    if first in ('conv2b', 'conv2c', 'conv2d') and others:
        return [f'{first}_{others[0]}', *others[1:]]
    return [first, *others]
