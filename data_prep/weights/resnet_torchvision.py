"""ResNet-50 and ResNet-50-IBN-a in the naming that torchvision, torchreid and IBN-Net share -> our names."""

import re

import numpy as np

from data_prep.weights.torch_state import NORM, kernel_from_torch
from pvlad_jax.models.backbones.resnet import LAYERS

_STEM = re.compile(r'(conv|bn)1\.(\w+)')
_BLOCK = re.compile(r'(layer[1-4])\.(\d)\.(?:(conv|bn)([123])|(downsample)\.([01]))(?:\.(IN|BN))?\.(\w+)')
_HALVES = {'IN': 'norm/instance', 'BN': 'norm/batch', None: 'norm'}


def backbone_of(state: dict[str, np.ndarray]) -> str | None:
    """The registry's name by the blocks of each stage; None for another network."""
    counts = dict.fromkeys(LAYERS, 0)
    for name in state:
        if (match := _BLOCK.fullmatch(name)) and match[3] == 'conv' and match[4] == '3':
            counts[match[1]] = max(counts[match[1]], int(match[2]) + 1)
    if counts != LAYERS:
        return None
    return 'resnet50_ibn_a' if 'layer1.0.bn1.IN.weight' in state else 'resnet50'


def place(name: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
    """'layer2.0.bn1.BN.weight' -> 'params/layer2/block0/conv1/norm/batch/scale' and its array; None for a name without
    a place."""
    if match := _STEM.fullmatch(name):
        ours, is_conv, half, leaf = 'stem', match[1] == 'conv', None, match[2]
    elif match := _BLOCK.fullmatch(name):
        layer, block, kind, number, shortcut, index, half, leaf = match.groups()
        ours = f'{layer}/block{block}/' + ('downsample' if shortcut else f'conv{number}')
        is_conv = kind == 'conv' or index == '0'
    else:
        return None
    if is_conv:
        kernel = leaf == 'weight' and array.ndim == 4
        return (f'params/{ours}/conv/kernel', kernel_from_torch(array)) if kernel else None
    return (NORM[leaf].format(f'{ours}/{_HALVES[half]}'), array) if leaf in NORM else None
