"""Readers of published weights: a file for each kind, and a line in WEIGHT_SOURCES. Nothing in a source is executed."""

from functools import partial

from data_prep.weights import image_networks, kinetics_i3d, sports1m_c3d, torchvision_r3d
from data_prep.weights.imported_weights import ImportedWeights, WeightSource
from pvlad_jax.core.registry import Registry

__all__ = ['WEIGHT_SOURCES', 'ImportedWeights', 'WeightSource']

WEIGHT_SOURCES = Registry(
    '--source',
    {
        'i3d-kinetics': WeightSource(kinetics_i3d.read),
        'torchvision': WeightSource(torchvision_r3d.read),
        'c3d': WeightSource(sports1m_c3d.read, ('channels',)),
        'torchreid': WeightSource(partial(image_networks.read, 'torchreid'), ('backbone',)),
        'torchreid-onnx': WeightSource(image_networks.read_onnx, ('backbone', 'dataset', 'data_dir')),
        'torchvision-2d': WeightSource(partial(image_networks.read, 'torchvision-2d'), ('backbone',)),
    },
)
