"""Whole videos -> embeddings, in memory that does not grow with their length."""

from pvlad_jax.embedding.tracklets import EmbeddingStopped, TrackletEmbedder, embed_video

__all__ = ['EmbeddingStopped', 'TrackletEmbedder', 'embed_video']
