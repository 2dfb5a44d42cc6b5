"""Combinations of fields: those that cannot work or would silently do nothing are refused; a setting that is merely
costly is noted.

Ranges of single fields are checked before, by `freeze`, which calls `check_combinations` last.
"""

from collections.abc import Iterator, Sequence

from pvlad_jax.config.data_set_names import is_join, join_problems
from pvlad_jax.config.fields import Config, VladInitConfig
from pvlad_jax.core.errors import UserError


def check_combinations(config: Config) -> None:
    """UserError for the first combination of fields that cannot work or has no effect; it names the fields and what to
    set.
    """
    for problems in (join_problems, _batch, _model, _codebook, _augmentation, _loss, _optimizer, _run):
        for problem in problems(config):
            raise UserError(problem)


def _batch(c: Config) -> Iterator[str]:
    batch, parts = c.batch, c.optimizer.accumulate
    if batch.identities % parts:
        yield (
            f'config.optimizer.accumulate = {parts} must divide config.batch.identities = {batch.identities}: '
            'every part of a batch holds whole people.'
        )
    for term in ('triplet', 'circle'):
        if not getattr(c.loss, term):
            continue
        if batch.tracklets < 2:
            yield (
                f'config.loss.{term} compares tracklets of one person, but config.batch.tracklets = {batch.tracklets} '
                'gives one of each: the loss would always be 0. Set config.batch.tracklets to 2 or more, or '
                f'config.loss.{term} to 0.'
            )
        if batch.identities < 2:
            yield (
                f'config.loss.{term} compares people, but config.batch.identities = {batch.identities}: the loss would '
                f'always be 0. Set config.batch.identities to 2 or more, or config.loss.{term} to 0.'
            )
        if batch.identities // parts < 2:
            yield (
                f'config.optimizer.accumulate = {parts} with config.batch.identities = {batch.identities} leaves one '
                f'person in each part of a batch. config.loss.{term} compares people within a part, so it would always '
                f'be 0. Set accumulate to {batch.identities // 2} or lower, raise config.batch.identities, or set '
                f'config.loss.{term} to 0.'
            )
    if batch.identities % batch.group_size:
        yield (
            f'config.batch.group_size = {batch.group_size} must divide config.batch.identities = {batch.identities}: '
            'otherwise some of the people that are to be drawn together end up in different batches.'
        )
    if batch.group_size > 1 and parts > 1:
        yield (
            f'config.batch.group_size = {batch.group_size} brings people into one batch, and '
            f'config.optimizer.accumulate = {parts} takes them apart again, since neighbours go into different parts. '
            'Set one of the two to 1.'
        )


def has_part_masks(pooling: str, parts: int) -> bool:
    return pooling in ('person_vlad', 'part_attention') and parts >= 1


def _model(c: Config) -> Iterator[str]:
    model = c.model
    masks = has_part_masks(model.pooling, model.parts)
    without_masks = (
        f'config.model.pooling = {model.pooling!r} with config.model.parts = {model.parts} has no part masks'
    )
    for field in ('position_term', 'colour_masks'):
        if getattr(model, field) and not masks:
            yield (
                f'config.model.{field} = True has no effect: {without_masks}. Set it to False, or take pooling '
                'person_vlad or part_attention with parts of at least 1.'
            )
    if model.mask_kernel != 1 and not masks:
        yield f'config.model.mask_kernel = {model.mask_kernel} has no effect: {without_masks}. Set it to 1.'
    if model.colour_masks and model.position_term:
        yield (
            'config.model.colour_masks and config.model.position_term both say where the part masks begin. Set one of '
            'them to False.'
        )
    if c.loss.diversity and not masks:
        yield (
            f'config.loss.diversity = {c.loss.diversity:g} has no effect: {without_masks}. Set it to 0, or take '
            'pooling person_vlad or part_attention with parts of at least 2.'
        )
    if c.loss.diversity and model.parts == 1:
        yield (
            f'config.loss.diversity = {c.loss.diversity:g} keeps part masks apart, but config.model.parts = 1 has only '
            'one. Set it to 0, or raise config.model.parts.'
        )
    if model.shared_codebook and (model.pooling != 'person_vlad' or model.parts < 2):
        yield (
            'config.model.shared_codebook = True has no effect: parts share a codebook with config.model.pooling = '
            f"'person_vlad' and parts of at least 2; here pooling is {model.pooling!r} and parts {model.parts}. Set it "
            'to False.'
        )
    if model.pooling in ('stripes', 'part_attention') and model.parts < 1:
        yield f'config.model.pooling = {model.pooling!r} needs config.model.parts of at least 1, not {model.parts}.'
    if model.backbone.weights and c.init_from:
        yield (
            'config.model.backbone.weights and config.init_from both say what the backbone begins with. Set one of '
            'them to empty: --config.model.backbone.weights= for the weights of the run, --config.init_from= for the '
            'imported ones.'
        )
    if model.backbone.batch_norm == 'frozen' and not (model.backbone.weights or c.init_from):
        yield (
            "config.model.backbone.batch_norm = 'frozen' keeps the statistics of imported weights, but "
            'config.model.backbone.weights '
            'is empty: nothing would ever be normalised. Name a file of weights, or a run (config.init_from), or set '
            'batch_norm to '
            "'sync'."
        )


