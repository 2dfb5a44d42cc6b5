"""Combinations of fields that cannot work or would silently do nothing: they are refused.

Ranges of single fields are checked before, by `freeze`, which calls `check_combinations` last.
"""

from collections.abc import Iterator

from pvlad_jax.config.data_set_names import join_problems
from pvlad_jax.config.fields.config import Config
from pvlad_jax.config.fields.model import ModelConfig, VladInitConfig
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
    """Whether a network of this pooling and number of parts computes masks."""
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
    if model.vlad_norm != 'codeword' and (model.pooling != 'person_vlad' or model.clusters < 2):
        yield (
            f'config.model.vlad_norm = {model.vlad_norm!r} has no effect: it concerns config.model.pooling = '
            f"'person_vlad' with clusters of at least 2; here pooling is {model.pooling!r} and clusters "
            f"{model.clusters}. Set it to 'codeword'."
        )
    if model.embedding_by_part:
        yield from _embedding_by_part(model)
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
            'config.model.backbone.weights is empty: nothing would ever be normalised. Name a file of weights, or a '
            "run (config.init_from), or set batch_norm to 'sync'."
        )


def _embedding_by_part(model: ModelConfig) -> Iterator[str]:
    e, parts = model.embedding_dim, model.parts
    if model.pooling not in ('person_vlad', 'part_attention', 'stripes') or parts < 2 or not e:
        yield (
            'config.model.embedding_by_part = True has no effect: it concerns person_vlad, part_attention and stripes '
            f'with parts of at least 2 and an embedding layer; here pooling is {model.pooling!r}, parts {parts} and '
            f'embedding_dim {e}. Set it to False.'
        )
    elif e % parts:
        yield (
            f'config.model.embedding_by_part = True gives each of config.model.parts = {parts} parts as many numbers, '
            f'but config.model.embedding_dim = {e} is no multiple of that. Set it to '
            f'{" or ".join(str(n * parts) for n in (e // parts, e // parts + 1) if n)}.'
        )


def _codebook(c: Config) -> Iterator[str]:
    init = c.vlad_init
    if c.model.pooling != 'person_vlad':
        if init.rule != 'netvlad':
            yield (
                f'config.vlad_init.rule = {init.rule!r} has no effect: config.model.pooling = {c.model.pooling!r} has '
                "no codewords. Set it to 'netvlad'."
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
                f'and 1, such as (0.5, 0.8); they are {optimizer.decay_steps}.'
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
            "config.evaluation.checkpoint = 'untrained' scores imported weights as they are, not those of another "
            f'run. To score that run, evaluate it: --mode=eval --workdir={c.init_from.partition("@")[0]}'
        )
    if c.evaluation.dataset and c.evaluation.checkpoint == 'untrained':
        yield (
            "config.evaluation.dataset is for a trained network, and config.evaluation.checkpoint is 'untrained'. "
            'Name the data set by config.dataset.name instead.'
        )
    if c.evaluation.dataset and c.dataset.split == 'all':
        yield (
            "config.evaluation.dataset is for the network of one split, and config.dataset.split is 'all'. Give the "
            'folder of one as --workdir, such as WORKDIR/split_0.'
        )
    if c.profile:
        last = int(c.profile.rpartition(':')[2])
        if last > c.training.steps:
            yield (
                f'config.profile = {c.profile!r} traces steps up to {last}, but config.training.steps = '
                f'{c.training.steps}. Name steps of the run.'
            )
