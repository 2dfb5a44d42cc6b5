"""R3D and R(2+1)D checkpoints in torchvision's naming, such as r3d_18 and r2plus1d_18 trained on Kinetics-400."""

import re

import numpy as np

from data_prep.weights.imported_weights import ImportedWeights
from data_prep.weights.torch_state import NORM, kernel_from_torch, read_state_dict
from pvlad_jax.core.errors import UserError

DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}


def read(file: str | None) -> ImportedWeights:
    """Weights from a local .pth file, the network found out from its names."""
    state, sha256 = read_state_dict(file)
    name = backbone_of(state, str(file))
    return ImportedWeights(
        tensors=to_our_names(state, str(file)),
        backbones=(name,),
        origin=f'{name}, PyTorch checkpoint in the naming of torchvision (Tran 2018)',
        licence='BSD-3-Clause (torchvision), if the file is one of its own; otherwise that of whoever trained it',
        source_sha256=sha256,
        pixel_mean=(0.43216, 0.394666, 0.37645),
        pixel_std=(0.22803, 0.22145, 0.216989),
    )


def backbone_of(state: dict[str, np.ndarray], what: str) -> str:
    """The registry's name of the network that a state dict belongs to, or UserError."""
    counts = [0, 0, 0, 0]
    for name in state:
        match = re.match(r'layer([1-4])\.(\d+)\.', name)
        if match:
            counts[int(match[1]) - 1] = max(counts[int(match[1]) - 1], int(match[2]) + 1)
    if tuple(counts) not in DEPTHS or 'stem.0.weight' not in state or 'layer1.0.conv3.0.weight' in state:
        raise UserError(
            f"{what} is not an R3D or R(2+1)D of 18 or 34 layers in torchvision's naming: blocks a stage {counts}, "
            f'first names {", ".join(list(state)[:5])}.'
        )
    return f'{"r2plus1d" if "stem.3.weight" in state else "r3d"}_{DEPTHS[tuple(counts)]}'


def to_our_names(state: dict[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Names and layouts of our R3D; `fc` becomes the classifier. Raises UserError listing names without a place."""
    tensors, unknown = {}, []
    for name, array in state.items():
        if name.endswith('num_batches_tracked'):
            continue
        if name == 'fc.weight':
            tensors['classifier/kernel'] = np.ascontiguousarray(array.T)
        elif name == 'fc.bias':
            tensors['classifier/bias'] = array
        else:
            module, _, leaf = name.rpartition('.')
            place = _place(module, state)
            if place is None or leaf not in NORM:
                unknown.append(name)
            elif leaf == 'weight' and array.ndim == 5:
                tensors[f'params/{place}/conv/kernel'] = kernel_from_torch(array)
            else:
                tensors[NORM[leaf].format(f'{place}/norm')] = array
    if unknown:
        raise UserError(f'{what}: no place for {len(unknown)} names, such as {", ".join(unknown[:8])}.')
    return tensors


def _place(module: str, state: dict[str, np.ndarray]) -> str | None:
    """Our unit for a convolution or norm of torchvision's: 'layer2.0.conv1.0.3' of R(2+1)D ->
    'stage2/block0/conv1/time'."""
    if match := re.fullmatch(r'stem\.([0134])', module):
        # Convolution 0, norm 1; where the stem is factored, convolution 3 and norm 4 follow.
        factored = 'stem.3.weight' in state
        return 'stem' + ({'0': '/spatial', '1': '/spatial', '3': '/time', '4': '/time'}[match[1]] if factored else '')
    if match := re.fullmatch(r'layer([1-4])\.(\d+)\.downsample\.[01]', module):
        return f'stage{match[1]}/block{match[2]}/shortcut'
    if match := re.fullmatch(r'(layer([1-4])\.(\d+)\.(conv[123]))\.(0|1|0\.[013])', module):
        conv, stage, block, unit, inner = match.groups()
        # A factored convolution is a sequence of its own (0.0 spatial, 0.1 its norm, 0.3 temporal); the last norm
        # is outside it.
        factored = f'{conv}.0.3.weight' in state
        half = {'0.0': '/spatial', '0.1': '/spatial', '0.3': '/time', '1': '/time'}.get(inner) if factored else ''
        return None if half is None else f'stage{stage}/block{block}/{unit}{half}'
    return None
