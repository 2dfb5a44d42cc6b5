"""Whole videos -> embeddings, in memory that does not grow with their length."""

from pvlad_jax.embedding.tracklets import EmbeddingStopped, TrackletEmbedder
from pvlad_jax.embedding.video import embed_video

__all__ = ['EmbeddingStopped', 'TrackletEmbedder', 'embed_video']
