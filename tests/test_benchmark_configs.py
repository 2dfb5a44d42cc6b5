"""configs/mars.py, ilids_vid.py, prid2011.py: the method's numbers, and arguments that leave nothing wrong in
silence.
"""

import importlib

import pytest

from pvlad_jax.config import freeze
from pvlad_jax.models.backbones import build_backbone

NAMES = ('mars', 'ilids_vid', 'prid2011')


def config(name: str, arguments: str = ''):
    return freeze(importlib.import_module(f'configs.{name}').get_config(arguments))


@pytest.mark.parametrize('name', NAMES)
def test_the_defaults_are_the_methods(name):
    c = config(name)
    assert (c.dataset.name, c.dataset.halves) == (name, 'wang2014')
    m = c.model
    assert (m.backbone.name, m.backbone.temporal, m.backbone.last_stride) == ('i3d_mixed_4f', '3d', 1)
    assert (m.pooling, m.parts, m.clusters, m.descriptor_dim, m.embedding_dim, m.dtype) == (
        'person_vlad',
        8,
        16,
        64,
        512,
        'bfloat16',
    )
    assert (m.position_term, m.mask_kernel, m.shared_codebook, c.vlad_init.rule) == (False, 1, False, 'netvlad')
    assert (c.clips.height, c.clips.width) == (256, 128)
    assert (c.loss.identity, c.loss.label_smoothing, c.loss.triplet, c.loss.triplet_margin) == (1.0, 0.1, 1.0, 0.3)
    assert c.optimizer.name == 'adamw' and 0 < c.training.frozen_backbone_steps < c.training.steps
    assert (c.evaluation.frames, c.evaluation.flip, c.evaluation.protocol) == ('all', True, '')
    assert m.backbone.weights == 'weights/i3d_kinetics.safetensors'
    build_backbone(m.backbone.name, last_stride=1, clip=(c.clips.frames, c.clips.height, c.clips.width))


def test_mars_chooses_by_held_out_people():
    c = config('mars')
    assert (
        c.dataset.validation_share > 0
        and c.evaluation.checkpoint == 'best'
        and (c.batch.identities, c.batch.tracklets) == (16, 4)
    )


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    ('arguments', 'weights'),
    [
        ('pooling=average', True),
        ('parts=0', True),
        ('pooling=stripes,parts=6,last_stride=2', True),
        ('backbone=i3d', True),
        ('position=true,dtype=float32,steps=10', True),
        ('backbone=c3d', False),
        ('backbone=r3d_18', False),
        ('temporal=2d', False),
        ('backbone=i3d,temporal=2d', False),
        ('weights=', False),
    ],
)
def test_weights_go_where_they_fit_and_nowhere_else(name, arguments, weights):
    c, whole = config(name, arguments), config(name)
    assert bool(c.model.backbone.weights) == weights
    if weights:
        assert c.model.backbone == whole.model.backbone or 'backbone' in arguments or 'last_stride' in arguments
        assert (
            c.training.frozen_backbone_steps == whole.training.frozen_backbone_steps
            and c.model.backbone.batch_norm == 'frozen'
        )
    else:  # a frozen random backbone, or frozen statistics of nothing, would be silently wrong
        assert (c.training.frozen_backbone_steps, c.model.backbone.batch_norm, c.optimizer.backbone_factor) == (
            0,
            'sync',
            1.0,
        )


def test_weights_that_are_given_stay():
    c = config('mars', 'backbone=r3d_18,weights=weights/r3d_18.safetensors')
    assert c.model.backbone.weights == 'weights/r3d_18.safetensors' and c.training.frozen_backbone_steps > 0


def test_the_fair_partner_of_the_2d_control_differs_in_time_only():
    flat, deep = config('mars', 'temporal=2d').model, config('mars', 'weights=').model
    assert flat.backbone.temporal == '2d' and deep.backbone.temporal == '3d'
    assert {k: v for k, v in vars(flat).items() if k != 'backbone'} == {
        k: v for k, v in vars(deep).items() if k != 'backbone'
    }
    assert flat.backbone.batch_norm == deep.backbone.batch_norm == 'sync'


@pytest.mark.parametrize('name', NAMES[1:])
def test_splits_by_argument(name):
    assert config(name, 'split=all').dataset.split == 'all' and config(name, 'split=7').dataset.split == '7'


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('mars_panels', ''),
        ('mars_panels', 'pooling=average,position=false'),
        ('zero_shot', 'weights=osnet.safetensors'),
        ('tracklet_folder', ''),
        ('synthetic', ''),
        ('synthetic', 'twins'),
    ],
)
def test_the_other_configurations_hold_together(name, arguments):
    c = config(name, arguments)
    build_backbone(
        c.model.backbone.name,
        last_stride=c.model.backbone.last_stride,
        clip=(c.clips.frames, c.clips.height, c.clips.width),
    )
    assert c.training.frozen_backbone_steps < c.training.steps and c.optimizer.warmup_steps < c.training.steps


def test_image_weights_are_trained_slower_than_the_new_layers():
    c = config('mars_panels')
    assert c.model.backbone.weights and 0 < c.optimizer.backbone_factor < 1 and c.training.frozen_backbone_steps > 0
