"""k-reciprocal re-ranking in sparse matrices equals a plain dense one, in less memory than one dense matrix."""

import dataclasses
import tracemalloc
import warnings

import numpy as np
import pytest

from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.distances import pairwise_distance
from pvlad_jax.evaluation.metric_learning import LearnedMetric
from pvlad_jax.evaluation.ranked_lists import smallest_k
from pvlad_jax.evaluation.reranking import k_reciprocal


def people(n_people, size=8, seed=0, each=4):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(1, n_people + 1), each)
    x = rng.standard_normal((n_people + 1, size))[person] + 0.6 * rng.standard_normal((len(person), size))
    return Embeddings(
        embedding=x.astype(np.float32),
        person_id=person,
        camera_id=np.tile(np.arange(each), n_people),
        tracklet=np.array([f't{i}' for i in range(len(person))]),
    )


def dense(distances, k1, k2, share):
    """Zhong 2017, sections 3.2 to 3.5, with sets and a dense matrix, for all_tracklets against all_tracklets."""
    n = len(distances)
    distances = distances / distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind='stable')

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    v = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        expanded = set(own)
        for j in own:
            theirs = reciprocal(j, int(np.around(k1 / 2)))
            if len(theirs & own) > 2 / 3 * len(theirs):
                expanded |= theirs
        members = sorted(expanded)
        v[i, members] = np.exp(-distances[i, members]) / np.exp(-distances[i, members]).sum()
    v = np.stack([v[order[i, :k2]].mean(axis=0) for i in range(n)])
    jaccard = np.array([[1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in v] for a in v])
    return (1 - share) * jaccard + share * distances


@pytest.mark.parametrize(('k1', 'k2', 'share'), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 0.8)])
@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
def test_equals_the_dense_form(k1, k2, share, distance):
    all_tracklets = people(15)
    pairwise = pairwise_distance(all_tracklets, all_tracklets, distance)
    original = pairwise.distances(np.arange(60))
    np.fill_diagonal(original, 0)
    queries = np.array([3, 0, 17, 44, 59])
    sparse = k_reciprocal(pairwise, queries, k1=k1, k2=k2, share=share)
    np.testing.assert_allclose(
        sparse.distances(np.arange(5)), dense(original.astype(float), k1, k2, share)[queries], atol=2e-6
    )
    np.testing.assert_array_equal(np.asarray(sparse.rows(np.array([2, 1])))[:, :60], sparse.distances(np.array([2, 1])))


def test_junk_takes_no_part_and_queries_count_once():
    all_tracklets = people(15)
    query = all_tracklets.select(np.arange(0, 60, 4))
    rest = all_tracklets.select(np.arange(60) % 4 != 0)
    rng = np.random.default_rng(1)
    junk = Embeddings(
        embedding=rng.standard_normal((9, 8)).astype(np.float32),
        person_id=np.full(9, -1),
        camera_id=np.zeros(9, int),
        tracklet=np.array([f'junk{i}' for i in range(9)]),
    )
    results = [
        score(query, gallery, rerank=True)
        for gallery in (rest, all_tracklets, rest.join(junk), junk.join(all_tracklets))
    ]
    for other in results[1:]:
        np.testing.assert_allclose(
            (other.mAP, other.mINP, other.rank_1), (results[0].mAP, results[0].mINP, results[0].rank_1), atol=1e-12
        )
    assert all(r.rerank for r in results)


def test_a_metric_of_negative_distances_gives_finite_ones():
    all_tracklets = people(5)
    metric = LearnedMetric(np.eye(8), -np.ones(8))  # the farther, the lower
    pairwise = pairwise_distance(all_tracklets, all_tracklets, 'xqda', metric)
    distances = k_reciprocal(pairwise, np.arange(20), share=0.5).distances(np.arange(20))
    assert np.isfinite(distances).all() and np.abs(distances).max() <= 1 + 1e-5


def test_more_equal_embeddings_than_neighbours():
    """As of duplicated files: each tracklet is its own nearest one, whichever others are at distance 0 too."""
    same = people(10)  # four tracklets of each
    same = dataclasses.replace(same, embedding=np.eye(8, dtype=np.float32)[np.zeros(len(same), int)])
    pairwise = pairwise_distance(same, same)
    with warnings.catch_warnings(action='error'):
        distances = k_reciprocal(pairwise, np.arange(40)).distances(np.arange(40))
    assert np.isfinite(distances).all() and (np.diag(distances) <= distances.min(1) + 1e-6).all()


def test_helps_where_people_form_clusters():
    all_tracklets = people(40, size=8, each=12)
    query = all_tracklets.select(np.arange(0, 480, 12))
    assert score(query, all_tracklets, rerank=True).mAP > score(query, all_tracklets).mAP + 0.03


@pytest.mark.parametrize('k', [1, 3, 20, 50])
def test_smallest_is_a_stable_argsort_cut(k):
    distances = np.random.default_rng(0).integers(0, 8, (6, 20)).astype(np.float32)
    np.testing.assert_array_equal(smallest_k(distances, k), np.argsort(distances, axis=1, kind='stable')[:, :k])


def test_fewer_tracklets_than_neighbours():
    all_tracklets = people(3)
    assert score(all_tracklets.select([0, 4]), all_tracklets, rerank=True).n_query_valid == 2


def test_memory_stays_below_one_dense_matrix():
    all_tracklets = people(900)
    n = len(all_tracklets)
    pairwise = pairwise_distance(all_tracklets, all_tracklets, 'cosine')
    tracemalloc.start()
    reranked = k_reciprocal(pairwise, np.arange(256))
    reranked.distances(np.arange(128))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 4
