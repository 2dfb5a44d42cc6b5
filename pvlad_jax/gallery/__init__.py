"""Stored embeddings that can be searched."""
