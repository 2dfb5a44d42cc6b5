"""Centre loss (Wen et al. 2016)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.term import LossSizes, LossTerm, TermOutput


def centre_loss(
    feature: Float[Array, 'B E'], labels: Int[Array, 'B'], centres: Float[Array, 'I E']
) -> Float[Array, '']:
    """1/2 mean over the batch of |feature - centres[label]|², on features *before* normalisation.

    The centres are parameters: both they and the features receive gradients, and the run's optimiser moves
    the centres (without weight decay). The paper instead moves a centre by a fixed share of the mean
    difference (its equation 4); the direction is the same, the step is the optimiser's. People that are not
    in the batch have zero gradient, so only an optimiser's momentum moves their centres.
    """
    difference = feature.astype(jnp.float32) - centres.astype(jnp.float32)[labels]
    return 0.5 * jnp.mean(jnp.sum(difference**2, axis=-1))


class CentreLoss(LossTerm):
    """A mean over videos: accumulation changes nothing in it. The centres `loss_centres` [I E] are parameters."""

    def init(self, sizes: LossSizes, rng: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        return {'loss_centres': jax.random.normal(rng, (sizes.num_identities, sizes.embedding_dim), jnp.float32)}, {}

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        return TermOutput(centre_loss(output.feature, labels, params['loss_centres']), {}, {})
