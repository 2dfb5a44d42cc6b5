"""Networks for single images, in 2D, for our inflated backbones: state dicts of torchreid's model zoo, of torchvision
and of IBN-Net, and ONNX exports of torchreid's OSNet."""

from collections.abc import Callable

import numpy as np

from data_prep.weights import osnet_onnx, osnet_torchreid, resnet_torchvision
from data_prep.weights.imported_weights import ImportedWeights
from data_prep.weights.torch_state import read_state_dict
from data_prep.weights.training_frames import training_frames
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones.inflation import IMAGENET_PIXELS

# By --source: the networks it may hold, and whose weights they are.
NETWORKS = {
    'torchreid': (osnet_torchreid, resnet_torchvision),
    'torchreid-onnx': (osnet_torchreid,),
    'torchvision-2d': (resnet_torchvision,),
}
HELD = {
    'torchreid': 'osnet_x0_25, osnet_x0_5, osnet_x0_75, osnet_x1_0, resnet50, resnet50_fc512 or resnet50_ibn_a',
    'torchreid-onnx': 'osnet_x0_25, osnet_x0_5, osnet_x0_75 or osnet_x1_0',
    'torchvision-2d': 'resnet50 or resnet50_ibn_a',
}
ORIGIN = {
    'torchreid': '{}, image re-identification network, state dict in the naming of torchreid',
    'torchreid-onnx': '{}, image re-identification network, ONNX export with the names of torchreid',
    'torchvision-2d': '{}, image classifier, state dict in the naming of torchvision',
}
_TORCHREID_LICENCE = (
    "MIT (torchreid's code); weights trained on Market-1501, DukeMTMC-reID, MSMT17 or ImageNet: for research, as those"
)
LICENCE = {
    'torchreid': _TORCHREID_LICENCE,
    'torchreid-onnx': _TORCHREID_LICENCE,
    'torchvision-2d': 'BSD-3-Clause (torchvision) or MIT (IBN-Net), if the file is one of theirs; '
    'trained on ImageNet: for research',
}
HEAD = {
    '0.weight': 'kernel',
    '0.bias': 'bias',
    '1.weight': 'scale',
    '1.bias': 'shift',
    '1.running_mean': 'mean',
    '1.running_var': 'var',
}


def read(source: str, file: str | None, backbone: str | None = None) -> ImportedWeights:
    """Weights from a local .pth or .safetensors file; the network is found out from its names and shapes.

    source: of NETWORKS. backbone: what the file is expected to hold. Raises UserError where it holds something else.
    """
    return _imported(source, file, backbone, *read_state_dict(file))


def read_onnx(
    file: str | None, backbone: str | None = None, dataset: str | None = None, data_dir: str | None = None
) -> ImportedWeights:
    """OSNet from a local .onnx file. dataset: the built data set whose training frames give the statistics of
    BatchNorms that the export has folded; data_dir: where it lies, None = data. Raises UserError.
    """
    if data_dir is not None and dataset is None:
        raise UserError('--data_dir tells where the data set of --dataset lies. Give --dataset too, or neither.')

    def frames(height: int, width: int) -> np.ndarray:
        if dataset is None:
            raise UserError(
                f'The BatchNorms of {file} are folded into its convolutions. To put them back, training frames are '
                'needed: --dataset=NAME --data_dir=..., a data set built by data_prep/build_tfds.py.'
            )
        return training_frames(data_dir or 'data', dataset, osnet_onnx.FRAMES, height, width)

    return _imported('torchreid-onnx', file, backbone, *osnet_onnx.read_state(file, frames))


def _imported(
    source: str, file: str | None, backbone: str | None, state: dict[str, np.ndarray], sha256: str
) -> ImportedWeights:
    for network in NETWORKS[source]:
        name = network.backbone_of(state)
        if name is not None:
            break
    else:
        raise UserError(
            f'{file} is no {HELD[source]} in the naming of {source}: its first names are {", ".join(list(state)[:5])}.'
        )
    if backbone not in (None, name):
        raise UserError(f'{file} holds weights of {name}, not of --backbone={backbone}.')
    return ImportedWeights(
        tensors=to_our_names(state, str(file), network.place),
        backbones=(name,),
        origin=ORIGIN[source].format(name),
        licence=LICENCE[source],
        source_sha256=sha256,
        **IMAGENET_PIXELS,
    )


def to_our_names(
    state: dict[str, np.ndarray], what: str, place: Callable[[str, np.ndarray], tuple[str, np.ndarray] | None]
) -> dict[str, np.ndarray]:
    """Names and layouts of our network, kernels as [1, kh, kw, C, D]; the layer before the classifier becomes
    `head/...`.

    `fc` is that layer where it is a sequence (torchreid) and the classifier where it is linear (torchvision); so is
    `classifier`. Raises UserError listing names without a place.
    """
    tensors, unknown = {}, []
    for name, array in state.items():
        module, _, leaf = name.rpartition('.')
        if leaf == 'num_batches_tracked':
            continue
        if module in ('classifier', 'fc') and leaf in ('weight', 'bias'):
            tensors['classifier/' + ('kernel' if leaf == 'weight' else 'bias')] = np.ascontiguousarray(array.T)
        elif name.startswith('fc.') and name[3:] in HEAD:
            tensors[f'head/{HEAD[name[3:]]}'] = np.ascontiguousarray(array.T)
        elif (found := place(name, array)) is not None:
            tensors[found[0]] = found[1]
        else:
            unknown.append(name)
    if unknown:
        raise UserError(f'{what}: no place for {len(unknown)} names, such as {", ".join(unknown[:8])}.')
    return tensors
