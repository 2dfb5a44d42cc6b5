"""From embeddings or a distance matrix and labels to a result."""

from typing import Any

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import JUNK
from pvlad_jax.evaluation.blocks import ScoreRows
from pvlad_jax.evaluation.cmc_map import Ranking, rank
from pvlad_jax.evaluation.distances import check_matrix, learned_metric, pairwise_distance
from pvlad_jax.evaluation.embeddings import Embeddings, Labels, one_model
from pvlad_jax.evaluation.metric_learning import LearnedMetric
from pvlad_jax.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    check_labels,
    compose_gallery,
    label_arrays,
    nothing_found,
    searched_gallery,
)
from pvlad_jax.evaluation.reranking import RerankedDistance, k_reciprocal
from pvlad_jax.evaluation.result import Result

_CMC_RANKS = 50


def score(
    query: Embeddings,
    gallery: Embeddings,
    protocol: str = 'mars_official',
    distance: str = 'cosine',
    rerank: bool = False,
    *,
    train: Embeddings | None = None,
    unknown_cameras: str = 'refuse',
    dataset: str = '',
    split: str = '',
    step: int | None = None,
    frames: str = 'all',
    convention: str = '',
    partial: bool = False,
) -> Result:
    """Scores embeddings by a protocol.

    Args:
      protocol: a name of `protocols.PROTOCOLS`; `protocols.default_protocol` chooses by whether cameras are known.
      gallery: with or without the queries; tracklet names tell (`protocols.compose_gallery`).
      distance: one of `distances.DISTANCES`.
      rerank: k-reciprocal re-ranking among queries and gallery without junk.
      train: the training set's embeddings, for the distances that are learned from them.
      unknown_cameras: what the protocol does with camera -1 (`protocols.same_camera`); 'refuse' = an error where it
        matters.
      dataset, split, step, frames, convention, partial: go into the result as they are.

    Raises:
      UserError: labels or embeddings that do not fit together, that hold NaN or Inf, or that leave no valid query.
    """
    one_model({'queries': query, 'gallery': gallery, 'training set': train})
    query, gallery, chosen = ranked_tables(query, gallery, protocol, unknown_cameras)
    scores = score_rows(query, gallery, distance, rerank, train)
    ranking = rank(scores, *label_arrays(query, gallery), chosen, unknown_cameras)
    return _result(
        ranking,
        gallery,
        protocol=protocol,
        distance=distance,
        rerank=rerank,
        unknown_cameras=unknown_cameras,
        dataset=dataset,
        split=split,
        step=step,
        frames=frames,
        convention=convention,
        partial=partial,
    )


def score_matrix(
    matrix: Any,
    query: Labels,
    gallery: Labels,
    protocol: str = 'mars_official',
    *,
    distance: str = 'given',
    unknown_cameras: str = 'refuse',
    dataset: str = '',
    split: str = '',
    step: int | None = None,
    frames: str = '',
    convention: str = '',
    partial: bool = False,
) -> Result:
    """Scores a matrix of distances [queries, gallery], finite floats, smaller = nearer; the other arguments as in
    `score`.

    For a protocol whose gallery includes the queries, the columns must include them too.
    """
    query, gallery, chosen = query.checked('queries'), gallery.checked('gallery'), PROTOCOLS[protocol]
    scores = check_matrix(matrix)
    if scores.shape != (len(query), len(gallery)):
        raise UserError(
            f'The distance matrix is {scores.shape[0]} x {scores.shape[1]}, but there are labels of {len(query)} '
            f'queries and {len(gallery)} gallery tracklets.'
        )
    rows, append = compose_gallery(chosen, query, gallery)
    if append:
        raise UserError(
            f'{protocol} searches the queries too, but the distance matrix has no columns for them. '
            'Add them, or choose gallery_only.'
        )
    if len(rows) < len(gallery):
        gallery, scores = gallery.select(rows), check_matrix(scores.matrix[:, rows])
    check_labels(chosen, query, gallery, unknown_cameras)
    ranking = rank(scores, *label_arrays(query, gallery), chosen, unknown_cameras)
    return _result(
        ranking,
        gallery,
        protocol=protocol,
        distance=distance,
        rerank=False,
        unknown_cameras=unknown_cameras,
        dataset=dataset,
        split=split,
        step=step,
        frames=frames,
        convention=convention,
        partial=partial,
    )


