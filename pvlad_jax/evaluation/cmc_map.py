"""Exact CMC, AP and INP from blocks of score rows: no sorting of the gallery, no full distance matrix.

Only the ranks of the good tracklets matter, and a rank is a count: with a query's good scores sorted, s_1 <= ... <=
s_m, the j-th stands at rank j + (how many negatives score <= s_j). So a block of queries is scored against the whole
gallery once, its good scores are picked out of the very same numbers, and the negatives below them are counted. Memory:
queries of a block x gallery.

Ties: a negative that ties with a good tracklet is ranked before it (pessimistic). So results do not depend on the order
of the gallery, and a network that gives every tracklet the same embedding gets the worst result, not a lucky one.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation.blocks import TILE, ScoreRows, padded_size, queries_at_a_time
from pvlad_jax.evaluation.protocols import LabelArrays, MatchLists, Protocol

TIE_RULE = 'pessimistic: a negative that ties with a good tracklet is ranked before it'
# Up to this number of matches a query, one pass over the scores for each is cheaper than a binary search of every score
# among them.
_MAX_PASSES = 64


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What the metrics are made of, one entry a query.

    Queries without a good tracklet have num_matches 0 and NaN elsewhere.
    """

    num_matches: Int[np.ndarray, 'Q']
    first_rank: Float[np.ndarray, 'Q']  # 1 = best; ignored tracklets do not count
    ap: Float[np.ndarray, 'Q']  # mean over good tracklets of the precision at their rank
    ap_trapezoidal: Float[np.ndarray, 'Q']  # of the official MARS code: Σ Δrecall (precision before + precision) / 2
    inp: Float[np.ndarray, 'Q']  # num_matches / rank of the last one (Ye et al., TPAMI 2021)

    @property
    def valid(self) -> Bool[np.ndarray, 'Q']:
        """Which queries have something to find; the metrics are means over these."""
        return self.num_matches > 0

    def cmc(self, ranks: int) -> Float[np.ndarray, 'R']:
        """Share of the valid queries with a good tracklet at rank 1, up to 2, ..., up to `ranks`."""
        first = self.first_rank[self.valid]
        return np.array([np.mean(first <= k) for k in range(1, ranks + 1)])


def rank(
    scores: ScoreRows, query: LabelArrays, gallery: LabelArrays, protocol: Protocol, unknown_cameras: str = 'refuse'
) -> Ranking:
    """Ranks of every query's good tracklets, and AP and INP from them.

    Args:
      scores: queries x gallery.
      query, gallery: labels (NumPy, int32) in the order of its rows and columns.
    """
    n_query, n_gallery = scores.shape
    if (n_query, n_gallery) != (len(query.person), len(gallery.person)):
        raise UserError(
            f'Scores are {n_query} x {n_gallery}, but there are labels of {len(query.person)} queries '
            f'and {len(gallery.person)} gallery tracklets.'
        )
    match_lists = MatchLists(query, gallery, protocol, unknown_cameras)
    num_matches = match_lists.counts()
    ranking = Ranking(num_matches, *(np.full(n_query, np.nan) for _ in range(4)))
    width = padded_size(n_gallery)
    padding = width - n_gallery
    # Person -1: ignored.
    device_gallery = LabelArrays(*(jnp.asarray(np.pad(labels, (0, padding), constant_values=-1)) for labels in gallery))
    rules = {'relevance': protocol.relevance, 'unknown_cameras': unknown_cameras}
    block = queries_at_a_time(width)
    # Queries with about as many good tracklets share a block, since all rows of it take as many passes as the longest.
    by_count = np.argsort(num_matches, kind='stable')
    by_count = by_count[num_matches[by_count] > 0]
    for start in range(0, len(by_count), block):
        index = by_count[start : start + block]
        filled = np.pad(index, (0, block - len(index)), mode='edge')  # one compiled shape
        columns = match_lists.columns(filled, size=_list_size(int(num_matches[index].max())))
        query_block = LabelArrays(*(jnp.asarray(labels[filled][:, None]) for labels in query))
        counts = jnp.asarray(num_matches[filled].astype(np.int32))
        ranks = _ranks(scores.rows(filled), jnp.asarray(columns), counts, query_block, device_gallery, **rules)
        metrics = precision_metrics(np.asarray(ranks)[: len(index)], num_matches[index])
        for values, target in zip(metrics, (ranking.first_rank, ranking.ap, ranking.ap_trapezoidal, ranking.inp)):
            target[index] = values
    return ranking


