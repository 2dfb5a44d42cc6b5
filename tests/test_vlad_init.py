"""Laws of the data-dependent initialisation: what α means, clusters found again, samples that do not depend on how data
comes.
"""

import os

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.models.pooling.vlad_codebook import assignment_from_centres, initial_codebook, l2_normalise_rows
from pvlad_jax.training.initialisation.descriptor_sample import DescriptorSample
from pvlad_jax.training.initialisation.kmeans import cluster_centres

SIZE = 8


def clusters(count, each, spread, seed=0):
    """Unit vectors about `count` orthogonal directions, with the directions."""
    random = np.random.default_rng(seed)
    directions = np.eye(SIZE)[:count]
    points = np.repeat(directions, each, axis=0) + spread * random.normal(size=(count * each, SIZE))
    return l2_normalise_rows(random.permutation(points)).astype(np.float32), directions


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_separated_clusters_are_found_again():
    points, directions = clusters(6, 40, 0.03)
    for seed in range(5):
        centres = cluster_centres(points, 6, seed)
        found = np.argmax(centres @ directions.T, axis=1)
        assert sorted(found) == list(range(6))
        np.testing.assert_allclose(centres, directions[found], atol=0.05)


def test_centres_are_means_of_their_points_largest_first():
    points = np.concatenate([clusters(3, each, 0.02, seed=each)[0][:each] for each in (10, 60, 30)])
    centres = cluster_centres(points, 4, 1)
    nearest = np.argmin(np.linalg.norm(points[:, None] - centres[None], axis=-1), axis=1)
    counts = np.bincount(nearest, minlength=4)
    assert (np.diff(counts) <= 0).all() and counts.sum() == 100
    for k in range(4):
        np.testing.assert_allclose(centres[k], points[nearest == k].mean(0), atol=1e-4)


