"""The nearest gallery tracklets of single queries, for people to look at."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from pvlad_jax.evaluation.blocks import ScoreRows
from pvlad_jax.evaluation.embeddings import Labels
from pvlad_jax.evaluation.protocols import Protocol, label_arrays


class RankedList(NamedTuple):
    """The nearest gallery tracklets of some queries, ignored ones left out; -1 where the gallery ends."""

    query: Int[np.ndarray, 'b']
    gallery: Int[np.ndarray, 'b k']
    good: Bool[np.ndarray, 'b k']


def top_ranked(
    scores: ScoreRows,
    query: Labels,
    gallery: Labels,
    protocol: Protocol,
    queries: Int[np.ndarray, 'b'],
    top: int,
    unknown_cameras: str = 'refuse',
) -> RankedList:
    """The `top` nearest gallery tracklets of these queries; at equal distance those that are not good come first, as in
    the metrics.
    """
    queries = np.asarray(queries)
    good, ignored = protocol.relevance_of(queries, *label_arrays(query, gallery), unknown_cameras)
    distance: Float[np.ndarray, 'b N'] = np.where(ignored, np.inf, np.asarray(scores.rows(queries))[:, : len(gallery)])
    negatives_first = np.argsort(good, axis=1, kind='stable')
    order = smallest_k(np.take_along_axis(distance, negatives_first, axis=1), min(top, len(gallery)))
    columns = np.take_along_axis(negatives_first, order, axis=1)
    columns = np.where(np.isinf(np.take_along_axis(distance, columns, axis=1)), -1, columns)
    return RankedList(queries, columns, np.take_along_axis(good, columns, axis=1) & (columns >= 0))


def smallest_k(distances: Float[np.ndarray, 'b N'], k: int) -> Int[np.ndarray, 'b k']:
    """Columns of the k smallest of each row, smallest first, equal ones in the order of columns: a stable argsort, cut,
    at less cost.
    """
    if k >= distances.shape[1]:
        return np.argsort(distances, axis=1, kind='stable')[:, :k]
    limit = np.partition(distances, k - 1, axis=1)[:, k - 1]
    result = np.empty((len(distances), k), np.int64)
    for i, row in enumerate(distances):
        candidates = np.flatnonzero(row <= limit[i])
        result[i] = candidates[np.argsort(row[candidates], kind='stable')[:k]]
    return result
