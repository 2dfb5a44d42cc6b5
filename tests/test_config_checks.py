"""Combinations of fields that cannot work, or that would silently do nothing, are refused before anything is built."""

import pytest

from configs import mars, mars_panels, synthetic
from configs.default import get_config
from pvlad_jax.config import Config, differences, flatten, freeze
from pvlad_jax.config.remarks import remarks, without_effect
from pvlad_jax.core.errors import UserError
from pvlad_jax.launch.flags import given_fields
from pvlad_jax.models.backbones import build_backbone
from tests.helpers.micro import PROJECT_BACKBONES


def config(**fields):
    c = get_config()
    for path, value in fields.items():
        *parents, leaf = path.split('.')
        node = c
        for part in parents:
            node = node[part]
        node[leaf] = value
    return freeze(c)


REFUSED = [
    # A part of a batch with one person has no negatives: the losses would be exactly 0.
    ({'batch.identities': 16, 'optimizer.accumulate': 16}, r'accumulate = 16 .* leaves one person .* to 8 or lower'),
    (
        {'batch.identities': 16, 'optimizer.accumulate': 16, 'loss.triplet': 0.0, 'loss.circle': 1.0},
        'loss.circle compares people',
    ),
    ({'batch.identities': 16, 'optimizer.accumulate': 3}, 'must divide config.batch.identities'),
    ({'batch.tracklets': 1}, 'triplet compares tracklets of one person'),
    ({'batch.identities': 1}, 'triplet compares people'),
    ({'batch.identities': 8, 'batch.group_size': 3}, 'group_size = 3 must divide'),
    ({'batch.group_size': 2, 'optimizer.accumulate': 2}, 'takes them apart again'),
    ({'model.backbone.batch_norm': 'frozen'}, 'weights is empty'),
    ({'model.pooling': 'average', 'model.position_term': True}, 'position_term = True has no effect'),
    ({'model.parts': 0, 'model.position_term': True}, 'position_term = True has no effect'),
    ({'model.pooling': 'average', 'model.colour_masks': True}, 'colour_masks = True has no effect'),
    ({'model.colour_masks': True, 'model.position_term': True}, 'both say where the part masks begin'),
    ({'model.pooling': 'stripes', 'model.mask_kernel': 3}, 'mask_kernel = 3 has no effect'),
    ({'model.pooling': 'max', 'loss.diversity': 0.1}, 'diversity = 0.1 has no effect'),
    ({'model.parts': 1, 'loss.diversity': 0.1}, 'has only one'),
    ({'model.pooling': 'part_attention', 'model.shared_codebook': True}, 'shared_codebook = True has no effect'),
    ({'model.parts': 1, 'model.shared_codebook': True}, 'shared_codebook = True has no effect'),
    ({'model.pooling': 'average', 'model.vlad_norm': 'part'}, "vlad_norm = 'part' has no effect"),
    ({'model.clusters': 1, 'model.vlad_norm': 'part'}, "vlad_norm = 'part' has no effect"),
    ({'model.pooling': 'stripes', 'model.parts': 0}, 'needs config.model.parts of at least 1'),
    ({'model.pooling': 'part_attention', 'model.parts': 0}, 'needs config.model.parts of at least 1'),
    ({'model.pooling': 'average', 'vlad_init.rule': 'fixed'}, 'has no codewords'),
    ({'vlad_init.alpha': 10.0}, 'alpha = 10 has no effect'),
    ({'vlad_init.rule': 'fixed', 'vlad_init.alpha': 0.0}, 'alpha = 0 must be above 0'),
    ({'vlad_init.alpha_scale': -1.0}, 'alpha_scale = -1 must be above 0'),
    ({'vlad_init.max_descriptors': 10}, 'fewer than the config.model.clusters = 16'),
    ({'augment.pad': 64}, 'Set it below 64'),
    ({'augment.contrast': 1.5}, 'must not be negative'),
    ({'optimizer.ema': 1.0}, 'keep the first weights for ever'),
    ({'optimizer.learning_rate': 0.0}, 'learning_rate = 0 must be above 0'),
    ({'optimizer.momentum': 1.0}, 'momentum = 1 must lie in'),
    ({'optimizer.schedule': 'steps', 'optimizer.decay_steps': ()}, 'shares of the run'),
    ({'optimizer.schedule': 'steps', 'optimizer.decay_factor': 1.0}, 'decay_factor = 1 must lie'),
    ({'optimizer.final_factor': -0.1}, 'final_factor = -0.1 must lie'),
    ({'optimizer.backbone_factor': -1.0}, 'backbone_factor = -1 must not be negative'),
    ({'loss.circle': 1.0, 'loss.circle_scale': 0.0}, 'circle_scale = 0 must be above 0'),
    ({'profile': '190:201'}, 'traces steps up to 201'),
    ({'profile': '²:3'}, 'not .FIRST:LAST.'),
    ({'training.grace_seconds': -1.0}, 'grace_seconds = -1 must not be negative'),
    ({'seed': -1}, 'seed = -1 must not be negative'),
    ({'loss.triplet_margin': float('nan')}, 'triplet_margin = nan is not a number'),
    ({'optimizer.learning_rate': float('nan')}, 'learning_rate = nan is not a number'),
    ({'optimizer.clip_norm': float('inf')}, 'clip_norm = inf is not a finite number'),
    ({'loss.triplet_margin': float('-inf')}, 'triplet_margin = -inf is not a finite number'),
    ({'augment.erase_area': (0.5, 1.5)}, 'two shares of the picture'),
    ({'augment.occlusion_area': (0.5, 0.4)}, 'occlusion_area = .* two shares of the picture'),
    ({'augment.occlusion': 1.5}, 'augment.occlusion'),
    ({'augment.erase_area': (0.5, True)}, 'must hold numbers only'),
    ({'augment.erase_area': (0.1, 'a')}, 'erase_area = .* must hold numbers only'),
    ({'optimizer.schedule': 'steps', 'optimizer.decay_steps': ('a',)}, 'decay_steps = .* must hold numbers only'),
    ({'loss.identity': 0.0, 'loss.triplet': 0.0}, 'no term that tells people apart is on'),
    ({'evaluation.checkpoint': 'best'}, 'validation_share = 0 and .* must be above 0'),
]


