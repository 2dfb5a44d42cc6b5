"""configs/mars.py, ilids_vid.py, prid2011.py: one recipe, which is that of mars_panels.py, and arguments that leave
nothing wrong in silence.
"""

import dataclasses
import importlib

import pytest

from pvlad_jax.config import freeze
from pvlad_jax.models.backbones import build_backbone

NAMES = ('mars', 'ilids_vid', 'prid2011')


def config(name: str, arguments: str = ''):
    return freeze(importlib.import_module(f'configs.{name}').get_config(arguments))


# What a configuration of real people may choose for itself.
DATA = ('dataset', 'clips', 'batch.tracklets')
LENGTH = (
    'training.steps',
    'training.frozen_backbone_steps',
    'optimizer.warmup_steps',
    'training.log_every',
    'training.eval_every',
    'training.checkpoint_every',
    'evaluation.checkpoint',
    'vlad_init',
)
DEVICE = ('input', 'model.dtype', 'evaluation.clips_per_step')
BACKBONE = ('model.backbone.name', 'model.backbone.temporal', 'model.backbone.weights')  # its size, and time


@pytest.mark.parametrize('name', NAMES)
def test_the_recipe_is_that_of_mars_panels(name):
    ours, measured = fields(config(name)), fields(config('mars_panels'))
    differ = {path for path in measured if ours[path] != measured[path]}
    assert not [path for path in differ if not path.startswith((*DATA, *LENGTH, *DEVICE, *BACKBONE))]
    assert (ours['clips.height'], ours['clips.width']) == (measured['clips.height'], measured['clips.width'])


@pytest.mark.parametrize('name', (*NAMES, 'mars_panels'))
def test_the_backbone_is_frozen_for_a_tenth_of_any_length(name):
    for c in (config(name), config(name, 'steps=70')):
        tenth = c.training.steps // 10
        assert c.training.frozen_backbone_steps == c.optimizer.warmup_steps == tenth > 0


@pytest.mark.parametrize('name', NAMES)
def test_the_defaults_are_the_methods(name):
    c = config(name)
    assert (c.dataset.name, c.dataset.halves) == (name, 'wang2014')
    m = c.model
    assert (m.backbone.name, m.backbone.temporal, m.pooling) == ('osnet_x1_0', '3d', 'person_vlad')
    assert m.backbone.weights == 'weights/osnet_x1_0_msmt17.safetensors'
    assert (c.evaluation.frames, c.evaluation.flip, c.evaluation.protocol) == ('all', True, '')


def fields(config, path: str = '') -> dict:
    """The fields of a configuration by their path."""
    if not dataclasses.is_dataclass(config):
        return {path: config}
    return {
        name: value
        for field in dataclasses.fields(config)
        for name, value in fields(getattr(config, field.name), f'{path}.{field.name}'.lstrip('.')).items()
    }


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
        ('pooling=average', 'osnet_x1_0_msmt17'),
        ('pooling=stripes,parts=6,last_stride=1', 'osnet_x1_0_msmt17'),
        ('temporal=2d', 'osnet_x1_0_msmt17'),
        ('backbone=osnet_x0_25,position=true,dtype=float32,steps=10', 'osnet_x0_25_msmt17'),
        ('backbone=resnet50', 'resnet50_imagenet'),
        ('backbone=resnet50_ibn_a,temporal=2d', 'resnet50_ibn_a_imagenet'),
        ('backbone=i3d', 'i3d_kinetics'),
        ('backbone=i3d_mixed_4f', 'i3d_kinetics'),
        ('backbone=i3d,temporal=2d', ''),
        ('backbone=c3d', ''),
        ('backbone=r3d_18', ''),
        ('weights=', ''),
    ],
)
def test_weights_go_where_they_fit_and_nowhere_else(name, arguments, weights):
    c = config(name, arguments)
    assert c.model.backbone.weights == (f'weights/{weights}.safetensors' if weights else '')
    if weights:
        assert c.training.frozen_backbone_steps > 0 and c.optimizer.backbone_factor < 1
    else:  # a frozen random backbone would be silently wrong
        assert (c.training.frozen_backbone_steps, c.optimizer.backbone_factor) == (0, 1.0)


def test_weights_that_are_given_stay():
    c = config('mars', 'backbone=r3d_18,weights=weights/r3d_18.safetensors')
    assert c.model.backbone.weights == 'weights/r3d_18.safetensors' and c.training.frozen_backbone_steps > 0


def test_the_2d_control_differs_in_time_only():
    flat, deep = fields(config('mars', 'temporal=2d')), fields(config('mars'))
    assert {path for path in flat if flat[path] != deep[path]} == {'model.backbone.temporal'}


@pytest.mark.parametrize('name', NAMES[1:])
def test_splits_by_argument(name):
    assert config(name, 'split=all').dataset.split == 'all' and config(name, 'split=7').dataset.split == '7'


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        *((name, '') for name in NAMES),
        ('mars', 'backbone=i3d'),  # whose stride in time is that of a whole clip
        ('mars', 'backbone=resnet50'),
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
