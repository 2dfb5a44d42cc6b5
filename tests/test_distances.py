"""Distances equal their definitions; learned ones equal the formulas of their papers on pairs written out."""

import numpy as np
import pytest
import scipy.linalg
import sklearn.covariance
from scipy.spatial.distance import cdist

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.distances import MatrixDistance, between, linear_map
from pvlad_jax.evaluation.top_k import top_k
from pvlad_jax.evaluation.xqda_kissme import kissme, shrunk, xqda


def people(n_people=20, size=12, seed=0, noise=1.0, nuisance=0.0, cameras=3, first=1):
    """Embeddings with a centre a person, noise, and a strong disturbance along two directions that tells nobody apart."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(first, first + n_people), 2 * cameras)
    centre = rng.standard_normal((n_people, size))[person - first]
    disturbance = rng.standard_normal((len(person), 2)) @ np.linalg.qr(np.random.default_rng(99).standard_normal((size, 2)))[0].T
    x = centre + noise * rng.standard_normal(centre.shape) + nuisance * disturbance
    return Embeddings(embedding=x.astype(np.float32), person_id=person, camera_id=np.tile(np.arange(cameras).repeat(2), n_people),
                      tracklet=np.array([f'{first}-{i}' for i in range(len(person))]))


def test_cosine_and_euclidean_equal_their_definitions():
    query, gallery = people(3), people(5, seed=1)
    rows = np.arange(len(query))
    np.testing.assert_allclose(between(query, gallery, 'cosine').distances(rows),
                               cdist(query.embedding, gallery.embedding, 'cosine'), atol=1e-6)
    np.testing.assert_allclose(between(query, gallery, 'euclidean').distances(rows),
                               cdist(query.embedding, gallery.embedding, 'sqeuclidean'), rtol=1e-5, atol=1e-4)


def test_euclidean_distances_far_from_the_origin_keep_their_digits():
    query, gallery = people(3), people(5, seed=1)
    far = [Embeddings(**{**vars(t), 'embedding': t.embedding + np.float32(4096)}) for t in (query, gallery)]
    expected = cdist(far[0].embedding.astype(float), far[1].embedding.astype(float), 'sqeuclidean')
    np.testing.assert_allclose(between(*far, 'euclidean').distances(np.arange(len(query))), expected, rtol=1e-5, atol=1e-4)


def pair_covariances(x, person, camera):
    sums, n = [np.zeros((x.shape[1],) * 2) for _ in range(2)], [0, 0]
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j and (camera[i] != camera[j] or camera[i] == -1):
                which = int(person[i] != person[j])
                sums[which] += np.outer(x[i] - x[j], x[i] - x[j])
                n[which] += 1
    return shrunk(sums[0] / n[0], len(x) - len(set(person))), shrunk(sums[1] / n[1], len(x) - 1)


@pytest.mark.parametrize('n', [4, 30, 400])
def test_shrinkage_is_that_of_scikit_learn(n):
    x = np.random.default_rng(0).standard_normal((n, 9)) * np.arange(1, 10)
    np.testing.assert_allclose(shrunk(x.T @ x / n, n), sklearn.covariance.oas(x, assume_centered=True)[0], rtol=1e-10)


def with_unknown_cameras(table):
    camera = table.camera_id.copy()
    camera[::5] = -1
    return Embeddings(**{**vars(table), 'camera_id': camera})


@pytest.mark.parametrize('train', [people(), with_unknown_cameras(people())], ids=['cameras', 'some unknown'])
def test_xqda_equals_its_formulas_on_listed_pairs(train):
    within, between_people = pair_covariances(train.embedding.astype(float), train.person_id, train.camera_id)
    # Liao 2015, section 4: W from Σ_I⁻¹ Σ_E, eigenvalues above 1; M = (Wᵀ Σ_I W)⁻¹ - (Wᵀ Σ_E W)⁻¹.
    eigenvalues, vectors = scipy.linalg.eig(np.linalg.inv(within) @ between_people)
    w = vectors[:, eigenvalues.real > 1].real
    metric = np.linalg.inv(w.T @ within @ w) - np.linalg.inv(w.T @ between_people @ w)
    a = xqda(train)
    assert a.shape == w.shape
    np.testing.assert_allclose(a @ a.T, w @ metric @ w.T, atol=1e-8)


def test_kissme_equals_its_formulas_on_listed_pairs():
    train = people(nuisance=3.0)
    x = train.embedding.astype(float)
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    p = axes[:5].T
    within, between_people = pair_covariances(x @ p, train.person_id, train.camera_id)
    metric = np.linalg.inv(within) - np.linalg.inv(between_people)
    eigenvalues, vectors = np.linalg.eigh(metric)
    expected = p @ (vectors * np.maximum(eigenvalues, 0)) @ vectors.T @ p.T
    a = kissme(train, components=5)
    np.testing.assert_allclose(a @ a.T, expected, atol=1e-8)


@pytest.mark.parametrize('distance', ['xqda', 'kissme'])
def test_learned_distances_look_past_what_disturbs_everybody_alike(distance):
    train, test = people(60, size=24, nuisance=8.0), people(30, size=24, seed=5, nuisance=8.0, first=100)
    query = test.select(np.arange(0, len(test), 3))
    plain = score(query, test, distance='euclidean').mAP
    learned = score(query, test, distance=distance, train=train).mAP
    assert learned > plain + 0.2


@pytest.mark.parametrize('distance', ['xqda', 'kissme'])
def test_fewer_training_tracklets_than_dimensions_still_give_a_sound_metric(distance):
    train, test = people(6, size=100, cameras=2), people(20, size=100, seed=5, first=100)
    a = linear_map(distance, train.checked('train'))
    assert np.isfinite(a).all() and np.abs(a).max() < 100
    plain = score(test.select(np.arange(0, len(test), 3)), test, distance='euclidean').mAP
    assert score(test.select(np.arange(0, len(test), 3)), test, distance=distance, train=train).mAP > plain - 0.1


@pytest.mark.parametrize('distance', ['xqda', 'kissme'])
def test_the_scale_of_the_embeddings_changes_no_learned_ranking(distance):
    train, test = people(), people(10, seed=5, first=100)
    scaled = [Embeddings(**{**vars(t), 'embedding': t.embedding * 64}) for t in (train, test)]
    one = score(test.select(np.arange(0, 60, 3)), test, distance=distance, train=train)
    other = score(scaled[1].select(np.arange(0, 60, 3)), scaled[1], distance=distance, train=scaled[0])
    np.testing.assert_allclose(one.mAP, other.mAP, atol=1e-6)


def test_junk_and_distractors_teach_nothing():
    train = people()
    noise = people(5, seed=7, noise=9.0)
    junk, distractors = (Embeddings(**{**vars(noise), 'person_id': np.full(len(noise), person)}) for person in (-1, 0))
    np.testing.assert_array_equal(xqda(train.join(junk).join(distractors)), xqda(train))


def test_bad_use_is_refused():
    query = people(3)
    with pytest.raises(UserError, match="Unknown distance 'l1'"):
        score(query, people(5, seed=1, first=10), distance='l1')
    with pytest.raises(UserError, match='needs the embeddings of the training set'):
        linear_map('xqda', None)
    with pytest.raises(UserError, match='hold 1 people'):
        xqda(query.select(query.person_id == 1))
    with pytest.raises(UserError, match=r'have 0 and \d+'):
        kissme(query.select([0, 6, 14]))  # each person once
    with pytest.raises(UserError, match='learned on embeddings of 12 numbers, these have 6'):
        between(people(3, size=6), people(3, size=6), 'xqda', xqda(query))
    with pytest.raises(UserError, match='12 numbers, those of the gallery 6'):
        score(query, people(3, size=6, first=9))
    zero = Embeddings(**{**vars(query), 'embedding': query.embedding * (np.arange(len(query)) != 4)[:, None].astype(np.float32)})
    with pytest.raises(UserError, match=r"'1-4'.*all zeros"):
        score(zero, people(5, seed=1, first=10))


@pytest.mark.parametrize('n_gallery', [7, 300, 5000])
def test_top_k_is_a_stable_argsort_cut(n_gallery):
    rng = np.random.default_rng(0)
    for matrix in (rng.random((200, n_gallery)), rng.integers(0, 40, (200, n_gallery))):
        matrix = matrix.astype(np.float32)
        columns, scores = top_k(MatrixDistance(matrix), 20)
        expected = np.argsort(matrix, axis=1, kind='stable')[:, :20]
        np.testing.assert_array_equal(columns, expected)
        np.testing.assert_array_equal(scores, np.take_along_axis(matrix, expected, axis=1))