@pytest.mark.parametrize(('fields', 'message'), REFUSED)
def test_a_combination_that_cannot_work_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        config(**fields)


@pytest.mark.parametrize(
    'fields',
    [
        {'batch.identities': 16, 'optimizer.accumulate': 8},
        # The cross-entropy needs no other people.
        {'batch.identities': 16, 'optimizer.accumulate': 16, 'loss.triplet': 0.0},
        {'batch.group_size': 2},
        {'model.parts': 0},
        {'vlad_init.rule': 'fixed', 'vlad_init.alpha': 10.0},
        {'model.backbone.batch_norm': 'frozen', 'model.backbone.weights': 'weights.safetensors'},
        {'profile': '190:200'},
        {'vlad_init.max_descriptors': 16},
    ],
)
def test_its_neighbour_that_works_is_not(fields):
    config(**fields)


@pytest.mark.parametrize(
    ('fields', 'platform', 'message'),
    [
        ({'model.dtype': 'bfloat16', 'model.bnneck': True}, 'cpu', 'slow on a CPU'),
        ({'optimizer.warmup_steps': 200, 'model.bnneck': True}, 'cpu', 'never reaches its peak'),
        ({'training.frozen_backbone_steps': 300, 'model.bnneck': True}, 'gpu', 'stays frozen in the whole run'),
        ({'training.frozen_backbone_steps': 10, 'model.bnneck': True}, 'gpu', 'backbone of random weights first'),
        ({'optimizer.accumulate': 2, 'model.bnneck': True}, 'gpu', 'among the 4 people of a part'),
        ({}, 'gpu', 'collapse'),
    ],
)
def test_a_costly_setting_is_said_in_one_line(fields, platform, message):
    lines = remarks(config(**fields), platform)
    assert len(lines) == 1 and message in lines[0]


