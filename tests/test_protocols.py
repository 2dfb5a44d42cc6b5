"""Who is good and who is ignored, what a gallery is made of, and the counts of the official MARS tables."""

import dataclasses

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import knows_cameras
from pvlad_jax.evaluation import Embeddings, Labels, score
from pvlad_jax.evaluation.protocols import (
    PROTOCOLS,
    LabelArrays,
    MatchLists,
    check_labels,
    check_protocol,
    compose_gallery,
    default_protocol,
    label_arrays,
    rows_of,
)
from tests.helpers.cmc_map_oracle import judge


def labels(person, camera, names):
    return Labels(person_id=np.array(person, np.int32), camera_id=np.array(camera, np.int32), tracklet=np.array(names))


@pytest.mark.parametrize('protocol', sorted(PROTOCOLS))
@pytest.mark.parametrize('unknown_cameras', ['other', 'ignore'])
def test_verdicts_follow_the_words_for_every_combination_of_labels(protocol, unknown_cameras):
    people, cameras = np.meshgrid([-1, 0, 1, 2], [-1, 0, 1])
    gallery = labels(people.ravel(), cameras.ravel(), [f'g{i}' for i in range(12)])
    # Two queries are in the gallery themselves: g2 is person 1, camera unknown, and g10 person 1, camera 1.
    query = labels([1, 1, 1, 2, 1], [-1, 0, 1, 1, -1], ['q0', 'q1', 'g10', 'q3', 'g2'])
    query_arrays, gallery_arrays = label_arrays(query, gallery)
    rows, columns = LabelArrays(*(a[:, None] for a in query_arrays)), LabelArrays(*(a[None] for a in gallery_arrays))
    good, ignored = PROTOCOLS[protocol].relevance(rows, columns, unknown_cameras)
    for i in range(5):
        for j in range(12):
            pair = [(t.person_id[k], t.camera_id[k], t.tracklet[k]) for t, k in ((query, i), (gallery, j))]
            expected = judge(protocol, *pair[0], *pair[1], unknown_cameras)
            assert ('good' if good[i, j] else 'ignored' if ignored[i, j] else 'negative') == expected, (i, j)
    assert not (good & ignored).any()


QUERY = labels([1, 2], [0, 1], ['a', 'b'])


def test_the_official_gallery_holds_the_queries_once():
    protocol = PROTOCOLS['mars_official']
    with_queries = labels([2, 3, 1, -1], [1, 0, 0, 0], ['b', 'c', 'a', 'd'])
    rows, append = compose_gallery(protocol, QUERY, with_queries)
    assert rows.tolist() == [0, 1, 2, 3] and not append
    rows, append = compose_gallery(protocol, QUERY, with_queries.select([1, 3]))
    assert rows.tolist() == [0, 1] and append
    with pytest.raises(UserError, match=r"1 of 2 queries are in the gallery.*such as 'a'"):
        compose_gallery(protocol, QUERY, with_queries.select([0, 1]))


def test_gallery_only_drops_queries_and_junk():
    gallery = labels([2, 3, -1, 0], [1, 0, 0, 2], ['b', 'c', 'd', 'e'])
    rows, append = compose_gallery(PROTOCOLS['gallery_only'], QUERY, gallery)
    assert rows.tolist() == [1, 3] and not append
    with pytest.raises(UserError, match='nothing is left'):
        compose_gallery(PROTOCOLS['gallery_only'], QUERY, gallery.select([0, 2]))


def test_labels_that_disagree_between_query_and_gallery_are_refused():
    with pytest.raises(UserError, match="'b' has one camera_id among the queries and another"):
        compose_gallery(PROTOCOLS['gallery_only'], QUERY, labels([2, 1], [0, 0], ['b', 'a']))


def test_rows_of_finds_names_in_any_order():
    gallery = labels([1] * 4, [0] * 4, ['z', 'b', 'm', 'aa'])
    assert rows_of(labels([1] * 4, [0] * 4, ['aa', 'z', 'zz', 'b']), gallery).tolist() == [3, 0, -1, 1]


def random_embeddings(person, camera, names, size=8, seed=0):
    return Embeddings(
        embedding=np.random.default_rng(seed).standard_normal((len(person), size)).astype(np.float32),
        person_id=np.asarray(person),
        camera_id=np.asarray(camera),
        tracklet=np.asarray(names),
    )


