"""The optimiser: what is decayed and clipped, how fast each layer learns, when the backbone starts to."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from pvlad_jax.config import OptimizerConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.training.schedule import learning_rate

# Tensors of more than one axis that are nevertheless not decayed: zero means nothing special for a centre or
# a location.
UNDECAYED = ('assignment_weight', 'assignment_bias', 'centres', 'position_term', 'loss_centres')
# What part masks are made of.
MASKS = ('part_mask', 'position_term')

Path = tuple[str, ...]


def make_optimizer(
    config: OptimizerConfig,
    total_steps: int,
    params: PyTree,
    frozen_backbone_steps: int = 0,
    stages: Sequence[Sequence[str]] = (),
) -> optax.GradientTransformation:
    """One transformation for the whole run; its state carries everything needed to resume.

    In this order: gradients of the backbone (top-level key 'backbone') become zero during the first
    `frozen_backbone_steps` updates; clipping to the global norm `clip_norm` of what is left; Adam, AdamW or SGD with
    momentum and weight decay; the factors of `rate_factors`; the learning rate of schedule.py, which counts
    all updates of the run.

    Weight decay: AdamW decouples it (Loshchilov and Hutter 2019: it is not in the moments, and is multiplied
    by the learning rate and the layer's factor). Adam and SGD add weight_decay · parameter to the gradient
    after clipping, as in PyTorch. `decayed` says which parameters it touches.

    First stage (`frozen_backbone_steps`): the backbone's parameters stay equal to the bit, and its moments *and their
    bias-correction count* start when it is set free. One shared count would make the first free updates of
    Adam about three times too long (moments as of step 1, corrections as of step frozen_backbone_steps). The stage
    turns by a count in the state: nothing is recompiled.

    Args:
      params: the parameters to be trained, or their shapes: a dict whose key 'backbone' holds the backbone.
      stages: of the backbone, the names of its layers (`BackboneSpec.stages`); for `layer_decay`.
    Raises UserError for a first stage without a backbone, or `layer_decay` with a layer that is in no stage.
    """
    if frozen_backbone_steps and 'backbone' not in params:
        raise UserError(
            f'config.training.frozen_backbone_steps = {frozen_backbone_steps}, but there are no parameters of '
            'a backbone to freeze.'
        )

    factors = jax.tree.leaves(rate_factors(config, params, stages))
    scale = optax.identity() if all(factor == 1 for factor in factors) else _scale(config, stages)
    clip = _clip(config.clip_norm) if config.clip_norm else optax.identity()

    def freeze_first(rule: optax.GradientTransformation) -> optax.GradientTransformation:
        if not frozen_backbone_steps:
            return rule
        frozen = optax.conditionally_mask(rule, lambda step: step >= frozen_backbone_steps)
        return optax.partition({'backbone': frozen, 'head': rule}, backbone_or_head)

    rate = optax.scale_by_learning_rate(learning_rate(config, total_steps))
    return optax.chain(freeze_first(optax.identity()), clip, freeze_first(_update_rule(config)), scale, rate)


def _clip(norm: float) -> optax.GradientTransformation:
    """What optax.clip_by_global_norm does, by a product instead of a quotient.

    XLA takes quotients to be expensive and keeps all clipped gradients, once more the size of the network, for the
    rules that read them; products it makes again in each.
    """

    def rescale(updates, _):
        factor = norm / jnp.maximum(optax.tree.norm(updates), norm)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates)

    return optax.stateless(rescale)


def _update_rule(config: OptimizerConfig) -> optax.GradientTransformation:
    decay = optax.identity()
    if config.weight_decay:
        decay = optax.add_decayed_weights(config.weight_decay, mask=decayed)
    match config.name:
        case 'adamw':
            return optax.chain(optax.scale_by_adam(), decay)
        case 'adam':
            return optax.chain(decay, optax.scale_by_adam())
        case 'sgd':
            return optax.chain(decay, optax.trace(config.momentum) if config.momentum else optax.identity())


def _scale(config: OptimizerConfig, stages: Sequence[Sequence[str]]) -> optax.GradientTransformation:
    """Multiplies each leaf by its factor: also those of losses, which the network's parameters do not hold."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(jnp.multiply, updates, rate_factors(config, updates, stages))
    )


def backbone_or_head(params: PyTree) -> PyTree:
    """'backbone' for every leaf under the top-level key 'backbone', 'head' for the others."""
    return _map_with_names(lambda path, _: 'backbone' if path[0] == 'backbone' else 'head', params)


def decayed(params: PyTree) -> PyTree:
    """True for leaves with weight decay: not biases, norms (one axis), codebooks, position terms, centres."""
    return _map_with_names(lambda path, leaf: jnp.ndim(leaf) > 1 and not set(UNDECAYED) & set(path), params)


def rate_factors(config: OptimizerConfig, params: PyTree, stages: Sequence[Sequence[str]] = ()) -> PyTree:
    """What the learning rate of each leaf is multiplied by.

    Outside the backbone 1, but for part masks `mask_factor`. In it `backbone_factor` · `layer_decay`^(stages between it
    and the backbone's last one), so the last stage has `backbone_factor` itself (layer-wise decay as of Howard and
    Ruder 2018).
    """
    depth = {layer: len(stages) - 1 - i for i, stage in enumerate(stages) for layer in stage}

    def factor(path: Path, _leaf) -> float:
        if path[0] != 'backbone':
            return config.mask_factor if set(MASKS) & set(path) else 1.0
        if config.layer_decay == 1:  # the stages do not matter
            return config.backbone_factor
        if path[1] not in depth:
            raise UserError(
                f'config.optimizer.layer_decay needs the stage of backbone/{"/".join(path[1:])}, but the '
                f"backbone's stages do not list {path[1]}. Set layer_decay to 1."
            )
        return config.backbone_factor * config.layer_decay ** depth[path[1]]

    return _map_with_names(factor, params)


def _map_with_names(function: Callable, tree: PyTree) -> PyTree:
    """jax.tree.map of function(path as names, leaf)."""

    def call(path, leaf):
        return function(tuple(str(getattr(key, 'key', getattr(key, 'name', key))) for key in path), leaf)

    return jax.tree_util.tree_map_with_path(call, tree)
