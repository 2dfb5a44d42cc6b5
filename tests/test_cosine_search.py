"""Exact search is a stable sort, whatever the blocks, and filters say what they mean."""

import numpy as np
import pytest

pa = pytest.importorskip('pyarrow')
from pvlad_jax.gallery import cosine_search, segments  # noqa: E402


@pytest.mark.parametrize('n', [1, 5, 700])
def test_exact_search_is_a_stable_sort(n):
    rng = np.random.default_rng(n)
    whole = rng.integers(-2, 3, (n, 4)).astype(np.float32)  # so that many are equal
    stored = segments.unit(whole + np.float32([0.1, 0, 0, 0]))
    queries = segments.unit(rng.standard_normal((9, 4)).astype(np.float32))
    allowed = rng.random((9, n)) < 0.7
    mask = rng.random(n) < 0.6
    parts = np.split(stored, [n // 3, n // 2])
    for k in (1, 7, 40):
        result, distances = cosine_search.search(queries, parts, k, rows=mask, allowed=lambda q, r: allowed[q, r])
        for query in range(9):
            distance = 1 - np.einsum('e,ne->n', queries[query].astype(np.float64), stored.astype(np.float64))
            order = np.lexsort((np.arange(n), np.maximum(distance, 0)))
            order = [i for i in order if mask[i] and allowed[query, i]][:k]
            assert result[query][: len(order)].tolist() == order and (result[query][len(order) :] == -1).all()
            np.testing.assert_allclose(distances[query][: len(order)], np.maximum(distance[order], 0), atol=1e-15)


def test_blocks_and_order_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    queries, stored = (segments.unit(rng.standard_normal((n, 16)).astype(np.float32)) for n in (6, 3000))
    stored = stored[np.argsort(stored @ queries[0])]  # the worst order: each block is nearer than the last
    allowed = rng.random((6, 3000)) < 0.7
    whole = cosine_search.search(queries, [stored], 10, allowed=lambda q, r: allowed[q, r])
    monkeypatch.setattr(cosine_search, '_MIN_ROWS', 64)
    monkeypatch.setattr(cosine_search, '_BLOCK_SCORES', 1)
    monkeypatch.setattr(cosine_search, '_MAX_QUERIES', 4)
    for a, b in zip(whole, cosine_search.search(queries, [stored], 10, allowed=lambda q, r: allowed[q, r])):
        np.testing.assert_array_equal(a, b)


def test_what_float32_cannot_tell_apart_is_told_apart():
    rng = np.random.default_rng(0)
    nearly_one = (1 + 1e-6 * rng.standard_normal((500, 64))).astype(np.float32)  # cosines differ by about 1e-7
    stored, query = segments.unit(nearly_one), segments.unit(np.float32([[1] * 32 + [0] * 32]))
    found = cosine_search.search(query, [stored], 5)[0]
    distance = 1 - stored.astype(np.float64) @ query[0].astype(np.float64)
    np.testing.assert_array_equal(found[0], np.argsort(distance, kind='stable')[:5])


def test_distances_that_round_to_0_stand_in_the_order_of_rows():
    nearly_one = (1 + 1e-5 * np.random.default_rng(0).standard_normal((6, 64))).astype(np.float32)
    rows, distances = cosine_search.search(segments.unit(np.ones((1, 64), np.float32)), [segments.unit(nearly_one)], 6)
    for value in np.unique(distances):
        assert (np.diff(rows[distances == value]) > 0).all()
    assert (distances == 0).sum() > 1


def test_rows_are_found_by_their_ids():
    metadata = segments.SCHEMA.empty_table().select(['id'])
    assert segments.ids_to_rows(metadata, np.array([[3, 0]])).tolist() == [[-1, -1]]
    metadata = pa.table({'id': [7, 2, 9]})
    assert segments.ids_to_rows(metadata, np.array([[9, 8, 2], [10, -1, 7]])).tolist() == [[2, -1, 1], [-1, -1, 0]]