def test_words_depend_on_the_seed_alone():
    points = l2_normalise_rows(np.random.default_rng(0).normal(size=(400, SIZE)))
    again = [cluster_centres(points, 5, 3) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert not np.array_equal(again[0], cluster_centres(points, 5, 4))


def test_the_number_of_threads_changes_no_word():
    points = l2_normalise_rows(np.random.default_rng(0).normal(size=(20_000, SIZE)))
    before, words = cv2.getNumThreads(), []
    try:
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            words.append(cluster_centres(points, 7, 3))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(words[0], words[1])
    np.testing.assert_array_equal(words[0], words[2])


def test_alpha_makes_the_nearest_word_a_hundred_times_the_second():
    points = l2_normalise_rows(np.random.default_rng(1).normal(size=(500, SIZE)))
    centres = cluster_centres(points, 6, 0)
    weight, bias, alpha = assignment_from_centres(centres, points)
    logits = np.sort(points @ weight.T.astype(np.float64) + bias, axis=1)
    ratio = np.exp(np.mean(logits[:, -1] - logits[:, -2]))  # geometric mean of a_first / a_second
    np.testing.assert_allclose(ratio, 100, rtol=1e-3)
    _, _, scaled = assignment_from_centres(centres, points, alpha_scale=0.3)
    np.testing.assert_allclose(scaled, 0.3 * alpha)


@pytest.mark.parametrize('rule', ['netvlad', 'fixed'])
def test_assignment_is_the_softmax_of_distances(rule):
    points = l2_normalise_rows(np.random.default_rng(2).normal(size=(50, SIZE)))
    centres = cluster_centres(points, 4, 0).astype(np.float64)
    weight, bias, alpha = assignment_from_centres(centres, points, rule, alpha=12.0, alpha_scale=0.5)
    if rule == 'fixed':
        assert alpha == 6.0
    distance = np.linalg.norm(points[:, None] - centres[None], axis=-1)
    if rule == 'netvlad':  # the formula with the distances themselves
        two = np.sort(distance, axis=1)[:, :2]
        np.testing.assert_allclose(alpha, 0.5 * -np.log(0.01) / np.mean(two[:, 1] ** 2 - two[:, 0] ** 2), rtol=1e-9)
    np.testing.assert_allclose(
        softmax(points @ weight.T.astype(np.float64) + bias), softmax(-alpha * distance**2), atol=1e-5
    )


def test_one_word_takes_all():
    points = l2_normalise_rows(np.random.default_rng(3).normal(size=(20, SIZE)))
    weight, bias, alpha = assignment_from_centres(cluster_centres(points, 1, 0), points)
    assert alpha == 1 and weight.shape == (1, SIZE) and np.isfinite(bias).all()


def test_start_fits_the_networks_words_part_by_part():
    from pvlad_jax.models.pooling.vlad_codebook import NetVlad

    parts, words, n = 3, 4, 120
    points = np.random.default_rng(4).normal(size=(n, parts, SIZE)).astype(np.float32)
    points[:, 1] += 2  # parts differ
    for shared in (False, True):
        start = initial_codebook(points, words, 0, cluster_centres, shared_codebook=shared)
        module = NetVlad(parts, words, SIZE, shared_codebook=shared)
        u = jnp.asarray(points[None])
        variables = module.init(jax.random.key(0), u, jnp.ones(u.shape[:3], jnp.float32))
        assert jax.tree.map(np.shape, dict(variables['params'])) == jax.tree.map(np.shape, start)
        random = variables['params']  # until a start is given: random unit centres, with α = 10
        np.testing.assert_array_equal(random['assignment_weight'], 20 * random['centres'])
        np.testing.assert_allclose(random['assignment_bias'], -10 * (random['centres'] ** 2).sum(-1), rtol=1e-5)
        assert all(value.dtype == np.float32 for value in start.values())
        _, assignment = module.apply({'params': start}, u, jnp.ones(u.shape[:3], jnp.float32))
        for p in range(parts):
            centres = start['centres'][0 if shared else p]
            distance = np.linalg.norm(l2_normalise_rows(points[:, p])[:, None] - centres[None], axis=-1)
            np.testing.assert_array_equal(np.argmax(assignment[0, :, p], -1), np.argmin(distance, 1))
    assert not np.allclose(start['centres'][0], initial_codebook(points, words, 0, cluster_centres)['centres'][1])


def test_each_part_has_its_own_words_and_alpha():
    points = np.random.default_rng(5).normal(size=(200, 2, SIZE)).astype(np.float32)
    points[:, 1] = clusters(5, 40, 0.05)[0]
    start = initial_codebook(points, 5, 7, cluster_centres)
    first = l2_normalise_rows(points[:, 0])
    centres = cluster_centres(first, 5, 7)
    weight, bias, _ = assignment_from_centres(centres, first)
    np.testing.assert_array_equal(start['centres'][0], centres)
    np.testing.assert_array_equal(start['assignment_weight'][0], weight)
    np.testing.assert_array_equal(start['assignment_bias'][0], bias)
    seeds = []
    initial_codebook(points, 5, 7, lambda u, words, seed: seeds.append(seed) or cluster_centres(u, words, seed))
    assert len(set(seeds)) == 2
    alpha = [np.mean(start['assignment_weight'][p] / (2 * start['centres'][p])) for p in range(2)]
    assert alpha[0] > 2 * alpha[1] > 0  # clusters far apart need less sharpness


def test_lengths_and_zero_descriptors_do_not_matter():
    random = np.random.default_rng(6)
    points = random.normal(size=(150, 1, SIZE)).astype(np.float32)
    longer = points * random.uniform(0.5, 4, size=(150, 1, 1)).astype(np.float32)
    padded = np.concatenate([points, np.zeros((50, 1, SIZE), np.float32)])
    start = initial_codebook(points, 5, 0, cluster_centres)
    for other in (longer, padded):
        for name, value in initial_codebook(other, 5, 0, cluster_centres).items():
            np.testing.assert_allclose(value, start[name], rtol=1e-4, atol=1e-4)


def test_limit_holds_for_a_shared_codebook():
    points = np.random.default_rng(7).normal(size=(100, 3, SIZE)).astype(np.float32)
    with pytest.raises(UserError, match='among 20'):
        initial_codebook(points, 21, 0, cluster_centres, shared_codebook=True, limit=20)
    assert initial_codebook(points, 20, 0, cluster_centres, shared_codebook=True, limit=20)['centres'].shape == (
        1,
        20,
        SIZE,
    )


# Samples


def stream(n=1000, parts=2):
    descriptors = np.zeros((n, parts, 3), np.float32)
    descriptors[:, :, 0] = np.arange(n)[:, None]  # each place carries its number
    descriptors[:, :, 1] = np.arange(parts)
    return descriptors


def sample(descriptors, cuts, size=50, seed=0, valid=None):
    chosen = DescriptorSample(size, seed)
    for places in np.split(np.arange(len(descriptors)), cuts):
        chosen.add(descriptors[places], None if valid is None else valid[places])
    return chosen.descriptors()


def test_sample_does_not_depend_on_how_the_stream_is_cut():
    descriptors = stream()
    whole = sample(descriptors, [])
    assert whole.shape == (50, 2, 3)
    for cuts in ([1], [49, 50, 51], [0, 500, 500, 900], list(range(7, 1000, 7))):
        np.testing.assert_array_equal(sample(descriptors, cuts), whole)
    assert not np.array_equal(sample(descriptors, [], seed=1), whole)
    np.testing.assert_array_equal(whole[:, 0, 0], whole[:, 1, 0])  # the same places for all parts
    assert len(np.unique(whole[:, 0, 0])) == 50


def test_padding_never_enters_a_sample_nor_changes_it():
    descriptors = stream(300)
    valid = np.random.default_rng(0).uniform(size=900) < 1 / 3
    padded = np.full((900, 2, 3), np.nan, np.float32)
    places = np.flatnonzero(valid)[:300]
    valid[:] = False
    valid[places] = True
    padded[places] = descriptors[: len(places)]
    np.testing.assert_array_equal(sample(padded, [100, 450], valid=valid), sample(descriptors[: len(places)], []))


def test_a_short_stream_is_kept_whole():
    np.testing.assert_array_equal(sample(stream(40), [3, 30], size=50), stream(40))


def test_every_place_is_as_likely():
    hits = np.zeros(40)
    for seed in range(600):
        hits[sample(stream(40), [11, 12], size=10, seed=seed)[:, 0, 0].astype(int)] += 1
    # Each is drawn with 1/4: 150 ± 10.6; the largest of 40 deviations stays under 4.5 of these.
    assert hits.sum() == 6000 and np.abs(hits - 150).max() < 48


# Mistakes


def test_more_words_than_descriptors_is_named():
    points = l2_normalise_rows(np.random.default_rng(0).normal(size=(10, SIZE)))
    with pytest.raises(UserError, match=r'model\.clusters = 11 .* only 10'):
        cluster_centres(points, 11, 0)
    with pytest.raises(UserError, match='only 3'):
        cluster_centres(np.repeat(points[:3], 50, axis=0), 4, 0)
    assert cluster_centres(points, 10, 0).shape == (10, SIZE)
    constant = np.ones((30, 2, SIZE), np.float32)
    constant[:, 0] = np.random.default_rng(1).normal(size=(30, SIZE))
    with pytest.raises(UserError, match=r'Part 1: .* only 1'):
        initial_codebook(constant, 4, 0, cluster_centres)


def test_other_mistakes_are_named():
    points = l2_normalise_rows(np.random.default_rng(0).normal(size=(30, SIZE)))
    centres = cluster_centres(points, 3, 0)
    with pytest.raises(UserError, match='netvlad, fixed'):
        assignment_from_centres(centres, points, 'softmax')
    with pytest.raises(UserError, match='α = 0'):
        assignment_from_centres(centres, points, 'fixed', alpha=0.0)
    with pytest.raises(UserError, match='finds no α'):
        assignment_from_centres(np.repeat(centres[:1], 2, axis=0), points)
    with pytest.raises(UserError, match='NaN'):
        cluster_centres(np.full((30, SIZE), np.nan), 3, 0)
    with pytest.raises(UserError, match='no valid local descriptor'):
        DescriptorSample(5, 0).descriptors()
    with pytest.raises(UserError, match='descriptors = 0'):
        DescriptorSample(0, 0)


def test_a_sample_beyond_memory_is_refused():
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    with pytest.raises(UserError, match='GiB'):
        DescriptorSample(memory // 24, 0).add(stream(4))
