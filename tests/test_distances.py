"""Distances equal their definitions; learned ones equal the formulas of their authors' code on listed pairs."""

import numpy as np
import pytest
import scipy.linalg
import sklearn.covariance
from scipy.spatial.distance import cdist

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.distances import MatrixDistance, learned_metric, pairwise_distance
from pvlad_jax.evaluation.metric_learning import LearnedMetric, kissme, shrunk, xqda, xqda_shrunk
from pvlad_jax.gallery.exact_search import top_k


def people(n_people=20, size=12, seed=0, noise=1.0, nuisance=0.0, cameras=3, first=1):
    """Embeddings with a centre a person, noise, and a strong disturbance along two directions that tells nobody
    apart.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(first, first + n_people), 2 * cameras)
    centre = rng.standard_normal((n_people, size))[person - first]
    disturbance = (
        rng.standard_normal((len(person), 2)) @ np.linalg.qr(np.random.default_rng(99).standard_normal((size, 2)))[0].T
    )
    x = centre + noise * rng.standard_normal(centre.shape) + nuisance * disturbance
    return Embeddings(
        embedding=x.astype(np.float32),
        person_id=person,
        camera_id=np.tile(np.arange(cameras).repeat(2), n_people),
        tracklet=np.array([f'{first}-{i}' for i in range(len(person))]),
    )


def test_cosine_and_euclidean_equal_their_definitions():
    query, gallery = people(3), people(5, seed=1)
    rows = np.arange(len(query))
    np.testing.assert_allclose(
        pairwise_distance(query, gallery, 'cosine').distances(rows),
        cdist(query.embedding, gallery.embedding, 'cosine'),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        pairwise_distance(query, gallery, 'euclidean').distances(rows),
        cdist(query.embedding, gallery.embedding, 'sqeuclidean'),
        rtol=1e-5,
        atol=1e-4,
    )


def test_euclidean_distances_far_from_the_origin_keep_their_digits():
    query, gallery = people(3), people(5, seed=1)
    far = [Embeddings(**{**vars(t), 'embedding': t.embedding + np.float32(4096)}) for t in (query, gallery)]
    expected = cdist(far[0].embedding.astype(float), far[1].embedding.astype(float), 'sqeuclidean')
    np.testing.assert_allclose(
        pairwise_distance(*far, 'euclidean').distances(np.arange(len(query))), expected, rtol=1e-5, atol=1e-4
    )


def pair_covariances(x, person, camera):
    """Mean outer products of differences over listed pairs of two cameras: of one person, and of two."""
    sums, n = [np.zeros((x.shape[1],) * 2) for _ in range(2)], [0, 0]
    for i in range(len(x)):
        for j in range(i):
            if camera[i] != camera[j] or camera[i] == -1:
                which = int(person[i] != person[j])
                sums[which] += np.outer(x[i] - x[j], x[i] - x[j])
                n[which] += 1
    return sums[0] / n[0], sums[1] / n[1]


def xqda_by_the_formula(within, between_people):
    """Of the authors' code: ridge, left singular vectors above 1, difference of the inverses in their span."""
    within = within + 0.001 * np.eye(len(within))
    vectors, values, _ = np.linalg.svd(np.linalg.inv(within) @ between_people)
    w = vectors[:, : max(1, (values > 1).sum())]
    return w @ (np.linalg.inv(w.T @ within @ w) - np.linalg.inv(w.T @ between_people @ w)) @ w.T


def kissme_by_the_formula(x, person, camera, components):
    """Of the authors' code: PCA, difference of the inverses, eigenvalues up to 1e-10 set to 1e-6."""
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    p = axes[:components].T
    within, between_people = pair_covariances(x @ p, person, camera)
    values, vectors = np.linalg.eigh(np.linalg.inv(within) - np.linalg.inv(between_people))
    values[values <= 1e-10] = 1e-6
    return p @ (vectors * values) @ vectors.T @ p.T


def with_unknown_cameras(table):
    camera = table.camera_id.copy()
    camera[::5] = -1
    return Embeddings(**{**vars(table), 'camera_id': camera})


