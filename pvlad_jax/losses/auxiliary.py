"""Losses of an auxiliary head on the mean of the local features, which is left out at test (deep supervision, Lee et
al. 2015, of the backbone by the plainest pooling; ours).

The idea: a pooling that tells the training people apart early may leave the backbone little to learn, and losses of the
mean may go on teaching it. That it helps is not shown (docs/notes/osnet_x0_5_poolings.md).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.term import LossSizes, LossTerm, TermOutput
from pvlad_jax.losses.triplet import batch_hard_triplet
from pvlad_jax.ops.l2_normalise import l2_normalise

EPSILON = 1e-5  # of the variance, as in the BatchNorm of the network


def batch_normalised(x: Float[Array, 'B E']) -> Float[Array, 'B E']:
    """Each channel with mean 0 and variance 1 over the batch. There are no running averages: at test there is no
    auxiliary head.
    """
    mean = jnp.mean(x, axis=0)
    variance = jnp.mean((x - mean) ** 2, axis=0)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON)


class AuxiliaryLoss(LossTerm):
    """Mean of the local features -> layer -> BatchNorm -> classifier: config.loss.identity times the cross-entropy of
    its logits, and config.loss.triplet times the triplet loss before the BatchNorm.

    Parameters: `loss_auxiliary_layer` [C E], `loss_auxiliary_bias` and `loss_auxiliary_scale` [E],
    `loss_auxiliary_classifier` [E I]. With accumulation, BatchNorm and triplets see a part of the batch only.
    """

    def init(self, sizes: LossSizes, rng: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        layer, classifier = jax.random.split(rng)
        e = sizes.embedding_dim
        return {
            'loss_auxiliary_layer': jax.nn.initializers.lecun_normal()(layer, (sizes.channels, e)),
            'loss_auxiliary_bias': jnp.zeros(e),
            'loss_auxiliary_scale': jnp.ones(e),
            'loss_auxiliary_classifier': 0.02 * jax.random.normal(classifier, (e, sizes.num_identities)),
        }, {}

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        layer, bias, scale, classifier = (
            params[f'loss_auxiliary_{name}'].astype(jnp.float32) for name in ('layer', 'bias', 'scale', 'classifier')
        )
        feature = jnp.matmul(output.mean_feature.astype(jnp.float32), layer, precision='highest') + bias
        logits = jnp.matmul(batch_normalised(feature) * scale, classifier, precision='highest')
        identity = cross_entropy(logits, labels, self.config.label_smoothing)
        triplet, _ = batch_hard_triplet(l2_normalise(feature), labels, self.config.triplet_margin)
        accuracy = jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))
        value = self.config.identity * identity + self.config.triplet * triplet
        return TermOutput(value, {'auxiliary_accuracy': accuracy}, {})