def test_settings_that_cost_nothing_are_not_mentioned():
    assert remarks(config(**{'model.bnneck': True}), 'cpu') == []
    assert remarks(config(**{'model.bnneck': True, 'model.dtype': 'bfloat16'}), 'gpu') == []


@pytest.mark.parametrize('flag', [['--config='], ['--config', '']])
def test_a_field_that_the_user_gave_in_vain_is_named(flag):
    *before, begun = flag
    argv = [
        'main.py',
        *before,
        f'{begun}configs/synthetic.py:twins,pooling=average,clusters=8',
        '--config.vlad_init.batches=3',
        '--workdir=x',
        '--config.optimizer.mask_factor=10',
        '--config.optimizer.momentum',
        '0.5',
        '--config.loss.label_smoothing=0.2',
    ]
    given = given_fields(argv, Config)
    assert given == [
        'model.pooling',
        'model.clusters',
        'vlad_init.batches',
        'optimizer.mask_factor',
        'optimizer.momentum',
        'loss.label_smoothing',
    ]
    average = config(**{'model.pooling': 'average'})
    lines = without_effect(average, given)
    assert [line.split()[0] for line in lines] == [
        'config.model.clusters',
        'config.vlad_init.batches',
        'config.optimizer.mask_factor',
        'config.optimizer.momentum',
    ]
    assert without_effect(config(), ['model.clusters', 'vlad_init.batches', 'loss.triplet_margin']) == []
    circle = {'loss.identity': 0.0, 'loss.triplet': 0.0, 'loss.circle': 1.0, 'loss.auxiliary': 1.0}
    given = ['loss.auxiliary', 'augment.occlusion_area']
    lines = without_effect(config(**circle), given)
    assert [line.split()[0] for line in lines] == [f'config.{name}' for name in given]
    used = config(**{**circle, 'loss.triplet': 1.0, 'augment.occlusion': 0.1})
    assert without_effect(used, given) == []


def test_a_run_begun_before_a_field_was_added_continues_at_its_neutral_value_only():
    saved = flatten(config())
    later = ('augment.channel', 'model.backbone.temporal_blocks', 'model.backbone.inflation')
    for path in (
        *later,
        'model.backbone.time_padding',
        'model.colour_masks',
        'model.vlad_norm',
        'augment.occlusion',
        'loss.auxiliary',
    ):
        del saved[path]
    assert differences(saved, config()) == []
    assert differences(saved, config(**{'augment.channel': 0.1})) == ['augment.channel: 0.0 before, 0.1 now']


@pytest.mark.parametrize('recipe', [mars, mars_panels, synthetic])
@pytest.mark.parametrize(
    'arguments', ['pooling=average', 'pooling=max', 'pooling=stripes', 'pooling=part_attention', 'parts=0']
)
def test_recipes_take_every_pooling(recipe, arguments):
    freeze(recipe.get_config(arguments))  # refuses what has no effect


@pytest.mark.parametrize('arguments', ['pooling=average', 'clusters=1', 'pooling=stripes'])
def test_twins_take_poolings_without_several_codewords(arguments):
    assert freeze(synthetic.get_config('twins')).model.vlad_norm == 'part'
    assert freeze(synthetic.get_config(f'twins,{arguments}')).model.vlad_norm == 'codeword'
    with pytest.raises(UserError, match=r"vlad_norm = 'part' has no effect"):
        freeze(synthetic.get_config(f'twins,{arguments},vlad_norm=part'))


def test_a_position_term_that_is_asked_for_is_not_dropped():
    with pytest.raises(UserError, match=r'position_term = True has no effect'):
        freeze(synthetic.get_config('pooling=average,position=true'))


def test_the_demo_takes_other_backbones():
    for name in (name for name, spec in PROJECT_BACKBONES.items() if spec.stride_t <= 8):
        c = synthetic.get_config(f'backbone={name}')
        build_backbone(name, last_stride=1, clip=(c.clips.frames, c.clips.height, c.clips.width))
