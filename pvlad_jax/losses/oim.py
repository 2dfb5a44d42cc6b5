"""Online instance matching (Xiao et al. 2017) where everyone is labelled: no queue of unlabelled people."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.pairs import similarities
from pvlad_jax.losses.term import LossSizes, LossTerm, TermOutput

EPSILON = 1e-12


def oim_loss(
    embedding: Float[Array, 'B E'],
    labels: Int[Array, 'B'],
    table: Float[Array, 'I E'],
    temperature: float,
    momentum: float,
) -> tuple[Float[Array, ''], Float[Array, 'I E']]:
    """Cross-entropy of softmax(table @ embedding / temperature), and the table after the batch.

    The table (one unit vector a person, zero before the person is first seen) is state, not a parameter: it
    receives no gradient. Afterwards the row of each person in the batch becomes momentum · row + (1 -
    momentum) · mean of its embeddings, normalised. With one video a person this is the paper's update; the
    paper takes several one after the other, which would depend on their order.
    """
    embedding = embedding.astype(jnp.float32)
    table = jax.lax.stop_gradient(table.astype(jnp.float32))
    loss = cross_entropy(similarities(embedding, table) / temperature, labels)
    return loss, update_table(table, jax.lax.stop_gradient(embedding), labels, momentum)


def update_table(
    table: Float[Array, 'I E'], embedding: Float[Array, 'B E'], labels: Int[Array, 'B'], momentum: float
) -> Float[Array, 'I E']:
    """The table after the batch; see `oim_loss`."""
    # A product with one-hot labels, not a scatter: float additions of a scatter have no fixed order on GPUs.
    member = jax.nn.one_hot(labels, table.shape[0], dtype=jnp.float32, axis=0)
    count = jnp.sum(member, axis=1, keepdims=True)
    mean = jnp.matmul(member, embedding, precision='highest') / jnp.maximum(count, 1)
    moved = momentum * table + (1 - momentum) * mean
    moved = moved / jnp.sqrt(jnp.sum(moved**2, axis=1, keepdims=True) + EPSILON)
    return jnp.where(count > 0, moved, table)


class OimLoss(LossTerm):
    """The table `oim_table` [I E] is state.

    With accumulation it moves once a part: later parts see what earlier ones have moved.
    """

    def init(self, sizes: LossSizes, rng: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        return {}, {'oim_table': jnp.zeros((sizes.num_identities, sizes.embedding_dim), jnp.float32)}

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        loss, table = oim_loss(
            output.embedding, labels, state['oim_table'], self.config.oim_temperature, self.config.oim_momentum
        )
        return TermOutput(loss, {}, {'oim_table': table})