def ranked_tables(
    query: Embeddings, gallery: Embeddings, protocol: str, unknown_cameras: str = 'refuse'
) -> tuple[Embeddings, Embeddings, Protocol]:
    """Checked queries, the gallery that the protocol searches, and the protocol."""
    chosen = PROTOCOLS[protocol]
    one_model({'queries': query, 'gallery': gallery})
    query, gallery = query.checked('queries'), gallery.checked('gallery')
    if query.embedding.shape[1] != gallery.embedding.shape[1]:
        raise UserError(
            f'Embeddings of queries have {query.embedding.shape[1]} numbers, those of the gallery '
            f'{gallery.embedding.shape[1]}. They must come from the same network.'
        )
    gallery = searched_gallery(chosen, query, gallery)
    check_labels(chosen, query, gallery, unknown_cameras)
    return query, gallery, chosen


def score_rows(
    query: Embeddings,
    gallery: Embeddings,
    distance: str = 'cosine',
    rerank: bool = False,
    train: Embeddings | None = None,
) -> ScoreRows:
    """What ranks the gallery as it is given (made by `ranked_tables`)."""
    learned = learned_metric(distance, None if train is None else train.checked('training set'))
    return score_rows_by(query, gallery, distance, rerank, learned)


def score_rows_by(
    query: Embeddings, gallery: Embeddings, distance: str, rerank: bool, learned: LearnedMetric | None
) -> ScoreRows:
    """As `score_rows`, for those who have the learned metric (`distances.learned_metric`) and use it for more."""
    if rerank:
        return reranked(query, gallery, distance, learned)
    return pairwise_distance(query, gallery, distance, learned)


def reranked(query: Embeddings, gallery: Embeddings, distance: str, learned: LearnedMetric | None) -> RerankedDistance:
    """Re-ranks among the gallery without junk and the queries, each tracklet once."""
    people = np.flatnonzero(gallery.person_id != JUNK)
    all_tracklets = gallery.select(people)
    known = {name: row for row, name in enumerate(all_tracklets.tracklet.tolist())}
    outside = np.array([name not in known for name in query.tracklet.tolist()])
    known |= {name: len(all_tracklets) + i for i, name in enumerate(query.tracklet[outside].tolist())}
    query_rows = np.array([known[name] for name in query.tracklet.tolist()])
    all_tracklets = all_tracklets.join(query.select(outside))
    pairwise = pairwise_distance(all_tracklets, all_tracklets, distance, learned)
    return k_reciprocal(pairwise, query_rows, columns=people, n_columns=len(gallery))


def _result(ranking: Ranking, gallery: Labels, **conditions) -> Result:
    valid = ranking.valid
    if not valid.any():
        raise UserError(nothing_found(PROTOCOLS[conditions['protocol']], len(valid), len(gallery)))
    cmc = ranking.cmc(_CMC_RANKS)
    mean = {
        name: float(np.mean(getattr(ranking, field)[valid]))
        for name, field in (('mAP', 'ap'), ('mAP_trapezoidal', 'ap_trapezoidal'), ('mINP', 'inp'))
    }
    return Result(
        n_query=len(valid),
        n_query_valid=int(valid.sum()),
        n_gallery=len(gallery),
        n_junk=int(np.sum(gallery.person_id == JUNK)),
        **mean,
        **{f'rank_{k}': float(cmc[k - 1]) for k in (1, 5, 10, 20)},
        cmc=[float(c) for c in cmc],
        **conditions,
    )
