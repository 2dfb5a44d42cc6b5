"""What became of every query: the rank of its first match, its nearest tracklets with their distances, and over all
queries the distances of pairs of one person and of two, and the accuracy from camera to camera.

In blocks of queries: memory does not grow with their number times the gallery's.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pvlad_jax.evaluation.blocks import queries_at_a_time
from pvlad_jax.evaluation.embeddings import Embeddings, Labels
from pvlad_jax.evaluation.protocols import LabelArrays, Protocol, label_arrays
from pvlad_jax.evaluation.ranked_lists import smallest_k
from pvlad_jax.report.distance_histogram import DistanceHistogram


@dataclasses.dataclass(frozen=True)
class QueryOutcomes:
    """One row a query; ignored tracklets (junk, the query's own camera) are left out everywhere.

    Attributes:
      first_rank: of the first match, 1 = nearest; 0 where there is none to find.
      nearest: rows of the gallery, -1 where it ends; right: whether each is a match.
      edges, one_person, two_people: histogram of distances, counts of pairs; from 0, or from the least where a learned
        distance is negative.
      camera_pairs: (query camera, gallery camera) to (queries whose nearest tracklet of that camera is right, queries
        that have a match there).
    """

    first_rank: Int[np.ndarray, 'Q']
    nearest: Int[np.ndarray, 'Q k']
    distance: Float[np.ndarray, 'Q k']
    right: Bool[np.ndarray, 'Q k']
    edges: Float[np.ndarray, 'b1']
    one_person: Int[np.ndarray, 'b']
    two_people: Int[np.ndarray, 'b']
    camera_pairs: dict[tuple[int, int], tuple[int, int]]

    def worst_first(self) -> Int[np.ndarray, 'n']:
        """The queries that have something to find, those found last first; at one rank, the least clear match first."""
        valid = np.flatnonzero(self.first_rank > 0)
        return valid[np.lexsort((-self.distance[valid, 0], -self.first_rank[valid]))]


def query_outcomes(
    scores: Any, query: Embeddings, gallery: Embeddings, protocol: Protocol, top: int, unknown_cameras: str = 'refuse'
) -> QueryOutcomes:
    """Ranks every query. Ties are counted as in the metrics: a tracklet that is no match comes first.

    Args:
      scores: what has `rows`, `distances` and `shape`, made by `scoring.score_rows` of the same tables. As in the
        metrics, `rows` rank: learned distances can be so large that `distances` ties what these tell apart.
      query, gallery: as `scoring.ranked_tables` gives them.
      top: k, nearest tracklets of each query.
    """
    n_query, n_gallery = scores.shape
    top, block = min(top, n_gallery), queries_at_a_time(n_gallery)
    query_labels, gallery_labels = label_arrays(query, gallery)
    first_rank, nearest = np.zeros(n_query, np.int64), np.full((n_query, top), -1)
    distance, right = np.zeros((n_query, top)), np.zeros((n_query, top), bool)
    histogram = DistanceHistogram(2)
    pairs: dict[tuple[int, int], tuple[int, int]] = {}
    for start in range(0, n_query, block):
        index = np.arange(start, min(start + block, n_query))
        good, ignored = protocol.relevance(
            LabelArrays(*(labels[index][:, None] for labels in query_labels)),
            LabelArrays(*(labels[None, :] for labels in gallery_labels)),
            unknown_cameras,
        )
        found, shown = (
            np.where(ignored, np.inf, np.asarray(of(index), np.float64)[:, :n_gallery])
            for of in (scores.rows, scores.distances)
        )
        best = np.where(good, found, np.inf).min(1)
        first_rank[index] = np.where(np.isfinite(best), 1 + (~good & (found <= best[:, None])).sum(1), 0)
        wrong_first = np.argsort(good, axis=1, kind='stable')
        columns = np.take_along_axis(wrong_first, smallest_k(np.take_along_axis(found, wrong_first, 1), top), 1)
        distance[index] = np.take_along_axis(shown, columns, 1)
        nearest[index] = np.where(np.isinf(distance[index]), -1, columns)
        right[index] = np.take_along_axis(good, columns, 1)
        histogram.add(shown[good & ~ignored], shown[~good & ~ignored])
        _count_cameras(pairs, query.camera_id[index], gallery, found, good)
    return QueryOutcomes(first_rank, nearest, distance, right, histogram.edges, *histogram.counts, pairs)


def _count_cameras(pairs: dict, cameras: np.ndarray, gallery: Labels, found: np.ndarray, good: np.ndarray) -> None:
    for camera in np.unique(gallery.camera_id):
        there = gallery.camera_id == camera
        best = np.where(good[:, there], found[:, there], np.inf).min(1)
        wrong = np.where(good[:, there], np.inf, found[:, there]).min(1)
        for own in np.unique(cameras):
            asked = (cameras == own) & np.isfinite(best)
            if asked.any():
                before = pairs.get((int(own), int(camera)), (0, 0))
                pairs[int(own), int(camera)] = (
                    before[0] + int((best[asked] < wrong[asked]).sum()),
                    before[1] + int(asked.sum()),
                )
