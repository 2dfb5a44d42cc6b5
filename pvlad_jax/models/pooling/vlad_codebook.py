"""PersonVLAD: residuals of part descriptors from their words, summed over the whole video (method.md §3; NetVLAD of Arandjelović 2016).

    û = u / |u|
    a_{p,k,n} = softmax_k(w_{p,k} · û_{p,n} + b_{p,k})
    V_{p,k}   = Σ_n m_n M_{p,n} a_{p,k,n} (û_{p,n} − c_{p,k})

The mask weighs the residual: a scalar times a descriptor that is then normalised would cancel out. Everything here is float32;
`precision='highest'` because GPUs and TPUs otherwise multiply float32 with fewer bits, and w = 2αc magnifies that.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pvlad_jax.ops.l2_normalise import l2_normalise


def residual_sums(
        u: Float[Array, 'N L P D'], weight: Float[Array, 'N L P'], w: Float[Array, 'P K D'], b: Float[Array, 'P K'],
        c: Float[Array, 'P K D']) -> tuple[Float[Array, 'N P K D'], Float[Array, 'N L P K']]:
    """Sums over the L places of each clip, and the word assignments.

    `weight` is m·M. The sum is factored, `Σ (m M a) û − (Σ m M a) c`, so that no `L·K·D` tensor arises; it adds over clips.
    """
    u = l2_normalise(u)
    assignment = jax.nn.softmax(jnp.einsum('nlpd,pkd->nlpk', u, w, precision='highest') + b, axis=-1)
    weighted = weight[..., None] * assignment
    sums = jnp.einsum('nlpk,nlpd->npkd', weighted, u, precision='highest')
    sums -= jnp.sum(weighted, axis=1)[..., None] * c
    return sums, assignment


def vlad_descriptor(sums: Float[Array, 'B P K D']) -> Float[Array, 'B F']:
    """Intra-normalised word by word, flattened, L2-normalised. F = P·K·D."""
    return l2_normalise(l2_normalise(sums).reshape(sums.shape[0], -1))


class VladWords(nn.Module):
    """The words of each part: three tensors, free after their common start (training/initialisation/kmeans.py), without weight decay.

    Until a start is given they are random unit centres with α = 10.
    """

    parts: int
    words: int
    descriptor: int
    shared_codebook: bool = False

    @nn.compact
    def __call__(self, u: Float[Array, 'N L P D'], weight: Float[Array, 'N L P']) -> tuple[
            Float[Array, 'N P K D'], Float[Array, 'N L P K']]:
        books = 1 if self.shared_codebook else self.parts
        shape = (books, self.words, self.descriptor)
        centres = self.param('centres', lambda key: l2_normalise(jax.random.normal(key, shape)))
        w = self.param('assignment_weight', lambda key: 20 * l2_normalise(jax.random.normal(key, shape)))
        b = self.param('assignment_bias', lambda key: jnp.full(shape[:2], -10.0))
        w, b, centres = (jnp.broadcast_to(x, (self.parts, *x.shape[1:])) for x in (w, b, centres))
        return residual_sums(u, weight, w, b, centres)
