"""The embedding layer that sees each part by itself."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class PartEmbedding(nn.Module):
    """Each part's share of the descriptor -> its share of the embedding, by a linear layer of its own; ours, after the
    part-wise layers of PCB (Sun, ECCV 2018).

    P times fewer weights than one layer for all: better with few training people (docs/notes/osnet_x0_5_poolings.md).

    Attributes:
      parts: P. A pooling's descriptor has its parts side by side.
      embedding_dim: E, a multiple of P.
    """

    parts: int
    embedding_dim: int

    @nn.compact
    def __call__(self, descriptor: Float[Array, 'B F']) -> Float[Array, 'B E']:
        b, size = descriptor.shape
        shape = self.parts, size // self.parts, self.embedding_dim // self.parts
        kernel = self.param('kernel', nn.initializers.lecun_normal(batch_axis=0), shape)
        bias = self.param('bias', nn.initializers.zeros_init(), (self.embedding_dim,))
        descriptor = descriptor.reshape(b, self.parts, -1)
        of_parts = jnp.einsum('bpf,pfe->bpe', descriptor, kernel, precision='highest')
        return of_parts.reshape(b, self.embedding_dim) + bias
