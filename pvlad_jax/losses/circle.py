"""Circle loss with pair-wise labels (Sun et al. 2020, equations 4 to 8)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.pairs import mean_over, negative_pairs, positive_pairs, similarities
from pvlad_jax.losses.term import LossTerm, TermOutput

# Stands for exp(x) = 0 in a log-sum-exp. Finite, since -inf - -inf is NaN where an anchor has no pair at all.
MASKED_LOGIT = -1e30


def circle_loss(
    embedding: Float[Array, 'B E'], labels: Int[Array, 'B'], margin: float, scale: float
) -> Float[Array, '']:
    """Mean over anchors of log(1 + Σ_n exp(γ α_n (s_n - m)) Σ_p exp(-γ α_p (s_p - (1 - m)))), s the cosine
    similarities to the others.

    α_p = [1 + m - s_p]_+ and α_n = [s_n + m]_+ weigh each pair and carry no gradient, as
    the paper has it. `scale` is γ. Anchors without a positive or a negative in the batch are left out.
    """
    s = similarities(embedding, embedding)
    fixed = jax.lax.stop_gradient(s)
    positive, negative = positive_pairs(labels), negative_pairs(labels)
    logit_p = -scale * jax.nn.relu(1 + margin - fixed) * (s - (1 - margin))
    logit_n = scale * jax.nn.relu(fixed + margin) * (s - margin)
    both = jax.nn.logsumexp(jnp.where(positive, logit_p, MASKED_LOGIT), axis=1) + jax.nn.logsumexp(
        jnp.where(negative, logit_n, MASKED_LOGIT), axis=1
    )
    return mean_over(jax.nn.softplus(both), positive.any(axis=1) & negative.any(axis=1))


class CircleLoss(LossTerm):
    """With accumulation pairs exist within a part only, as for triplets."""

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        loss = circle_loss(output.embedding, labels, self.config.circle_margin, self.config.circle_scale)
        return TermOutput(loss, {}, {})
