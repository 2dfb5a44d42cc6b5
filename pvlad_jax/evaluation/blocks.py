"""Galleries are ranked in blocks of queries: what gives a block's scores, and how large it is."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

# The most scores of a block (256 MB), and at least 8 queries. 128 rows already bring a product to full speed on CPU.
_BLOCK_SCORES = 2**26
_BLOCK_QUERIES = 128
# Galleries are padded to a multiple: few compiled shapes, and every column of a product goes through the same code.
_SMALL_MULTIPLE = 256
# The number of columns that a CPU compares with every threshold in turn: their scores (1 MB) stay in a core's cache;
# passes over whole rows of a large gallery would wait for memory.
TILE = 2048


@runtime_checkable
class ScoreRows(Protocol):
    """What ranks a gallery: smaller scores are nearer. Scores are comparable within a row, not between rows."""

    shape: tuple[int, int]  # queries, gallery

    def rows(self, index: Int[np.ndarray, 'b']) -> Float[Array, 'b N']:
        """The scores of these queries; columns from shape[1] on, up to padded_size(shape[1]), are padding."""


def padded_size(n_gallery: int) -> int:
    """The number of columns of a block's scores, for a gallery of this size."""
    multiple = _SMALL_MULTIPLE if n_gallery <= TILE else TILE
    return -(-n_gallery // multiple) * multiple


def queries_at_a_time(width: int) -> int:
    """How many queries are scored against `width` gallery columns in a block."""
    return max(8, min(_BLOCK_QUERIES, _BLOCK_SCORES // width // 8 * 8))
