"""Identity classification: cross-entropy over the training people."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.term import LossTerm, TermOutput


def cross_entropy(logits: Float[Array, 'B I'], labels: Int[Array, 'B'], smoothing: float = 0.0) -> Float[Array, '']:
    """Mean over the batch of -Σ_i q_i log softmax(logits)_i with q = (1 - smoothing) one_hot(label) +
    smoothing / I.

    Label smoothing: Szegedy et al. 2016, section 7. The share `smoothing` is spread over all I people, the
    right one included.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    right = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    return -jnp.mean((1 - smoothing) * right + smoothing * jnp.mean(log_p, axis=-1))


class IdentityLoss(LossTerm):
    """Cross-entropy over the training identities, and its accuracy.

    A mean over videos: accumulation changes nothing in it.
    """

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        loss = cross_entropy(output.logits, labels, self.config.label_smoothing)
        accuracy = jnp.mean((jnp.argmax(output.logits, axis=-1) == labels).astype(jnp.float32))
        return TermOutput(loss, {'accuracy': accuracy}, {})
