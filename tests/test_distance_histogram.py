"""Counts do not depend on the blocks in which distances come, and no distance lies outside."""

import numpy as np
import pytest

from pvlad_jax.evaluation.scoring import ranked_tables, score_rows
from pvlad_jax.report import query_outcomes as outcomes
from pvlad_jax.report.distance_histogram import BINS, DistanceHistogram
from tests.test_report_learned import people


@pytest.mark.parametrize('first', [0.01, 1.0, -0.3])
def test_counts_are_those_of_the_final_bins(first):
    """first: about where the distances of the first block lie."""
    rng = np.random.default_rng(0)
    blocks = [(rng.normal(at, 0.003, 40), rng.normal(at + 0.1, 0.1, 300)) for at in (first, 0.5, 1.9, -0.9, 40.0)]
    histogram = DistanceHistogram(2)
    for block in blocks:
        histogram.add(*block)
    edges = histogram.edges
    for kind, counts in enumerate(histogram.counts):
        values = np.concatenate([block[kind] for block in blocks])
        assert edges[0] <= values.min() and values.max() <= edges[-1]
        np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])


def test_a_range_is_close_to_its_distances():
    histogram = DistanceHistogram(1)
    histogram.add(np.array([0.2, 0.4]))
    assert histogram.edges[0] == 0 and 0.4 <= histogram.edges[-1] <= 0.43


def test_nothing_and_one_distance_of_zero():
    histogram = DistanceHistogram(2)
    histogram.add(np.zeros(0), np.zeros(0))
    assert len(histogram.edges) == BINS + 1 and not histogram.counts.any()
    histogram.add(np.zeros(0), np.zeros(3))
    assert histogram.counts[1].sum() == 3 and (np.diff(histogram.edges) > 0).all()


def test_outcomes_count_every_pair_in_blocks_of_one_query(monkeypatch):
    """The first query lies between all others, so its distances are the smallest."""
    query, gallery, protocol = ranked_tables(people(30, 1, 'q', (1,)), people(30, 1, 'g', (2, 3)), 'cross_camera')
    gallery.embedding[:] += 1
    query.embedding[0] = gallery.embedding.mean(0)
    monkeypatch.setattr(outcomes, 'queries_at_a_time', lambda n_gallery: 1)
    scores = score_rows(query, gallery)
    found = outcomes.query_outcomes(scores, query, gallery, protocol, top=5)
    distance = np.asarray(scores.distances(np.arange(30)), np.float64)[:, : len(gallery.embedding)]
    same = query.person_id[:, None] == gallery.person_id[None, :]
    assert distance[0].max() < 0.8 * distance[1:].max()
    for counts, those in ((found.one_person, same), (found.two_people, ~same)):
        np.testing.assert_array_equal(counts, np.histogram(distance[those], found.edges)[0])
        assert counts.sum() == those.sum()
