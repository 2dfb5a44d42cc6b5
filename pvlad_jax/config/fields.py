"""The configuration as frozen dataclasses: where model and training code begins, `ConfigDict`s end.

`configs/default.py` says what every field means; here are only names and types, so that a misspelt, missing or wrongly typed field
is an error at the start of a run and not a silent default in its middle.
"""

import dataclasses
import json
import re
import types
from collections.abc import Mapping
from typing import Any, get_type_hints

from ml_collections import ConfigDict

from pvlad_jax.config.combinations import check_combinations
from pvlad_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    name: str
    data_dir: str
    split: str
    halves: str
    validation_share: float
    on_change: str
    build_options: Mapping


@dataclasses.dataclass(frozen=True)
class ClipsConfig:
    segments: int
    frames: int
    stride: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    people: int
    tracklets: int
    together: int

    @property
    def size(self) -> int:
        return self.people * self.tracklets


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    flip: float
    pad: int
    erase: float
    erase_area: tuple
    brightness: float
    contrast: float
    saturation: float
    channel: float


@dataclasses.dataclass(frozen=True)
class InputConfig:
    threads: int
    prefetch: int
    on_error: str


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    name: str
    weights: str
    temporal: str
    temporal_blocks: str
    inflation: str
    last_stride: int
    batch_norm: str
    remat: bool


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    backbone: BackboneConfig
    dtype: str
    pooling: str
    parts: int
    words: int
    descriptor: int
    mask_kernel: int
    shared_codebook: bool
    position_term: bool
    embedding: int
    bnneck: bool


@dataclasses.dataclass(frozen=True)
class VladInitConfig:
    centred: bool
    rule: str
    alpha: float
    alpha_scale: float
    descriptors: int
    batches: int


@dataclasses.dataclass(frozen=True)
class LossConfig:
    identity: float
    label_smoothing: float
    triplet: float
    triplet_margin: float
    circle: float
    circle_margin: float
    circle_scale: float
    centre: float
    oim: float
    oim_temperature: float
    oim_momentum: float
    diversity: float


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    name: str
    learning_rate: float
    backbone_factor: float
    layer_decay: float
    schedule: str
    warmup_steps: int
    decay_steps: tuple
    decay_factor: float
    final_factor: float
    weight_decay: float
    momentum: float
    clip_norm: float
    ema: float
    accumulate: int


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    steps: int
    head_steps: int
    log_every: int
    eval_every: int
    eval_untrained: bool
    checkpoint_every: int
    stop_on_nonfinite: bool
    grace_seconds: float


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    protocol: str
    unknown_cameras: str
    frames: str
    checkpoint: str
    flip: bool
    distance: str
    rerank: bool
    clips_per_step: int
    strips: int


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    data: int
    fsdp: int


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    keep_latest: int
    keep_best: int


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int
    dataset: DatasetConfig
    clips: ClipsConfig
    batch: BatchConfig
    augment: AugmentConfig
    input: InputConfig
    model: ModelConfig
    vlad_init: VladInitConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    mesh: MeshConfig
    checkpoint: CheckpointConfig
    compile_cache: str
    profile: str


# Fields that say how a run is carried out, not what it computes: they may differ when it is taken up again.
MAY_CHANGE = ('dataset.data_dir', 'dataset.on_change', 'dataset.build_options', 'input', 'training.log_every', 'training.eval_every',
              'training.eval_untrained', 'training.checkpoint_every', 'training.grace_seconds',
              'compile_cache', 'evaluation', 'mesh', 'checkpoint', 'profile',
              'model.backbone.remat', 'model.backbone.weights', 'model.backbone.inflation')  # weights are read for a new run only

# Fields added later, and the value at which nothing changes: a run that was begun without them continues with it.
ADDED = {'augment.channel': 0.0, 'model.backbone.temporal_blocks': 'default', 'model.backbone.inflation': 'centre'}

CHOICES = {
    'dataset.halves': ('wang2014', 'swapped'),
    'dataset.on_change': ('stop', 'accept'),
    'input.on_error': ('stop', 'skip'),
    'model.backbone.temporal': ('3d', '2d'),
    'model.backbone.inflation': ('centre', 'mean'),
    'model.backbone.last_stride': (1, 2),
    'model.backbone.batch_norm': ('live', 'device', 'frozen'),
    'model.dtype': ('float32', 'bfloat16'),
    'model.pooling': ('person_vlad', 'part_attention', 'average', 'max', 'stripes', 'pretrained_head'),
    'model.mask_kernel': (1, 3),
    'vlad_init.rule': ('netvlad', 'fixed'),
    'optimizer.name': ('adamw', 'adam', 'sgd'),
    'optimizer.schedule': ('cosine', 'steps', 'constant'),
    'evaluation.protocol': ('', 'mars_official', 'gallery_only', 'cross_camera', 'all_but_query'),
    'evaluation.unknown_cameras': ('refuse', 'other', 'ignore'),
    'evaluation.checkpoint': ('last', 'best', 'untrained'),
    'evaluation.distance': ('cosine', 'euclidean', 'xqda', 'kissme', 'xqda_shrunk'),
}

