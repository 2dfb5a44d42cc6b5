"""Inflated image networks small enough for tests, and their entry in the registry."""

from functools import partial

import jax
import numpy as np

from data_prep.import_weights import write_weights
from data_prep.weights import ImportedWeights
from pvlad_jax.models.backbones import BACKBONES, i3d, osnet, resnet
from pvlad_jax.models.backbones.spec import BackboneSpec
from pvlad_jax.training.initialisation.pretrained import HEAD
from tests.helpers.small_backbones import draw, shapes

OSNET_CHANNELS = (4, 64, 64, 128)  # a gate needs 16 channels within a block
HEAD_FEATURES = 6
PIXELS = {'pixel_mean': (0.485, 0.456, 0.406), 'pixel_std': (0.229, 0.224, 0.225)}


def fewer_layers(monkeypatch) -> None:
    """OSNet with streams of 1 and 2 light convolutions, ResNet with one block a stage, I3D with two at most."""
    stages = tuple(stage[:: max(len(stage) - 1, 1)] for stage in i3d.STAGES)  # the first layer and the last
    monkeypatch.setattr(i3d, 'STAGES', stages)
    monkeypatch.setattr(osnet, 'STREAMS', 'ab')
    monkeypatch.setattr(resnet, 'LAYERS', dict.fromkeys(resnet.LAYERS, 1))


def register(monkeypatch) -> None:
    """'small_osnet' and 'small_resnet' (with IBN-a), each with every block inflated by default but the first."""
    fewer_layers(monkeypatch)
    resnet_blocks = tuple(f'{layer}.0' for layer in resnet.LAYERS)
    builds = {
        'small_osnet': (partial(osnet.OSNet, OSNET_CHANNELS), 128, 16, osnet.STAGES, osnet.BLOCKS),
        'small_resnet': (partial(resnet.ResNet50, width=4, ibn=True), 128, 32, resnet.STAGES, resnet_blocks),
    }
    for name, (build, channels, stride, stages, blocks) in builds.items():
        inflated = {'blocks': blocks, 'temporal_blocks': blocks[1:], 'head_features': HEAD_FEATURES}
        monkeypatch.setitem(BACKBONES, name, BackboneSpec(build, channels, 1, stride, stages, **PIXELS, **inflated))


def weights_2d(name: str, with_head: bool = True) -> ImportedWeights:
    """Weights drawn for the 2D network, as an importer gives them."""
    spec = BACKBONES[name]
    variables = draw(shapes(spec.build(temporal='2d'), (1, 32, 32))[1])
    tensors = {
        '/'.join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables))
    }
    if with_head:
        rng = np.random.default_rng(1)
        of = {'kernel': (spec.channels, HEAD_FEATURES)}
        tensors |= {
            f'head/{part}': rng.uniform(0.1, 1, of.get(part, (HEAD_FEATURES,))).astype(np.float32) for part in HEAD
        }
    return ImportedWeights(tensors, (name,), 'drawn', 'none', '0' * 64, **PIXELS)


def write_2d(name: str, folder, **options):
    return write_weights(weights_2d(name, **options), folder / f'{name}.safetensors')
