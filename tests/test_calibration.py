"""Thresholds: the rate that is asked for is what fresh people get, intervals cover, and too few people are reported."""

import re

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings
from pvlad_jax.evaluation.calibration import _Estimator, _gives, _smallest_rate, calibrate
from pvlad_jax.evaluation.pair_distances import PairDistances
from tests.helpers.labelled_people import distances, people, rates, split


def test_the_rates_are_those_of_counting():
    query, gallery = split(people(60, 0))
    result = calibrate(query, gallery, 0.01, resamples=50)
    false_accepts, misses = rates(query, gallery, result.same.value)
    assert result.false_accepts.value == pytest.approx(false_accepts) and result.misses.value == pytest.approx(misses)
    assert 0.0095 < result.false_accepts.value <= 0.01
    distance = distances(query, gallery)
    same = query.person_id[:, None] == gallery.person_id
    stranger, own = np.where(same, np.inf, distance).min(1), np.where(same, distance, np.inf).min(1)
    expected = {
        'absent_nobody': stranger > result.nobody,
        'absent_same': stranger <= result.same.value,
        'present_same': (own <= result.same.value) & (own < stranger),
        'present_wrong_person': (stranger <= result.same.value) & (stranger <= own),
        'present_nobody': np.minimum(own, stranger) > result.nobody,
    }
    assert {name: value.value for name, value in result.open_set.items()} == pytest.approx(
        {name: mask.mean() for name, mask in expected.items()}
    )
    assert (own > result.nobody).mean() <= 0.05
    per_search = calibrate(query, gallery, 0.1, per='search', resamples=50)
    assert per_search.open_set['absent_same'].value == (stranger <= per_search.same.value).mean() == 0.1


def test_the_threshold_keeps_its_rate_on_fresh_people():
    result = calibrate(*split(people(150, 1)), 0.01, resamples=50)
    fresh, _ = rates(*split(people(600, 2)), result.same.value)
    assert fresh == pytest.approx(0.01, rel=0.35)


def test_intervals_cover():
    """The rate and the misses of all people, at a threshold from a few, lie in their intervals as often as they say."""
    population = split(people(600, 3))
    distance, same = distances(*population), population[0].person_id[:, None] == population[1].person_id
    strangers, own = np.sort(distance[~same]), distance[same]
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(30):
        chosen = rng.choice(600, 60, replace=False) + 1
        query, gallery = (t.select(np.isin(t.person_id, chosen)) for t in population)
        result = calibrate(query, gallery, 0.05, resamples=80, seed=seed)
        true_false = np.searchsorted(strangers, result.same.value) / len(strangers)
        true_misses = (own > result.same.value).mean()
        # At the chosen threshold the sample's rate is 5 % by construction; the true threshold is what varies.
        true_threshold = np.quantile(strangers, 0.05)
        covered.append(
            [
                result.same.low <= true_threshold <= result.same.high,
                result.false_accepts.low <= true_false <= result.false_accepts.high,
                result.misses.low <= true_misses <= result.misses.high,
            ]
        )
    assert (np.mean(covered, axis=0) > 0.85).all(), np.mean(covered, axis=0)


def test_intervals_are_of_people_not_of_pairs():
    """The same people filmed more often do not make the interval much narrower; more people do."""
    few, often, many = (
        calibrate(*split(people(n, 4, cameras)), 0.05, resamples=100).same
        for n, cameras in ((40, 2), (40, 12), (360, 2))
    )
    assert many.high - many.low < 0.6 * (few.high - few.low)
    assert often.high - often.low > 0.5 * (few.high - few.low)


def test_a_person_drawn_twice_counts_twice_in_every_pair_of_two_people():
    rng, person, one = np.random.default_rng(0), np.arange(3), np.eye(3, dtype=bool)
    pairs = PairDistances(person, person, 0.1)
    pairs.add(person, rng.random((3, 3), np.float32), one, np.zeros_like(one))
    estimator = _Estimator(pairs, 3, 0.1, 'pair', 0.05, 0, 0, lambda count: None)
    weights = np.array([2.0, 1.0, 0.0])
    assert estimator.pairs_of_two(weights) == np.outer(weights, weights)[~one].sum() == 4


def test_what_never_or_always_happened_has_an_interval_by_the_rule_of_three():
    result = calibrate(*split(people(60, 0, spread=1e-3)), 0.05, resamples=20)
    assert (result.misses.low, result.misses.value, result.misses.high) == (0, 0, 3 / 60)
    right = result.open_set['present_same']
    assert (right.low, right.value, right.high) == (1 - 3 / 60, 1, 1)


