"""Laws of CMC, AP and INP: values worked out by hand, and equality with a plain evaluator that sorts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, Labels, cmc_map, score, score_matrix
from pvlad_jax.evaluation import blocks as blocks_module
from pvlad_jax.evaluation.cmc_map import rank
from pvlad_jax.evaluation.distances import check_matrix
from pvlad_jax.evaluation.protocols import PROTOCOLS, label_arrays
from tests.helpers.cmc_map_oracle import evaluate


def labels(person, camera, prefix='t'):
    return Labels(
        person_id=np.array(person, np.int32),
        camera_id=np.array(camera, np.int32),
        tracklet=np.array([f'{prefix}{i}' for i in range(len(person))]),
    )


def table(ranking):
    return np.stack([ranking.num_matches, ranking.first_rank, ranking.ap, ranking.ap_trapezoidal, ranking.inp], axis=1)


# By hand. Gallery in the order of both queries' distances:
#   tracklet      g0       g1       g2     g3       g4          g5
#   person,cam    2,1      1,2      junk   1,1      distractor  1,3
# Query a (person 1, camera 1): g0 negative, g1 good, g2 and g3 ignored, g4 negative, g5 good: ranks 2 and 4.
#   AP = (1/2 + 2/4) / 2 = 1/2. Trapezoidal: ((0 + 1/2)/2 + (1/3 + 2/4)/2) / 2 = (1/4 + 5/12) / 2 = 1/3. INP = 2/4.
# Query b (person 2, camera 3): g0 good at rank 1. AP 1; trapezoidal (1 + 1)/2 = 1; INP 1.
# Query c (person 9): nobody; skipped.
GALLERY = labels([2, 1, -1, 1, 0, 1], [1, 2, 1, 1, 4, 3], 'g')
QUERY = labels([1, 2, 9], [1, 3, 1], 'q')
DISTANCES = np.tile(np.linspace(0.1, 0.6, 6, dtype=np.float32), (3, 1))


def test_values_worked_out_by_hand():
    result = score_matrix(DISTANCES, QUERY, GALLERY, 'gallery_only')
    assert (result.n_query, result.n_query_valid, result.n_gallery) == (3, 2, 5)
    assert result.mAP == pytest.approx((1 / 2 + 1) / 2)
    assert result.mAP_trapezoidal == pytest.approx((1 / 3 + 1) / 2)
    assert result.mINP == pytest.approx((1 / 2 + 1) / 2)
    assert (result.rank_1, result.rank_5) == (0.5, 1.0)
    assert result.cmc[:3] == [0.5, 1.0, 1.0]


def test_a_tie_is_counted_against_the_result():
    # All at one distance: a's good ones stand behind both negatives at 3 and 4, b's behind its four negatives at 5.
    ranking = rank(check_matrix(np.zeros((3, 6), np.float32)), *label_arrays(QUERY, GALLERY), PROTOCOLS['gallery_only'])
    np.testing.assert_allclose(table(ranking)[:2, :3], [[2, 3, (1 / 3 + 2 / 4) / 2], [1, 5, 1 / 5]])
    assert ranking.num_matches[2] == 0 and np.isnan(ranking.ap[2])


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(PROTOCOLS)),
    st.sampled_from(['refuse', 'other', 'ignore']),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_plain_evaluator(seed, protocol, unknown_cameras, ties):
    rng = np.random.default_rng(seed)
    n_query, n_gallery, people = rng.integers(1, 12), rng.integers(1, 60), rng.integers(1, 8)
    lowest_camera = 0 if unknown_cameras == 'refuse' else -1
    query = labels(rng.integers(1, people + 1, n_query), rng.integers(lowest_camera, 3, n_query), 'q')
    gallery = labels(rng.integers(-1, people + 1, n_gallery), rng.integers(lowest_camera, 3, n_gallery), 'g')
    both = rng.integers(0, n_gallery, 1)[0]  # one query stands in the gallery too, under its own name
    for field in ('person_id', 'camera_id'):
        getattr(gallery, field)[both] = getattr(query, field)[0]
    gallery.tracklet[both] = query.tracklet[0]
    distances = rng.integers(0, 6, (n_query, n_gallery)) / 4 if ties else rng.random((n_query, n_gallery))
    distances = distances.astype(rng.choice([np.float32, np.float64]))
    ranking = rank(check_matrix(distances), *label_arrays(query, gallery), PROTOCOLS[protocol], unknown_cameras)
    np.testing.assert_allclose(
        table(ranking), evaluate(distances, query, gallery, protocol, unknown_cameras), atol=1e-12
    )


@pytest.mark.parametrize('n_tracklets', [40, 150])  # below and above what is counted by passes
def test_many_good_tracklets(n_tracklets):
    rng = np.random.default_rng(0)
    person = np.repeat([1, 2, 3], n_tracklets)
    gallery = labels(person, rng.integers(0, 4, len(person)), 'g')
    query = labels([1, 2, 3, 1], [0, 1, 2, 9], 'q')
    distances = rng.integers(0, 300, (4, len(person))).astype(np.float32)
    ranking = rank(check_matrix(distances), *label_arrays(query, gallery), PROTOCOLS['mars_official'])
    np.testing.assert_allclose(table(ranking), evaluate(distances, query, gallery, 'mars_official'), atol=1e-12)


@pytest.mark.parametrize('n_people', [3, 400])
def test_a_gallery_of_several_tiles(n_people):
    rng = np.random.default_rng(0)
    gallery = labels(rng.integers(-1, n_people + 1, 5000), rng.integers(0, 4, 5000), 'g')
    query = labels([1, 2, 3], [0, 1, 9], 'q')
    distances = rng.integers(0, 2000, (3, 5000)).astype(np.float32)
    ranking = rank(check_matrix(distances), *label_arrays(query, gallery), PROTOCOLS['mars_official'])
    np.testing.assert_allclose(table(ranking), evaluate(distances, query, gallery, 'mars_official'), atol=1e-12)


def test_both_ways_of_counting_agree():
    rng = np.random.default_rng(1)
    scores = jnp.asarray(rng.integers(0, 20, (5, 300)), jnp.float32).at[:, ::7].set(jnp.inf)
    num_matches = jnp.asarray([3, 16, 1, 7, 0], jnp.int32)
    thresholds = np.sort(rng.integers(0, 20, (5, 16)), axis=1).astype(np.float32)
    thresholds[np.arange(16)[None, :] >= np.asarray(num_matches)[:, None]] = np.inf
    by_passes, by_search = (
        f(scores, jnp.asarray(thresholds), num_matches) for f in (cmc_map._count_by_passes, cmc_map._count_by_search)
    )
    counts = np.arange(16)[None, :] < np.asarray(num_matches)[:, None]
    np.testing.assert_array_equal(np.asarray(by_passes)[counts], np.asarray(by_search)[counts])


def walkers(seed=0, n_people=12, size=16, noise=1.0):
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(1, n_people + 1), 6)
    camera = np.tile([0, 0, 1, 1, 2, 2], n_people)
    centre = rng.standard_normal((n_people + 1, size))
    return Embeddings(
        embedding=(centre[person] + noise * rng.standard_normal((len(person), size))).astype(np.float32),
        person_id=person,
        camera_id=camera,
        tracklet=np.array([f'walk{i}' for i in range(len(person))]),
    )


def metrics(result):
    return np.array([result.mAP, result.mAP_trapezoidal, result.mINP, *result.cmc])


@pytest.mark.parametrize('protocol', ['mars_official', 'gallery_only'])
def test_embeddings_equal_the_plain_evaluator_on_their_distances(protocol):
    everybody = walkers()
    query, gallery = everybody.select(np.arange(0, 72, 2)), everybody
    if protocol == 'gallery_only':
        gallery = everybody.select(np.arange(1, 72, 2))
    unit = [
        t.embedding.astype(np.float64) / np.linalg.norm(t.embedding, axis=1, keepdims=True) for t in (query, gallery)
    ]
    expected = evaluate(1 - unit[0] @ unit[1].T, query, gallery, protocol)
    result = score(query, gallery, protocol)
    np.testing.assert_allclose(
        [result.mAP, result.mAP_trapezoidal, result.mINP], expected[:, 2:].mean(axis=0), atol=1e-6
    )
    assert result.rank_1 == pytest.approx(np.mean(expected[:, 1] == 1))


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
def test_neither_order_nor_junk_nor_scale_changes_a_result(distance):
    everybody = walkers()
    query, gallery = everybody.select(np.arange(0, 72, 2)), everybody.select(np.arange(1, 72, 2))
    expected = metrics(score(query, gallery, distance=distance))
    order = np.random.default_rng(0).permutation(len(gallery))
    np.testing.assert_allclose(metrics(score(query, gallery.select(order), distance=distance)), expected, atol=1e-12)
    junk = Embeddings(
        embedding=query.embedding[:20] + 0.01,
        person_id=np.full(20, -1),
        camera_id=np.full(20, -1),
        tracklet=np.array([f'junk{i}' for i in range(20)]),
    )
    with_junk = score(query, gallery.join(junk), distance=distance)
    assert with_junk.n_junk == 20
    np.testing.assert_allclose(metrics(with_junk), expected, atol=1e-12)
    scale = np.full((72, 1), 7, np.float32)
    if distance == 'cosine':
        scale = np.random.default_rng(0).uniform(0.1, 30, (72, 1)).astype(np.float32)
    scaled = Embeddings(**{**vars(everybody), 'embedding': everybody.embedding * scale})
    result = score(scaled.select(np.arange(0, 72, 2)), scaled.select(np.arange(1, 72, 2)), distance=distance)
    np.testing.assert_allclose(metrics(result), expected, atol=1e-12)


def test_a_network_that_embeds_all_alike_gets_no_credit():
    everybody = walkers()
    one = Embeddings(**{**vars(everybody), 'embedding': np.repeat(everybody.embedding[:1], 72, axis=0)})
    for distance in ('cosine', 'euclidean'):
        result = score(one.select(np.arange(0, 72, 2)), one, distance=distance)
        assert result.rank_20 == 0 and result.mAP < 0.06


def test_results_do_not_depend_on_the_block(monkeypatch):
    everybody = walkers(n_people=30)
    query = everybody.select(np.arange(0, 180, 2))
    expected = metrics(score(query, everybody))
    blocks = []
    rows = cmc_map._ranks
    monkeypatch.setattr(cmc_map, '_ranks', lambda scores, *a, **k: blocks.append(scores.shape) or rows(scores, *a, **k))
    monkeypatch.setattr(blocks_module, '_BLOCK_SCORES', 256 * 20)
    np.testing.assert_allclose(metrics(score(query, everybody)), expected, atol=1e-12)
    assert blocks == [(16, 256)] * 6  # never more scores at a time than allowed, every query once


def test_float64_distances_keep_differences_that_float32_loses():
    distances = np.array([[1.0, 1.0 - 1e-12]])
    assert score_matrix(distances, labels([1], [0], 'q'), labels([2, 1], [1, 1], 'g'), 'gallery_only').rank_1 == 1
    assert score_matrix(distances, labels([1], [0], 'q'), labels([1, 2], [1, 1], 'g'), 'gallery_only').rank_1 == 0


def test_ranks_of_different_shapes_are_never_mixed():
    with jax.numpy_rank_promotion('raise'):
        score(walkers().select(np.arange(10)), walkers(), 'mars_official', 'euclidean')


@pytest.mark.parametrize(
    ('matrix', 'says'),
    [
        (np.zeros((3, 5), np.float32), '3 x 5, but there are labels of 3 queries and 6'),
        (np.zeros((3, 6), np.int64), 'floats'),
        (np.where(np.eye(3, 6) > 0, np.nan, 0), 'NaN or Inf, first in row 0'),
        (np.where(np.eye(3, 6, -1) > 0, np.inf, 0), 'NaN or Inf, first in row 1'),
    ],
)
def test_a_matrix_that_cannot_be_ranked_is_refused(matrix, says):
    with pytest.raises(UserError, match=says):
        score_matrix(matrix, QUERY, GALLERY, 'gallery_only')


def test_a_matrix_without_the_queries_cannot_be_ranked_officially():
    with pytest.raises(UserError, match='no columns for them'):
        score_matrix(DISTANCES, QUERY, GALLERY, 'mars_official')


def test_no_valid_query_is_an_error():
    with pytest.raises(UserError, match='none of the 1 queries'):
        score_matrix(DISTANCES[:1], labels([9], [0], 'q'), GALLERY, 'gallery_only')
