"""What is said of a configuration that works: settings that cost speed or accuracy, and fields that were given but do
nothing.
"""

from collections.abc import Sequence

from pvlad_jax.config.combinations import has_part_masks
from pvlad_jax.config.data_set_names import is_join
from pvlad_jax.config.fields.config import Config


def remarks(config: Config, platform: str) -> list[str]:
    """A line for each setting that works but costs speed or accuracy, to be said once at the start.

    platform: of the devices, 'cpu', 'gpu' or 'tpu'.
    """
    training, optimizer, lines = config.training, config.optimizer, []
    random_backbone = not (config.model.backbone.weights or config.init_from)
    if config.model.dtype == 'bfloat16' and platform == 'cpu':
        lines.append(
            "config.model.dtype = 'bfloat16' is slow on a CPU: about a third of the clips a second of float32."
        )
    if config.model.backbone.remat and platform == 'cpu':
        lines.append(
            'config.model.backbone.remat = True computes each stage twice; a CPU seldom lacks the memory that it saves.'
        )
    if optimizer.warmup_steps >= training.steps:
        lines.append(
            f'config.optimizer.warmup_steps = {optimizer.warmup_steps} is not below config.training.steps = '
            f'{training.steps}: the learning rate never reaches its peak.'
        )
    if training.frozen_backbone_steps >= training.steps:
        lines.append(
            f'config.training.frozen_backbone_steps = {training.frozen_backbone_steps} is not below '
            f'config.training.steps = {training.steps}: the backbone stays frozen in the whole run.'
        )
    elif training.frozen_backbone_steps and random_backbone:
        lines.append(
            f'config.training.frozen_backbone_steps = {training.frozen_backbone_steps} trains the new layers on a '
            'backbone of random weights first.'
        )
    if random_backbone and not config.model.bnneck and config.loss.triplet:
        lines.append(
            'config.model.bnneck = False with a backbone of random weights: the losses on a bare embedding often '
            'collapse it to a point. Set it to True.'
        )
    if config.loss.triplet and optimizer.accumulate > 1:
        lines.append(
            f'config.optimizer.accumulate = {optimizer.accumulate}: the triplet loss finds its hardest pairs among the '
            f'{config.batch.identities // optimizer.accumulate} people of a part.'
        )
    return lines


def _vlad(c: Config) -> bool:
    return c.model.pooling == 'person_vlad'


# What fields need to have an effect: (paths, condition, how it is said).
_NEEDS = (
    (('batch.sampling',), lambda c: is_join(c.dataset.name), 'several data sets in config.dataset.name'),
    (('dataset.build_options',), lambda c: not is_join(c.dataset.name), 'one data set; joined ones are not built'),
    (('model.clusters', 'vlad_init'), _vlad, "config.model.pooling = 'person_vlad'"),
    (
        ('model.parts', 'model.descriptor_dim'),
        lambda c: c.model.pooling in ('person_vlad', 'part_attention', 'stripes'),
        'a config.model.pooling with parts',
    ),
    (
        ('vlad_init.from_data',),
        lambda c: c.init_from,
        'config.init_from; without it they always come from the training data',
    ),
    (('loss.label_smoothing',), lambda c: c.loss.identity, 'config.loss.identity above 0'),
    (('loss.triplet_margin',), lambda c: c.loss.triplet, 'config.loss.triplet above 0'),
    (('loss.circle_margin', 'loss.circle_scale'), lambda c: c.loss.circle, 'config.loss.circle above 0'),
    (('model.backbone.time_padding',), lambda c: c.model.backbone.temporal == '3d', "model.backbone.temporal = '3d'"),
    (
        ('loss.auxiliary',),
        lambda c: c.loss.identity or c.loss.triplet,
        'config.loss.identity or config.loss.triplet above 0, whose losses it takes',
    ),
    (('loss.oim_temperature', 'loss.oim_momentum'), lambda c: c.loss.oim, 'config.loss.oim above 0'),
    (
        ('optimizer.mask_factor',),
        lambda c: has_part_masks(c.model.pooling, c.model.parts),
        'a config.model.pooling with part masks',
    ),
    (('optimizer.momentum',), lambda c: c.optimizer.name == 'sgd', "config.optimizer.name = 'sgd'"),
    (
        ('optimizer.decay_steps', 'optimizer.decay_factor'),
        lambda c: c.optimizer.schedule == 'steps',
        "config.optimizer.schedule = 'steps'",
    ),
    (('optimizer.final_factor',), lambda c: c.optimizer.schedule == 'cosine', "config.optimizer.schedule = 'cosine'"),
    (('augment.erase_area',), lambda c: c.augment.erase, 'config.augment.erase above 0'),
    (('augment.occlusion_area',), lambda c: c.augment.occlusion, 'config.augment.occlusion above 0'),
    (('checkpoint.keep_best',), lambda c: c.dataset.validation_share, 'config.dataset.validation_share above 0'),
)


def without_effect(config: Config, given: Sequence[str]) -> list[str]:
    """A line for each field that the user gave by its path (such as 'model.clusters') and that does nothing in this
    configuration.
    """
    return [
        f'config.{field} has no effect in this run: it needs {needed}.'
        for field in given
        for paths, condition, needed in _NEEDS
        if any(field == p or field.startswith(p + '.') for p in paths) and not condition(config)
    ]