AT_LEAST_ONE = ('clips.segments', 'clips.frames', 'clips.stride', 'clips.height', 'clips.width', 'batch.people', 'batch.tracklets',
                'batch.together', 'input.threads', 'model.words', 'model.descriptor', 'optimizer.accumulate',
                'training.steps', 'training.log_every', 'training.checkpoint_every', 'evaluation.clips_per_step',
                'checkpoint.keep_latest', 'vlad_init.descriptors', 'vlad_init.batches')

AT_LEAST_ZERO = ('input.prefetch', 'augment.pad', 'augment.brightness', 'augment.contrast', 'augment.saturation', 'augment.channel',
                 'model.parts', 'model.embedding', 'training.head_steps', 'training.eval_every', 'evaluation.strips',
                 'optimizer.warmup_steps', 'optimizer.clip_norm',
                 'optimizer.weight_decay', 'optimizer.backbone_factor', 'optimizer.layer_decay', 'checkpoint.keep_best', 'seed')

SHARES = ('augment.flip', 'augment.erase', 'optimizer.ema')


def freeze(config: ConfigDict) -> Config:
    """Typed, frozen and checked. Raises UserError that names the field: unknown, missing, of a wrong type, or out of its range."""
    frozen = _freeze(Config, config, '')
    flat = flatten(frozen)
    for path, choices in CHOICES.items():
        if flat[path] not in choices:
            raise UserError(f'config.{path} = {flat[path]!r} is not one of {", ".join(map(repr, choices))}.')
    for path in AT_LEAST_ONE:
        if flat[path] < 1:
            raise UserError(f'config.{path} = {flat[path]!r} must be at least 1.')
    for path in AT_LEAST_ZERO:
        if not flat[path] >= 0:
            raise UserError(f'config.{path} = {flat[path]!r} must not be negative.')
    for path in SHARES:
        if not 0 <= flat[path] <= 1:
            raise UserError(f'config.{path} = {flat[path]!r} must lie in [0, 1].')
    area = frozen.augment.erase_area
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
        raise UserError(f'config.augment.erase_area = {area!r} must be two shares of the picture, the least and the most, '
                        'such as (0.02, 0.25).')
    if not 0 <= frozen.dataset.validation_share < 1:
        raise UserError(f'config.dataset.validation_share = {frozen.dataset.validation_share} must lie in [0, 1).')
    if not re.fullmatch(r'all|(even|every|first):[1-9][0-9]*', frozen.evaluation.frames):
        raise UserError(f"config.evaluation.frames = {frozen.evaluation.frames!r} is not 'all', 'even:N', 'every:N' or 'first:N' "
                        'with N at least 1.')
    if frozen.evaluation.checkpoint == 'best' and not (frozen.dataset.validation_share and frozen.checkpoint.keep_best):
        raise UserError("config.evaluation.checkpoint = 'best' needs people to choose it by and a place to keep it: "
                        f'config.dataset.validation_share = {frozen.dataset.validation_share:g} and config.checkpoint.keep_best = '
                        f"{frozen.checkpoint.keep_best} must be above 0. Or score the 'last' one.")
    if frozen.profile:
        profiled_steps(frozen.profile)
    check_combinations(frozen)
    return frozen


def profiled_steps(profile: str) -> range:
    """'3:5' -> the steps 3, 4 and 5, counted from 1."""
    first, colon, last = profile.partition(':')
    if not (colon and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise UserError(f"config.profile = {profile!r} is not 'FIRST:LAST', two step numbers from 1.")
    return range(int(first), int(last) + 1)


def _freeze(kind: type, node: ConfigDict, path: str) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    for what, wrong in (('unknown', set(node) - names), ('missing', names - set(node))):
        if wrong:
            raise UserError(f'Config: {what} field {", ".join(sorted(path + name for name in wrong))}. '
                            f'Fields of config.{path.rstrip(".") or "*"}: {", ".join(sorted(names))}.')
    values = {}
    for name, hint in get_type_hints(kind).items():
        value = node[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _freeze(hint, value, f'{path}{name}.')
        elif hint is Mapping:
            values[name] = types.MappingProxyType(value.to_dict() if isinstance(value, ConfigDict) else dict(value))
        elif hint is float and isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
        elif hint is tuple:
            values[name] = tuple(value)
        elif type(value) is hint:
            values[name] = value
        else:
            raise UserError(f'config.{path}{name} = {value!r} is of type {type(value).__name__}, not {hint.__name__}.')
    return kind(**values)


def flatten(config: Any, prefix: str = '') -> dict[str, Any]:
    """{'model.parts': 8, ...}, JSON-able."""
    flat = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f'{prefix}{field.name}.')
        elif isinstance(value, types.MappingProxyType):
            flat[prefix + field.name] = dict(value)
        else:
            flat[prefix + field.name] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(saved: dict[str, Any], config: Config) -> list[str]:
    """'model.parts: 8 before, 4 now' for each field that must not differ between a run and its continuation."""
    now = json.loads(json.dumps(flatten(config)))  # as it looks after a trip through a file
    saved = {**ADDED, **saved}
    fixed = [p for p in sorted(set(now) | set(saved)) if not any(p == m or p.startswith(m + '.') for m in MAY_CHANGE)]
    return [f'{p}: {saved.get(p)!r} before, {now.get(p)!r} now' for p in fixed if saved.get(p) != now.get(p)]