@pytest.mark.parametrize(
    'train',
    [people(), with_unknown_cameras(people()), people(6, size=40, cameras=2), people(noise=9.0)],
    ids=['cameras', 'some unknown', 'more numbers than tracklets', 'little to tell people by'],
)
def test_xqda_equals_its_formula_on_listed_pairs(train):
    expected = xqda_by_the_formula(*pair_covariances(train.embedding.astype(float), train.person_id, train.camera_id))
    np.testing.assert_allclose(xqda(train).matrix, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize(
    ('train', 'components'), [(people(nuisance=3.0), 5), (people(8, size=6, noise=9.0), 6)], ids=['definite', 'clipped']
)
def test_kissme_equals_its_formula_on_listed_pairs(train, components):
    expected = kissme_by_the_formula(train.embedding.astype(float), train.person_id, train.camera_id, components)
    found = kissme(train, components)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-9 * np.abs(expected).max())
    assert found.definite


def two_views(golden) -> Embeddings:
    n = len(golden['label'])
    return Embeddings(
        embedding=np.concatenate([golden['g'], golden['p']]),
        person_id=np.tile(golden['label'], 2) + 1,
        camera_id=np.repeat([1, 2], n),
        tracklet=np.array([f'{i:03d}' for i in range(2 * n)]),
    )


def test_xqda_gives_the_distances_that_the_authors_code_wrote(shared):
    golden = np.load(shared / 'data' / 'golden' / 'xqda.npz')
    learned = xqda(two_views(golden))
    difference = golden['tg'][:, None] - golden['tp'][None]
    np.testing.assert_allclose(
        np.einsum('ije,ef,ijf->ij', difference, learned.matrix, difference), golden['distance'], rtol=1e-12
    )
    # Through float32 embeddings and the product that ranks.
    labels = {'person_id': golden['tlabel'] + 1, 'camera_id': np.ones(len(golden['tlabel']), int)}
    query, gallery = (
        Embeddings(
            embedding=golden[x], tracklet=np.array([f'{x}{i}' for i in range(len(golden[x]))]), **labels
        ).checked(x)
        for x in ('tg', 'tp')
    )
    metric = learned_metric('xqda', two_views(golden).checked('train'))
    found = pairwise_distance(query, gallery, 'xqda', metric).distances(np.arange(len(query)))
    np.testing.assert_allclose(found, golden['distance'], atol=1e-6 * golden['distance'].max())


def test_distances_of_an_indefinite_form_keep_their_sign():
    query, gallery = people(3), people(5, seed=1)
    learned = LearnedMetric(np.random.default_rng(0).standard_normal((12, 4)), np.array([1.0, -1.0, 1.0, -1.0]))
    found = pairwise_distance(query, gallery, 'xqda', learned).distances(np.arange(len(query)))
    difference = query.embedding[:, None].astype(float) - gallery.embedding[None]
    expected = np.einsum('ije,ef,ijf->ij', difference, learned.matrix, difference)
    assert (expected < -1).any()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_kissme_keeps_half_as_many_components_as_there_are_differences_within_people():
    assert kissme(people(6, size=100, cameras=2)).projection.shape == (100, 9)  # 24 tracklets of 6 people
    assert kissme(people(60, size=24)).projection.shape == (24, 24)


@pytest.mark.parametrize('distance', ['xqda', 'kissme', 'xqda_shrunk'])
def test_learned_distances_look_past_what_disturbs_everybody_alike(distance):
    train, test = people(60, size=24, nuisance=8.0), people(30, size=24, seed=5, nuisance=8.0, first=100)
    query = test.select(np.arange(0, len(test), 3))
    plain = score(query, test, distance='euclidean').mAP
    learned = score(query, test, distance=distance, train=train).mAP
    assert learned > plain + 0.2


def test_shrinkage_helps_where_there_are_fewer_training_tracklets_than_dimensions():
    train, test = people(20, size=100, cameras=2), people(20, size=100, seed=5, first=100)
    mean_ap = {
        d: score(test.select(np.arange(0, len(test), 3)), test, distance=d, train=train).mAP
        for d in ('xqda', 'xqda_shrunk')
    }
    assert mean_ap['xqda_shrunk'] > mean_ap['xqda'] + 0.2 and mean_ap['xqda'] > 0.2  # by chance 0.05