def _list_size(num_matches: int) -> int:
    """16, 64, 256, ...: few compiled shapes."""
    size = 16
    while size < num_matches:
        size *= 4
    return size


@functools.partial(jax.jit, static_argnames=('relevance', 'unknown_cameras'))
def _ranks(
    scores: Float[Array, 'b N'],
    columns: Int[Array, 'b M'],
    num_matches: Int[Array, 'b'],
    query: LabelArrays,
    gallery: LabelArrays,
    *,
    relevance,
    unknown_cameras: str,
) -> Int[Array, 'b M']:
    """Ranks, rising from 1, of the good tracklets that `columns` lists; entries from num_matches on mean nothing."""
    place = jnp.arange(columns.shape[1])[None, :]
    match_scores = jnp.take_along_axis(scores, columns, axis=1)
    match_scores = jnp.sort(jnp.where(place < num_matches[:, None], match_scores, jnp.inf), axis=1)
    count = _count_by_passes if columns.shape[1] <= _MAX_PASSES else _count_by_search
    width = scores.shape[1]
    tile = min(TILE, width) if jax.default_backend() == 'cpu' else width

    def add_tile(i, counts):
        tile_scores, *labels = (
            jax.lax.dynamic_slice_in_dim(a, i * tile, tile, axis=1) for a in (scores, *(g[None, :] for g in gallery))
        )
        good, ignored = relevance(query, LabelArrays(*labels), unknown_cameras)
        return counts + count(jnp.where(good | ignored, jnp.inf, tile_scores), match_scores, num_matches)

    return place + 1 + jax.lax.fori_loop(0, width // tile, add_tile, jnp.zeros(columns.shape, jnp.int32))


def _count_by_passes(
    scores: Float[Array, 'b N'], thresholds: Float[Array, 'b M'], num_matches: Int[Array, 'b']
) -> Int[Array, 'b M']:
    """How many scores of each row are <= each threshold: one pass over the scores for each."""

    def one_pass(j, counts):
        threshold = jax.lax.dynamic_slice_in_dim(thresholds, j, 1, axis=1)
        count = jnp.sum(scores <= threshold, axis=1, keepdims=True, dtype=jnp.float32)
        return jax.lax.dynamic_update_slice_in_dim(counts, count, j, axis=1)

    # Sums of ones are exact in float32 below 2^24, and on CPU float sums run on all lanes.
    assert scores.shape[1] < 2**24
    return jax.lax.fori_loop(0, num_matches.max(), one_pass, jnp.zeros(thresholds.shape, jnp.float32)).astype(jnp.int32)


def _count_by_search(
    scores: Float[Array, 'b N'], thresholds: Float[Array, 'b M'], num_matches: Int[Array, 'b']
) -> Int[Array, 'b M']:
    """The same: every score finds its place among the thresholds, a histogram of places, its running sum."""
    place = jax.vmap(jnp.searchsorted)(thresholds, scores)
    histogram = jax.vmap(lambda p: jnp.zeros(thresholds.shape[1] + 1, jnp.int32).at[p].add(1))(place)
    return jnp.cumsum(histogram, axis=1)[:, :-1]


def precision_metrics(
    ranks: Int[np.ndarray, 'b M'], num_matches: Int[np.ndarray, 'b']
) -> tuple[Float[np.ndarray, 'b'], ...]:
    """(first rank, AP, trapezoidal AP, INP) of each row from the ranks of its matches, rising, of which the first
    num_matches count.
    """
    ranks = ranks.astype(np.float64)
    nth = np.arange(1, ranks.shape[1] + 1)[None, :]
    counts = nth <= num_matches[:, None]
    precision = nth / ranks
    # At the rank before, one good tracklet fewer has been seen; before rank 1 the official code starts at 1.
    before = np.where(ranks > 1, (nth - 1) / np.maximum(ranks - 1, 1), 1.0)
    ap = np.sum(precision, axis=1, where=counts) / num_matches
    trapezoidal = np.sum((before + precision) / 2, axis=1, where=counts) / num_matches
    last = np.take_along_axis(ranks, num_matches[:, None] - 1, axis=1)[:, 0]
    return ranks[:, 0], ap, trapezoidal, num_matches / last
