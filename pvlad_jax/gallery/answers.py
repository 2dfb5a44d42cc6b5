"""What a search gives its caller."""

import dataclasses
from typing import Any

from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.local_store import Found


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was found for a query: its tracklet, and the hits, nearest first.

    A hit has the columns of the table, and `distance` (1 - cosine).
    """

    query: str
    hits: list[dict[str, Any]]


def answers(queries: EmbeddingTable, found: Found) -> list[Answer]:
    """One for each query."""
    return [
        Answer(
            name,
            [{'distance': float(d), **{c: v for c, v in row.items() if c != 'id'}} for d, row in zip(distances, rows)],
        )
        for name, (distances, rows) in zip(queries.names, found)
    ]
