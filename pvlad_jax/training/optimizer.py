"""The optimiser: what is decayed and clipped, how fast each layer learns, when the backbone starts to."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from pvlad_jax.config import OptimizerConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.training.schedule import learning_rate

# Tensors of more than one axis that are nevertheless not decayed: zero means nothing special for a centre or
# a place.
UNDECAYED = ('assignment_weight', 'assignment_bias', 'centres', 'position_term', 'loss_centres')

Path = tuple[str, ...]


def make_optimizer(
    config: OptimizerConfig, total_steps: int, params: PyTree, head_steps: int = 0,
) -> optax.GradientTransformation:
    """One transformation for the whole run; its state carries everything needed to resume.

    In this order: gradients of the backbone (top-level key 'backbone') become zero during the first
    `head_steps` updates; clipping to the global norm `clip_norm` of what is left; Adam, AdamW or SGD with
    momentum and weight decay; the factors of `rate_factors`; the learning rate of schedule.py, which counts
    all updates of the run.

    Weight decay: AdamW decouples it (Loshchilov and Hutter 2019: it is not in the moments, and is multiplied
    by the learning rate and the layer's factor). Adam and SGD add weight_decay · parameter to the gradient
    after clipping, as in PyTorch. `decayed` says which parameters it touches.

    First stage (`head_steps`): the backbone's parameters stay equal to the bit, and its moments *and their
    bias-correction count* start when it is set free. One shared count would make the first free updates of
    Adam about three times too long (moments as of step 1, corrections as of step head_steps). The stage turns
    by a count in the state: nothing is recompiled.

    Args:
      params: the parameters to be trained, or their shapes: a dict whose key 'backbone' holds the backbone.
    Raises UserError for a first stage without a backbone, or `layer_decay` on a backbone whose stages have no known names.
    """
    if head_steps and 'backbone' not in params:
        raise UserError(f'config.training.head_steps = {head_steps}, but there are no parameters of '
                        'a backbone to freeze.')

    factors = rate_factors(config, params)
    clip = _clip(config.clip_norm) if config.clip_norm else optax.identity()

    def freeze_first(rule: optax.GradientTransformation) -> optax.GradientTransformation:
        if not head_steps:
            return rule
        held = optax.conditionally_mask(rule, lambda step: step >= head_steps)
        return optax.partition({'backbone': held, 'head': rule}, backbone_or_head)

    rate = optax.scale_by_learning_rate(learning_rate(config, total_steps))
    return optax.chain(freeze_first(optax.identity()), clip, freeze_first(_update_rule(config)), _scale(factors), rate)


def _clip(norm: float) -> optax.GradientTransformation:
    """What optax.clip_by_global_norm does, by a product instead of a quotient.

    XLA takes quotients to be expensive and keeps all clipped gradients, once more the size of the network, for the rules that read them;
    products it makes again in each.
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


def _scale(factors: PyTree) -> optax.GradientTransformation:
    """Multiplies each leaf by its own constant."""
    if all(factor == 1 for factor in jax.tree.leaves(factors)):
        return optax.identity()
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))


def backbone_or_head(params: PyTree) -> PyTree:
    """'backbone' for every leaf under the top-level key 'backbone', 'head' for the others."""
    return _map_with_names(lambda path, _: 'backbone' if path[0] == 'backbone' else 'head', params)


def decayed(params: PyTree) -> PyTree:
    """True for leaves with weight decay: not biases, norms (one axis), VLAD words, position terms, centres."""
    return _map_with_names(lambda path, leaf: jnp.ndim(leaf) > 1 and not set(UNDECAYED) & set(path), params)


def rate_factors(config: OptimizerConfig, params: PyTree) -> PyTree:
    """What the learning rate of each leaf is multiplied by.

    Outside the backbone 1. In it `backbone_factor` · `layer_decay`^(stages between it and the backbone's last
    one), so the last stage has `backbone_factor` itself (layer-wise decay as of Howard and Ruder 2018).
    """
    named = config.layer_decay != 1  # otherwise the names of the stages do not matter

    def stage(path: Path, _leaf) -> int:
        return -1 if path[0] != 'backbone' else backbone_stage(path[1:]) if named else 0

    stages = _map_with_names(stage, params)
    last = max(jax.tree.leaves(stages), default=-1)

    def factor(stage: int) -> float:
        return 1.0 if stage < 0 else config.backbone_factor * config.layer_decay ** (last - stage)

    return jax.tree.map(factor, stages)


# r3d: stem, stage1 .. stage4. c3d: conv1 .. conv5b. i3d: Conv3d_1a_7x7 .. Mixed_5c. Their norms, if named by
# themselves, alike.
STAGE = re.compile(r'(?:stage|layer|conv3d_|conv|mixed_|norm|bn)_?(\d)', re.IGNORECASE)


def backbone_stage(path: Path) -> int:
    """The stage of a backbone's parameter, from the pixels (0 or 1) to the features, by the names on its path
    below 'backbone'.

    Stages are counted as in their publications: layers at one resolution share a number (conv3a and conv3b,
    Mixed_4b to Mixed_4f). Raises UserError where the first name says nothing.
    """
    if path[0].lower().startswith('stem'):
        return 0
    match = STAGE.match(path[0])
    if not match:
        raise UserError(f'config.optimizer.layer_decay needs the stage of backbone/{"/".join(path)}, but its '
                        'name begins with none of stem, stage1, conv1, Conv3d_1, Mixed_3. Set layer_decay to 1.')
    return int(match.group(1))


def _map_with_names(function: Callable, tree: PyTree) -> PyTree:
    """jax.tree.map of function(path as names, leaf)."""
    def call(path, leaf):
        return function(tuple(str(getattr(key, 'key', getattr(key, 'name', key))) for key in path), leaf)
    return jax.tree_util.tree_map_with_path(call, tree)