def test_the_shrunk_form_equals_its_formula_and_knows_no_scale():
    train = people()
    within, between_people = (
        shrunk(c, len(train) - n)
        for c, n in zip(pair_covariances(train.embedding.astype(float), train.person_id, train.camera_id), (20, 1))
    )
    values, vectors = scipy.linalg.eig(np.linalg.inv(within) @ between_people)
    w = vectors[:, values.real > 1].real
    expected = w @ (np.linalg.inv(w.T @ within @ w) - np.linalg.inv(w.T @ between_people @ w)) @ w.T
    np.testing.assert_allclose(xqda_shrunk(train).matrix, expected, atol=1e-8)
    scaled = Embeddings(**{**vars(train), 'embedding': train.embedding * 64})
    np.testing.assert_allclose(xqda_shrunk(scaled).matrix * 64**2, expected, atol=1e-8)


@pytest.mark.parametrize('n', [4, 400])
def test_shrinkage_is_that_of_scikit_learn(n):
    x = np.random.default_rng(0).standard_normal((n, 9)) * np.arange(1, 10)
    np.testing.assert_allclose(shrunk(x.T @ x / n, n), sklearn.covariance.oas(x, assume_centered=True)[0], rtol=1e-10)


def test_training_embeddings_that_are_all_the_same_are_refused():
    same = people(4)
    same = Embeddings(**{**vars(same), 'embedding': np.ones_like(same.embedding)})
    for distance in ('xqda', 'kissme'):
        with pytest.raises(UserError, match=r'cannot be learned.*no inverse'):
            learned_metric(distance, same)


@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
@pytest.mark.parametrize(
    ('factor', 'kind'), [(1e-30, np.float32), (1e30, np.float32), (1e-200, np.float64), (2.0**-6, np.float16)]
)
def test_the_scale_and_type_of_the_embeddings_change_no_ranking(distance, factor, kind):
    test = people(10, seed=5)
    test = Embeddings(**{**vars(test), 'embedding': test.embedding.astype(np.float16).astype(np.float64)})
    scaled = Embeddings(**{**vars(test), 'embedding': (test.embedding * factor).astype(kind)})
    query = np.arange(0, 60, 3)
    for rerank in (False, True):
        one, other = (score(t.select(query), t, distance=distance, rerank=rerank) for t in (test, scaled))
        np.testing.assert_allclose(one.mAP, other.mAP, atol=1e-6)
    assert one.mAP < 0.99


def test_float64_embeddings_keep_digits_that_float32_would_lose():
    test = people(10, seed=5)
    far = Embeddings(**{**vars(test), 'embedding': test.embedding.astype(np.float64) + 1e9})
    query = np.arange(0, 60, 3)
    near, moved = (score(t.select(query), t, distance='euclidean') for t in (test, far))
    np.testing.assert_allclose(near.mAP, moved.mAP, atol=1e-3)


def test_junk_and_distractors_teach_nothing():
    train = people()
    noise = people(5, seed=7, noise=9.0)
    junk, distractors = (Embeddings(**{**vars(noise), 'person_id': np.full(len(noise), person)}) for person in (-1, 0))
    np.testing.assert_array_equal(xqda(train.join(junk).join(distractors)).matrix, xqda(train).matrix)


def test_bad_use_is_refused():
    query = people(3)
    with pytest.raises(UserError, match="distance = 'l1' is unknown"):
        score(query, people(5, seed=1, first=10), distance='l1')
    with pytest.raises(UserError, match='needs the embeddings of the training set'):
        learned_metric('xqda', None)
    with pytest.raises(UserError, match='hold 1 people'):
        xqda(query.select(query.person_id == 1))
    with pytest.raises(UserError, match=r'have 0 and \d+'):
        kissme(query.select([0, 6, 14]))  # each person once
    with pytest.raises(UserError, match='learned on embeddings of 12 numbers, these have 6'):
        pairwise_distance(people(3, size=6), people(3, size=6), 'xqda', xqda(query))
    with pytest.raises(UserError, match='12 numbers, those of the gallery 6'):
        score(query, people(3, size=6, first=9))
    zero = Embeddings(
        **{**vars(query), 'embedding': query.embedding * (np.arange(len(query)) != 4)[:, None].astype(np.float32)}
    )
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