def test_a_stranger_as_near_as_the_person_is_a_mistake():
    table = people(40, 12, cameras=2, spread=0)
    other = people(40, 12, cameras=2, first=41, spread=0)  # each looks like one of the former
    names = np.char.add(other.tracklet, '-twin')
    table = table.join(Embeddings(**{**vars(other), 'tracklet': names}))
    open_set = calibrate(*split(table), 0.05, resamples=20).open_set
    assert open_set['present_same'].value == 0 and open_set['present_wrong_person'].value == 1


def test_junk_and_the_query_itself_take_no_part():
    query, gallery = split(people(40, 5))
    plain = calibrate(query, gallery, 0.02, resamples=20)
    # The queries themselves, of the same cameras.
    twin = Embeddings(
        embedding=query.embedding,
        person_id=query.person_id,
        camera_id=query.camera_id,
        tracklet=np.char.add(query.tracklet, '-again'),
    )
    junk = Embeddings(
        embedding=query.embedding,
        person_id=np.full(40, -1),
        camera_id=query.camera_id + 1,
        tracklet=np.char.add(query.tracklet, '-junk'),
    )
    more = calibrate(query, gallery.join(twin).join(junk), 0.02, resamples=20)
    assert more.pairs_of_one_person == plain.pairs_of_one_person and more.misses.value <= 1
    assert more.pairs_of_two_people == plain.pairs_of_two_people + 40 * 39
    itself = calibrate(query, gallery.join(query), 0.02, resamples=20)
    assert itself.pairs_of_one_person == plain.pairs_of_one_person
    distractor = Embeddings(
        embedding=gallery.embedding[:9],
        person_id=np.zeros(9, int),
        camera_id=np.ones(9, int),
        tracklet=np.char.add(gallery.tracklet[:9], '-distractor'),
    )
    assert calibrate(query, gallery.join(distractor), 0.02, resamples=20).identities == plain.identities + 9


def test_too_few_people_are_told():
    query, gallery = split(people(12, 6))
    with pytest.raises(UserError, match=r'cannot be measured with 12 people.*rule of three.*smallest rate is 0\.046'):
        calibrate(query, gallery, 0.001)
    with pytest.raises(UserError, match='for each search cannot be measured'):
        calibrate(query, gallery, 0.01, per='search')
    assert 'rule of 30' in calibrate(query, gallery, 0.1, resamples=20).warnings[0]
    assert not calibrate(*split(people(80, 6)), 0.05, resamples=20).warnings
    for bad in (0, 1, -1, float('nan')):
        with pytest.raises(UserError, match='Rates are shares'):
            calibrate(query, gallery, bad)
    strangers = people(20, 7, first=100)
    with pytest.raises(UserError, match='0 pairs of one person'):
        calibrate(people(20, 6).select(slice(0, 20)), strangers, 0.1)


@pytest.mark.parametrize('n', [4, 7, 11, 30, 31, 36, 60, 137])
def test_the_rates_that_are_named_can_be_asked_for(n):
    query, gallery = split(people(n, 6, cameras=2))
    with pytest.raises(UserError) as refused:
        calibrate(query, gallery, 1e-5, per='search')
    smallest = float(re.search(r'smallest rate is (.*)\.$', str(refused.value))[1])
    assert 3 / n <= smallest * (1 + 1e-12) and smallest < 3.3 / n
    few = calibrate(query, gallery, smallest, per='search', resamples=2).warnings[0]
    if n <= 30:
        assert few.endswith('For that, at any rate, more people are needed.')
        return
    well = float(re.search(r'(\S*) could be measured that well', few)[1])
    assert 30 / n <= well * (1 + 1e-12) and well < min(33 / n, 1)
    assert not any('Few' in said for said in calibrate(query, gallery, well, per='search', resamples=2).warnings)


def test_where_no_rate_can_be_measured_more_people_are_needed():
    with pytest.raises(UserError, match=r'there are 3\. No rate can be: more people are needed\.'):
        calibrate(*split(people(3, 6)), 0.5, per='search')


def test_every_rate_of_two_digits_needs_as_many_people_as_it_should():
    for digits in range(10, 100):
        for power in (2, 3, 4):
            rate = float(f'{digits}e-{power}')
            trials = -(-3 * 10**power // digits)
            assert _gives(rate, trials, 3) and not _gives(rate, trials - 1, 3)
            assert trials <= 3 or _gives(_smallest_rate(trials, 3), trials, 3)
