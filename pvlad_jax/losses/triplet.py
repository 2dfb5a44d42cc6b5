"""Batch-hard triplet loss (Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss", equation 5)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.pairs import mean_over, negative_pairs, positive_pairs, similarities
from pvlad_jax.losses.term import LossTerm, TermOutput

# Inside the square root: a distance of 0 has the gradient 0 instead of 0/0. Distances change by less than 1e-6.
EPSILON = 1e-12


def batch_hard_triplet(
    embedding: Float[Array, 'B E'], labels: Int[Array, 'B'], margin: float
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Mean over anchors of [margin + d(anchor, farthest positive) - d(anchor, nearest negative)]_+, d the
    Euclidean distance.

    Args:
      embedding: unit vectors.
      labels: any integers; equal means same person.
      margin: in units of distance (unit vectors are at most 2 apart); negative = soft margin, softplus of the
        difference instead of [margin + difference]_+.

    Returns the loss and what to watch: `triplet_active`, the share of anchors whose loss is above 0 (hard
    margin) or whose positive is farther than its negative (soft), and the mean hardest distances. Anchors
    without a positive or a negative in the batch are left out of the means, which are 0 if no anchor remains.
    """
    embedding = embedding.astype(jnp.float32)
    positive, negative = positive_pairs(labels), negative_pairs(labels)
    # Mining needs B x B numbers, not gradients. The distances themselves are then taken from differences of
    # the mined vectors, since 2 - 2 cos loses all digits of a small distance.
    fixed = jax.lax.stop_gradient(embedding)
    norms = jnp.sum(fixed**2, axis=-1)
    squared = norms[:, None] + norms[None, :] - 2 * similarities(fixed, fixed)
    hardest_positive = jnp.argmax(jnp.where(positive, squared, -jnp.inf), axis=1)
    hardest_negative = jnp.argmin(jnp.where(negative, squared, jnp.inf), axis=1)
    d_positive = _distance(embedding, embedding[hardest_positive])
    d_negative = _distance(embedding, embedding[hardest_negative])

    gap = d_positive - d_negative
    loss = jax.nn.softplus(gap) if margin < 0 else jax.nn.relu(margin + gap)
    anchor = positive.any(axis=1) & negative.any(axis=1)
    metrics = {
        'triplet_active': mean_over((gap + max(margin, 0.0) > 0).astype(jnp.float32), anchor),
        'triplet_positive': mean_over(d_positive, anchor),
        'triplet_negative': mean_over(d_negative, anchor),
    }
    return mean_over(loss, anchor), metrics


def _distance(a: Float[Array, 'B E'], b: Float[Array, 'B E']) -> Float[Array, 'B']:
    return jnp.sqrt(jnp.sum((a - b) ** 2, axis=-1) + EPSILON)


class TripletLoss(LossTerm):
    """Batch-hard triplets.

    With accumulation they are found within a part only: an easier loss, as of a smaller batch.
    """

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        loss, watched = batch_hard_triplet(output.embedding, labels, self.config.triplet_margin)
        return TermOutput(loss, watched, {})