def _codebook(c: Config) -> Iterator[str]:
    init = c.vlad_init
    if c.model.pooling != 'person_vlad':
        if init.rule != 'netvlad':
            yield (
                f'config.vlad_init.rule = {init.rule!r} has no effect: config.model.pooling = {c.model.pooling!r} has '
                'no codewords. '
                "Set it to 'netvlad'."
            )
        return
    if init.rule == 'netvlad' and init.alpha != VladInitConfig.alpha:
        yield (
            f"config.vlad_init.alpha = {init.alpha:g} has no effect with config.vlad_init.rule = 'netvlad', which "
            "finds α from the data. Set the rule to 'fixed', or scale the data's α with config.vlad_init.alpha_scale."
        )
    if init.max_descriptors < c.model.clusters:
        yield (
            f'config.vlad_init.max_descriptors = {init.max_descriptors} local descriptors are fewer than the '
            f'config.model.clusters = {c.model.clusters} codewords that k-means is to find among them. Raise it.'
        )


def _augmentation(c: Config) -> Iterator[str]:
    smallest = min(c.clips.height, c.clips.width)
    if c.augment.pad >= smallest:
        yield (
            f'config.augment.pad = {c.augment.pad} pixels would let a crop miss a picture of {c.clips.height} x '
            f'{c.clips.width} entirely. Set it below {smallest}.'
        )
    for name in ('brightness', 'contrast', 'saturation', 'channel'):
        if getattr(c.augment, name) > 1:
            yield (
                f'config.augment.{name} = {getattr(c.augment, name):g}: factors are drawn from 1 - value to 1 + value, '
                'and must not be negative. Set it to 1 or lower.'
            )


def _optimizer(c: Config) -> Iterator[str]:
    optimizer = c.optimizer
    if optimizer.ema == 1:
        yield (
            'config.optimizer.ema = 1 would keep the first weights for ever. Set it below 1, such as 0.999, or to 0 '
            'for none.'
        )
    if optimizer.schedule == 'steps':
        if not optimizer.decay_steps or not all(0 < share < 1 for share in optimizer.decay_steps):
            yield (
                "config.optimizer.schedule = 'steps' needs config.optimizer.decay_steps, shares of the run between 0 "
                'and 1, such as '
                f'(0.5, 0.8); they are {optimizer.decay_steps}.'
            )
        if not 0 < optimizer.decay_factor < 1:
            yield f'config.optimizer.decay_factor = {optimizer.decay_factor:g} must lie between 0 and 1.'
    if optimizer.schedule == 'cosine' and not 0 <= optimizer.final_factor <= 1:
        yield f'config.optimizer.final_factor = {optimizer.final_factor:g} must lie in [0, 1].'


def _loss(c: Config) -> Iterator[str]:
    terms = ('identity', 'triplet', 'circle', 'centre', 'oim')
    if not any(getattr(c.loss, term) for term in terms):
        yield f'config.loss: no term that tells people apart is on. Give one of {", ".join(terms)} a weight above 0.'


def _run(c: Config) -> Iterator[str]:
    if c.evaluation.checkpoint == 'best' and not (c.dataset.validation_share and c.checkpoint.keep_best):
        yield (
            "config.evaluation.checkpoint = 'best' needs people to choose it by and a place to keep it: "
            f'config.dataset.validation_share = {c.dataset.validation_share:g} and config.checkpoint.keep_best = '
            f"{c.checkpoint.keep_best} must be above 0. Or score the 'last' one."
        )
    if c.evaluation.checkpoint == 'untrained' and c.init_from:
        yield (
            "config.evaluation.checkpoint = 'untrained' scores imported weights as they are, not those of another run. "
            'To score that '
            f'run, evaluate it: --mode=eval --workdir={c.init_from.partition("@")[0]}'
        )
    if c.evaluation.dataset and c.evaluation.checkpoint == 'untrained':
        yield (
            "config.evaluation.dataset is for a trained network, and config.evaluation.checkpoint is 'untrained'. Name "
            'the data set by '
            'config.dataset.name instead.'
        )
    if c.evaluation.dataset and c.dataset.split == 'all':
        yield (
            "config.evaluation.dataset is for the network of one split, and config.dataset.split is 'all'. Give the "
            'folder of one as '
            '--workdir, such as WORKDIR/split_0.'
        )
    if c.profile:
        last = int(c.profile.rpartition(':')[2])
        if last > c.training.steps:
            yield (
                f'config.profile = {c.profile!r} traces steps up to {last}, but config.training.steps = '
                f'{c.training.steps}. Name steps of the run.'
            )


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
    (('loss.oim_temperature', 'loss.oim_momentum'), lambda c: c.loss.oim, 'config.loss.oim above 0'),
    (('optimizer.momentum',), lambda c: c.optimizer.name == 'sgd', "config.optimizer.name = 'sgd'"),
    (
        ('optimizer.decay_steps', 'optimizer.decay_factor'),
        lambda c: c.optimizer.schedule == 'steps',
        "config.optimizer.schedule = 'steps'",
    ),
    (('optimizer.final_factor',), lambda c: c.optimizer.schedule == 'cosine', "config.optimizer.schedule = 'cosine'"),
    (('augment.erase_area',), lambda c: c.augment.erase, 'config.augment.erase above 0'),
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
