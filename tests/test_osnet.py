"""OSNet inflated to 3D: the published features, and what it is in time."""

import os
from functools import partial

import jax
import numpy as np
import pytest

from data_prep.import_weights import read_source, templates, write_weights
from pvlad_jax.errors import UserError
from pvlad_jax.models.backbones import BACKBONES, build_backbone
from pvlad_jax.models.backbones.osnet import BLOCKS, OSNet, average_pool
from pvlad_jax.models.weights import load_backbone_weights, load_head
from tests.small_backbones import clips, compiled, draw, shapes

THIN = (4, 16, 16, 32)  # channels


def small(**options):
    module = OSNet(THIN, **options)
    return module, draw(shapes(module, (3, 32, 32))[1])


@pytest.fixture(scope='module')
def imported(shared, tmp_path_factory):
    """The MSMT17 weights, imported; their file, and what the original network gives for four pictures."""
    folder = shared / 'data' / 'weights'
    file = folder / 'osnet_x0_25_msmt17.safetensors'
    if not file.is_file():
        pytest.skip(f'needs {file.name} in the data folder')
    output = tmp_path_factory.mktemp('weights') / 'osnet.safetensors'
    with np.load(folder / 'osnet_x0_25_msmt17_golden.npz') as golden:
        return write_weights(read_source('torchreid', str(file), backbone='osnet_x0_25'), output), dict(golden)


def test_the_published_feature(imported):
    """Four pictures give the 512 numbers that the original network gives for them, in 3D as in 2D."""
    path, golden = imported
    spec, head = BACKBONES['osnet_x0_25'], load_head(path)
    pixels = (golden['frames'][None] / np.float32(255) - np.float32(spec.pixel_mean)) / np.float32(spec.pixel_std)
    for temporal in ('2d', '3d'):
        module = build_backbone('osnet_x0_25', temporal, last_stride=2)
        like = shapes(module, (4, 32, 32))[1]
        params, stats = load_backbone_weights(path, 'osnet_x0_25', like['params'], like['batch_stats'])
        valid = np.ones((1, 4), bool)
        features = compiled(lambda w, x, v, m=module: m.apply(w, x, v, False)[0], {'params': params, 'batch_stats': stats}, pixels, valid)
        x = np.asarray(features)[0].mean((1, 2)) @ head['kernel'] + head['bias']
        x = (x - head['mean']) / np.sqrt(head['var'] + 1e-5) * head['scale'] + head['shift']
        np.testing.assert_allclose(np.maximum(x, 0), golden['feature'], atol=1e-4)
