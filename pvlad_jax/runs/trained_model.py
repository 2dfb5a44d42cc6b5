"""A trained network out of its working directory alone: config.json and a checkpoint. Neither the data set nor the
configuration file is needed.

What `--mode=eval` of an untrained network with imported weights leaves (configs/zero_shot.py) is such a directory as
well: its configuration is in eval/config.json and names the weights file.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from pvlad_jax.config import Config, flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import write_text
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.settings import with_first_names
from pvlad_jax.models.tracklet_network import TrackletNetwork, build_network, init_variables
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.workdir import (
    EVALUATED_CONFIG,
    Folder,
    check_checkpoint_config,
    config_file,
    open_workdir,
    saved_config,
)
from pvlad_jax.training.initialisation.pretrained import load_backbone_weights, load_head

LAST, BEST, UNTRAINED = 'last', 'best', 'untrained'  # of config.evaluation.checkpoint
CLASSIFIER = 'params/classifier/'
_FINGERPRINT_VERSION = 2
_DEFAULTS = flatten(Config())
# What the embedding does not depend on: how a network is trained, or what it began with.
_NOT_ARCHITECTURE = (
    'model.backbone.weights',
    'model.backbone.inflation',
    'model.backbone.batch_norm',
    'model.backbone.remat',
)


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A network with its weights, on the host.

    Attributes:
      variables: `params` and `batch_stats` of the network, without those of losses.
      checkpoint: what was loaded, in words.
      step: of training; 0 = imported weights as they are, None = unknown.
      chosen: by what the step was chosen: 'last', 'best by ...', or '' where the caller named it.
    """

    config: Config
    network: TrackletNetwork
    variables: dict[str, Any]
    checkpoint: str
    step: int | None = None
    chosen: str = ''

    @property
    def architecture(self) -> dict[str, Any]:
        """The fields of the configuration that say which function the weights belong to, by path."""
        flat = flatten(self.config)
        return {
            name: value for name, value in flat.items() if name.startswith('model.') and name not in _NOT_ARCHITECTURE
        }

    @property
    def clip(self) -> tuple[int, int, int]:
        """(T, H, W): frames and pixels of a clip."""
        clips = self.config.clips
        return clips.frames, clips.height, clips.width

    def fingerprint(self, flip: bool) -> str:
        """SHA-256 in hexadecimal, over everything that an embedding depends on: weights, architecture, preprocessing.

        The classifier's weights are no part of it. Embeddings of models with different fingerprints cannot be compared.
        """
        # A field that a later version adds has a default at which nothing changes (`core.settings.setting`).
        fields = {name: value for name, value in self.architecture.items() if value != _DEFAULTS[name]}
        about = {
            'version': _FINGERPRINT_VERSION,
            'model': with_first_names(Config, fields),  # the same in every version
            'clip': self.clip,
            'flip': flip,
            'pixels': [*self.network.pixel_mean, *self.network.pixel_std],
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, value in sorted(self.embedding_weights().items()):
            digest.update(f'{name} {value.shape} {value.dtype}\n'.encode())
            digest.update(np.ascontiguousarray(value, value.dtype.newbyteorder('<')).data)
        return digest.hexdigest()

    def embedding_weights(self) -> dict[str, np.ndarray]:
        """The arrays that an embedding depends on, by name: all but the classifier's."""
        flat = flatten_dict(self.variables, sep='/')
        return {name: value for name, value in flat.items() if not name.startswith(CLASSIFIER)}


def load_trained(workdir: Any, checkpoint: str | None = None) -> TrainedModel:
    """Restores the network of a working directory.

    Args:
      checkpoint: 'last', 'best' (by validation mAP) or the number of a step that is kept, such as '900'; None = what
        the run's config.evaluation.checkpoint says.

    Raises:
      UserError: no such folder, no configuration or checkpoint in it, or what is there is damaged or of another
      version.
    """
    where = open_workdir(workdir)
    if not where.exists():
        raise UserError(f'There is no working directory {where}. Give the folder that --workdir of the training named.')
    config = saved_config(where, config_file(where))
    chosen = checkpoint or config.evaluation.checkpoint
    if chosen not in (LAST, BEST, UNTRAINED) and not chosen.isdecimal():
        raise UserError(
            f'checkpoint = {chosen!r} is unknown; choose one of: {LAST}, {BEST}, {UNTRAINED}, or the number of a step.'
        )
    if chosen == UNTRAINED:
        return _untrained(config, where)
    with _without_notices():
        checkpoints = Checkpoints(where / 'checkpoints', config.checkpoint, read_only=True)
    try:
        step, which, variables, saved = checkpoints.read_during_training(lambda: _read(checkpoints, chosen, where))
    finally:
        with contextlib.suppress(Exception):  # nothing was written
            checkpoints.close()
    check_checkpoint_config(where, step, saved, config)
    model = checked(config, variables, f'{where}, step {step}{f" ({which})" if which else ""}', str(where), step)
    return dataclasses.replace(model, chosen=which)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Keeps Orbax's two warnings, that a folder opened for reading is read only, from users of the library."""
    logger = logging.getLogger('absl')
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def write_evaluated_config(workdir: Folder, config: Config) -> None:
    """Leaves what `load_trained` needs of an untrained network: the configuration, with the whole path of its
    weights."""
    flat = flatten(config)
    if flat['model.backbone.weights']:
        flat['model.backbone.weights'] = str(user_path(flat['model.backbone.weights']))
    write_text(workdir / EVALUATED_CONFIG, json.dumps(flat, indent=1, sort_keys=True) + '\n')


def _read(
    checkpoints: Checkpoints, chosen: str, where: Folder
) -> tuple[int, str, dict[str, Any], dict[str, Any] | None]:
    step, which = _step(checkpoints, chosen, where)
    return step, which, checkpoints.variables(step), checkpoints.about(step).get('config')


def _step(checkpoints: Checkpoints, chosen: str, where: Folder) -> tuple[int, str]:
    if checkpoints.latest_step() is None:
        raise UserError(f'{where} holds no checkpoint: the training has not saved one yet, or they were removed.')
    if chosen == LAST:
        return checkpoints.latest_step(), LAST
    if chosen.isdecimal():
        if int(chosen) not in checkpoints.steps():
            raise UserError(
                f'{where} holds no checkpoint of step {chosen}; there are those of step '
                f'{", ".join(map(str, checkpoints.steps()))}.'
            )
        return int(chosen), ''
    best = checkpoints.best()
    if best is None:
        raise UserError(
            f'{where}: no checkpoint was scored on validation people, so there is no best one. Take the last one.'
        )
    return best[0], f'best by validation mAP ({best[1]:.1%})'


def checked(
    config: Config, variables: dict[str, Any], checkpoint: str, where: str, step: int | None = None
) -> TrainedModel:
    """The network that the arrays fit; its number of identities is theirs. UserError where they do not."""
    try:
        identities = int(variables['params']['classifier']['kernel'].shape[-1])
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise UserError(f'The checkpoint of {where} holds no network of this program (no classifier).') from error
    network = build_network(config.model, identities)
    shapes = _shapes(config, network)
    wanted = {name: shape.shape for name, shape in flatten_dict(shapes, sep='/').items()}
    found = flatten_dict(variables, sep='/')
    wrong = sorted(name for name in wanted if name not in found or tuple(found[name].shape) != wanted[name])
    if wrong:
        raise UserError(
            f'The checkpoint of {where} does not fit its config.json: {len(wrong)} of {len(wanted)} arrays are missing '
            f'or of another shape, such as {wrong[0]}. One of the two was replaced.'
        )
    kept = {
        kind: {name: value for name, value in variables.get(kind, {}).items() if name in shapes[kind]}
        for kind in shapes
    }
    return TrainedModel(config, network, jax.tree.map(np.asarray, kept), checkpoint, step)


def _shapes(config: Config, network: TrackletNetwork) -> dict[str, Any]:
    clips = config.clips
    return jax.eval_shape(init_variables, network, (clips.frames, clips.height, clips.width), jax.random.key(0))


def _untrained(config: Config, where: Folder) -> TrainedModel:
    """Imported weights as they are, where no layer of the network would be random."""
    model = config.model
    published = model.backbone.weights and model.pooling in ('pretrained_head', 'average', 'max')
    if not published or model.embedding_dim or model.bnneck:
        raise UserError(
            f'{where} holds no trained network: config.evaluation.checkpoint is {UNTRAINED!r}, and its layers after '
            'the imported weights would be random. Train first.'
        )
    shapes = _shapes(config, build_network(model, 1))
    # Whatever is not imported takes no part in an embedding: the classifier.
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    params, stats = dict(variables['params']), dict(variables.get('batch_stats', {}))
    begun, backbone = (params['backbone'], stats.get('backbone', {})), model.backbone
    params['backbone'], backbone_stats = load_backbone_weights(
        backbone.weights, backbone.name, *begun, backbone.inflation
    )
    if backbone_stats:
        stats['backbone'] = backbone_stats
    if model.pooling == 'pretrained_head':
        head = load_head(backbone.weights)
        measured = {name: head.pop(name) for name in ('mean', 'var')}
        stats['aggregator'] = {**stats.get('aggregator', {}), 'head': measured}
        params['aggregator'] = {**params.get('aggregator', {}), 'head': head}
    described = f'{where}, weights of {model.backbone.weights}'
    return checked(config, {'params': params, 'batch_stats': stats}, described, str(where), step=0)
