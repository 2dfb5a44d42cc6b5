"""The loss of a run: the sum of the terms that the configuration turns on."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.config import LossConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.losses.centre import centre_loss
from pvlad_jax.losses.circle import circle_loss
from pvlad_jax.losses.diversity import diversity_loss
from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.oim import oim_loss
from pvlad_jax.losses.triplet import batch_hard_triplet

TERMS = ('identity', 'triplet', 'circle', 'centre', 'oim', 'diversity')


def check_loss(config: LossConfig) -> None:
    """Raises UserError for a weight or a setting out of its range, and where no term tells people apart."""
    for term in TERMS:
        if getattr(config, term) < 0:
            raise UserError(f'config.loss.{term} = {getattr(config, term)} is a weight and must not be '
                            'negative; 0 turns the term off.')
    if not any(getattr(config, term) for term in TERMS if term != 'diversity'):
        raise UserError('config.loss: no term that tells people apart is on. '
                        'Give one of identity, triplet, circle, centre, oim a weight above 0.')
    if not 0 <= config.label_smoothing < 1:
        raise UserError(f'config.loss.label_smoothing = {config.label_smoothing} must lie in [0, 1).')
    if config.oim and not (config.oim_temperature > 0 and 0 <= config.oim_momentum < 1):
        raise UserError(f'config.loss: oim_temperature = {config.oim_temperature} must be above 0 and '
                        f'oim_momentum = {config.oim_momentum} in [0, 1).')


def init_loss_state(config: LossConfig, n_people: int, embedding_size: int, rng: Array) -> tuple[dict, dict]:
    """What the terms keep beside the network.

    Returns (parameters, state): `{'loss_centres': [I E]}` if the centre loss is on, to be trained with the
    network's parameters, and `{'oim_table': [I E]}` if OIM is on, to be carried from step to step. Otherwise
    empty.
    """
    check_loss(config)
    parameters, state = {}, {}
    if config.centre:
        parameters['loss_centres'] = jax.random.normal(rng, (n_people, embedding_size), jnp.float32)
    if config.oim:
        state['oim_table'] = jnp.zeros((n_people, embedding_size), jnp.float32)
    return parameters, state


def total_loss(
    config: LossConfig, output: Any, labels: Int[Array, 'B'], parameters: dict, state: dict,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], dict]:
    """The weighted sum of the terms; a term of weight 0 is not computed at all.

    Args:
      output: the network's output in training, with `logits` [B I], `feature` [B E] (before normalisation),
        `embedding` [B E] (unit vectors), `part_masks` [B S t h w P] or None, and `valid` [B S t].
      labels: numbers of the training people, 0 .. I-1.
      parameters, state: those of `init_loss_state`. Differentiate with respect to `parameters` as well.

    Returns the loss, the metrics of each term (unweighted, `loss_NAME`; with the identity term also
    `accuracy`, the share of videos whose largest logit is the right person's) and the new state.

    Gradient accumulation, where a batch goes through the network in equal parts whose gradients are averaged:
      - identity and centre are means over videos, so the average over parts is exactly the term of the whole
        batch (with live BatchNorm the network itself still sees the statistics of a part);
      - diversity is a mean over videos too, and as exact;
      - triplet and circle compare videos with each other: pairs exist within a part only. The result is the
        mean of the parts' own losses, mined among fewer people, which is a different and easier loss than the
        whole batch's, as a smaller batch gives. A part must hold whole people (both positives and negatives);
      - OIM's table moves once a part: later parts see a table that earlier ones have moved.
    """
    check_loss(config)
    terms, metrics, new_state = {}, {}, dict(state)
    if config.identity:
        terms['identity'] = cross_entropy(output.logits, labels, config.label_smoothing)
        metrics['accuracy'] = jnp.mean((jnp.argmax(output.logits, axis=-1) == labels).astype(jnp.float32))
    if config.triplet:
        terms['triplet'], watched = batch_hard_triplet(output.embedding, labels, config.triplet_margin)
        metrics |= watched
    if config.circle:
        terms['circle'] = circle_loss(output.embedding, labels, config.circle_margin, config.circle_scale)
    if config.centre:
        terms['centre'] = centre_loss(output.feature, labels, parameters['loss_centres'])
    if config.oim:
        terms['oim'], new_state['oim_table'] = oim_loss(
            output.embedding, labels, state['oim_table'], config.oim_temperature, config.oim_momentum)
    if config.diversity:
        if output.part_masks is None:
            raise UserError(f'config.loss.diversity = {config.diversity}, but this pooling has no part masks. Set it '
                            'to 0, or take model.pooling=person_vlad or part_attention with model.parts >= 1.')
        terms['diversity'] = diversity_loss(output.part_masks, output.valid)

    loss = sum(getattr(config, name) * value for name, value in terms.items())
    metrics |= {f'loss_{name}': value for name, value in terms.items()}
    return loss, metrics | {'loss': loss}, new_state
