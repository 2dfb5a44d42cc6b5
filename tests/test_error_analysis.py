"""The error analysis counts what the protocol counts."""

import numpy as np
import pytest

from benchmarks.error_analysis import first_matches
from pvlad_jax.evaluation import Embeddings, score


def table(rng, rows: int, first: int) -> Embeddings:
    person = rng.integers(-1, 6, rows)
    return Embeddings(
        embedding=rng.standard_normal((rows, 3)).astype(np.float32),
        person_id=person,
        camera_id=rng.integers(1, 4, rows),
        tracklet=np.array([f't{first + i}' for i in range(rows)]),
    )


@pytest.mark.parametrize('seed', range(5))
def test_ranks_of_first_matches_are_those_of_the_score(seed):
    rng = np.random.default_rng(seed)
    query, gallery = table(rng, 20, 0), table(rng, 60, 20)
    query = query.select(query.person_id > 0)
    ranks, failures = first_matches(query, gallery)
    result = score(query, gallery, 'mars_official')
    assert len(ranks) == result.n_query_valid
    np.testing.assert_allclose([np.mean(np.array(ranks) <= k) for k in range(1, 51)], result.cmc)
    assert [f.rank for f in failures] == sorted((rank for rank in ranks if rank > 1), reverse=True)
    for f in failures:
        assert f.nearest_person != f.person and f.nearest_similarity >= f.match_similarity