def test_appending_the_queries_equals_giving_them():
    everybody = random_embeddings(np.repeat(np.arange(1, 9), 4), np.tile([0, 1, 2, 3], 8), [f't{i}' for i in range(32)])
    query, rest = (
        everybody.select(np.arange(0, 32, 3)),
        everybody.select(np.setdiff1d(np.arange(32), np.arange(0, 32, 3))),
    )
    assert score(query, rest, 'mars_official') == score(query, rest.join(query), 'mars_official')
    assert score(query, rest, 'gallery_only') == score(query, everybody, 'gallery_only')


def test_cross_camera_with_one_match_each_gives_the_mean_reciprocal_rank():
    n = 50
    query = random_embeddings(np.arange(1, n + 1), np.zeros(n, int), [f'cam1/{i}' for i in range(n)])
    gallery = random_embeddings(np.arange(1, n + 1), np.ones(n, int), [f'cam2/{i}' for i in range(n)], seed=1)
    unit = [t.embedding.astype(float) / np.linalg.norm(t.embedding, axis=1, keepdims=True) for t in (query, gallery)]
    similarity = unit[0] @ unit[1].T
    rank = (similarity >= np.diag(similarity)[:, None]).sum(axis=1)
    result = score(query, gallery, 'cross_camera')
    assert result.mAP == pytest.approx(np.mean(1 / rank)) and result.mINP == pytest.approx(result.mAP)
    assert (result.n_query_valid, result.n_gallery) == (n, n)
    # A gallery with the queries' camera in it changes nothing: it is not searched.
    same = score(query, gallery.join(query), 'cross_camera')
    assert (same.mAP, same.cmc) == (result.mAP, result.cmc)


def test_unknown_cameras_are_refused_where_they_matter_only():
    gallery = labels([1, 2, 3], [1, 2, -1], ['x', 'y', 'z'])  # person 3 is nobody's query
    for name in ('mars_official', 'gallery_only'):
        check_labels(PROTOCOLS[name], QUERY, gallery)
        with pytest.raises(UserError, match='0 queries and 1 gallery tracklets'):
            check_labels(PROTOCOLS[name], QUERY, labels([1, 2, 3], [1, -1, -1], ['x', 'y', 'z']))
        with pytest.raises(UserError, match=r"1 queries and 0 gallery tracklets.*'b'"):
            check_labels(PROTOCOLS[name], labels([1, 2], [0, -1], ['a', 'b']), gallery)
    with pytest.raises(UserError, match='0 queries and 1 gallery'):
        check_labels(PROTOCOLS['cross_camera'], QUERY, gallery)
    check_labels(PROTOCOLS['cross_camera'], QUERY, gallery, 'other')
    with pytest.raises(UserError, match='allowed are refuse, other, ignore'):
        check_labels(PROTOCOLS['mars_official'], QUERY, gallery, 'guess')


def test_without_cameras_a_query_never_finds_itself():
    everybody = random_embeddings(np.repeat(np.arange(1, 9), 4), np.full(32, -1), [f't{i}' for i in range(32)])
    query = everybody.select(np.arange(0, 32, 4))
    with pytest.raises(UserError, match=r'compares cameras.*choose the protocol all_but_query'):
        score(query, everybody)
    assert score(query, everybody, 'all_but_query') == dataclasses.replace(
        score(query, everybody, unknown_cameras='other'), protocol='all_but_query', unknown_cameras='refuse'
    )
    # By chance about 0.1; with itself it would be 1.
    assert score(query, everybody, unknown_cameras='other').rank_1 < 0.6
    with pytest.raises(UserError, match='none of the 8 queries'):
        score(query, everybody, unknown_cameras='ignore')


def test_all_but_query_finds_tracklets_of_the_same_camera_and_never_the_query():
    everybody = random_embeddings([1, 1, 2, 2, 0, -1], [3, 3, -1, 4, -1, -1], list('abcdef'))
    query = everybody.select([0, 2])
    # The gallery with the queries in it, and without them.
    given = [score(query, gallery, 'all_but_query') for gallery in (everybody, everybody.select([1, 3, 4, 5]))]
    assert given[0] == given[1]
    assert (given[0].n_query_valid, given[0].n_gallery, given[0].n_junk, given[0].protocol) == (
        2,
        6,
        1,
        'all_but_query',
    )
    with pytest.raises(UserError, match='none of the 1 queries has another tracklet of the same person in the gallery'):
        score(everybody.select([0]), everybody.select([2, 3]), 'all_but_query')


label_rows = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 2)), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    label_rows,
    label_rows,
    st.integers(0, 3),
    st.sampled_from(sorted(PROTOCOLS)),
    st.sampled_from(['refuse', 'other', 'ignore']),
)
def test_labels_are_refused_before_training_exactly_where_scoring_refuses_them(
    query, gallery, shared_names, protocol, unknown_cameras
):
    query, gallery = (
        labels(*zip(*rows), [f'{kind if i >= shared_names else "both"}{i}' for i in range(len(rows))])
        for kind, rows in (('q', query), ('g', gallery))
    )
    outcomes = []
    for call in (
        lambda: check_protocol(protocol, query, gallery, unknown_cameras),
        lambda: (
            MatchLists(*label_arrays(query, composed(protocol, query, gallery)), PROTOCOLS[protocol], unknown_cameras)
            .counts()
            .astype(bool)
            .sum()
        ),
    ):
        try:
            outcomes.append(int(call()))
        except UserError:
            outcomes.append(0)
    if not outcomes[0]:
        with pytest.raises(UserError):
            score(
                *(random_embeddings(t.person_id, t.camera_id, t.tracklet) for t in (query, gallery)),
                protocol,
                unknown_cameras=unknown_cameras,
            )
    else:
        assert outcomes[0] == outcomes[1]


def composed(protocol, query, gallery):
    rows, append = compose_gallery(PROTOCOLS[protocol], query, gallery)
    return gallery.select(rows).join(query) if append else gallery.select(rows)


def test_the_number_of_queries_with_something_to_find():
    gallery = labels([1, 2, 2], [1, 1, 1], ['x', 'y', 'z'])
    assert check_protocol('mars_official', QUERY, gallery) == 1  # person 2 is seen by one camera only
    assert check_protocol('all_but_query', QUERY, gallery) == 2
    with pytest.raises(UserError, match='queries is empty'):
        check_protocol('mars_official', QUERY.select([]), gallery)
    with pytest.raises(UserError, match='none of the 1 queries has a tracklet of the same person and another camera'):
        check_protocol('mars_official', QUERY.select([1]), gallery)


@given(label_rows, label_rows)
def test_cameras_are_left_out_where_no_pair_could_be_judged_by_them(query, gallery):
    query, gallery = (labels(*zip(*rows), [f'{i}' for i in range(len(rows))]) for rows in (query, gallery))
    chosen = default_protocol(query, gallery)
    blind = [
        t for t in (query, gallery) if (t.person_id > 0).any() and not ((t.person_id > 0) & (t.camera_id >= 0)).any()
    ]
    assert chosen == ('all_but_query' if blind else 'mars_official')
    # The rule by which data sets choose.
    assert chosen == ('mars_official' if knows_cameras(query) and knows_cameras(gallery) else 'all_but_query')


@pytest.mark.parametrize('person', [0, -1])
def test_nobody_can_look_for_junk_or_distractors(person):
    with pytest.raises(UserError, match='cannot be looked for'):
        check_labels(PROTOCOLS['mars_official'], labels([1, person], [0, 0], ['a', 'b']), QUERY)


def test_unknown_protocols_are_refused():
    with pytest.raises(
        UserError, match="'mars' is unknown; choose one of: mars_official, gallery_only, cross_camera, all_but_query"
    ):
        PROTOCOLS['mars']


def test_counts_of_the_official_tables(shared):
    folder = shared / 'data' / 'mars_info'
    tracks = scipy.io.loadmat(folder / 'tracks_test_info.mat')['track_test_info'].astype(int)
    query_rows = scipy.io.loadmat(folder / 'query_IDX.mat')['query_IDX'].astype(int).ravel() - 1
    gallery = random_embeddings(tracks[:, 2], tracks[:, 3], [f'{i:05d}' for i in range(len(tracks))])
    query = gallery.select(query_rows)
    official, without = score(query, gallery, 'mars_official'), score(query, gallery, 'gallery_only')
    assert (official.n_query, official.n_query_valid, official.n_gallery, official.n_junk) == (1980, 1980, 12180, 870)
    assert (without.n_query, without.n_query_valid, without.n_gallery, without.n_junk) == (1980, 1840, 9330, 0)
    assert official.rank_1 < 0.02 and official.mAP < 0.01  # embeddings without meaning
