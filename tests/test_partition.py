"""Who is trained on, asked for and searched: laws for every layout, every split and every share held out."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import first_of_each_camera, hold_out, partition, person_labels, split_names
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable


def table(person, camera, split: str = 'train') -> TrackletTable:
    n = len(person)
    names = np.array([f'{split}{i}' for i in range(n)], dtype=np.str_)
    return TrackletTable(
        split=np.full(n, split),
        row=np.arange(n),
        tracklet=names,
        person=np.array([str(p) for p in person]),
        person_id=np.array(person, np.int64),
        camera_id=np.array(camera, np.int64),
        n_frames=np.full(n, 5),
    )


class DataSet(TrackletDataset):
    """What `partition` looks at."""

    def __init__(self, tables: dict[str, TrackletTable], **metadata):
        self.tables, self.metadata, self.name, self.folder = tables, metadata, 'made_up', 'nowhere'


def names(t: TrackletTable) -> list[str]:
    return t.tracklet.tolist()


def people(t: TrackletTable) -> set[int]:
    return set(t.person_id.tolist())


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(st.integers(1, 12), st.integers(-1, 4)), min_size=1, max_size=60))
    return table(*zip(*rows))


TEN = list(range(1, 11))


@pytest.fixture
def roles():
    train = table(np.repeat(TEN, 4), [1, 1, 2, 3] * 10)
    return DataSet(
        {
            'train': train,
            'query': table([20, 21], [1, 2], 'query'),
            'gallery': table([20, 21, 0, -1], [2, 1, 1, 1], 'gallery'),
        },
        layout='roles',
    )


@pytest.fixture
def mars():
    test = table([-1, 0, 20, 20, 20, 21, 21], [1, 2, 1, 1, 2, 3, 4], 'test')
    return DataSet(
        {'train': table(np.repeat(TEN, 4), [1, 1, 2, 3] * 10), 'test': test},
        layout='query_rows',
        query_rows=[6, 2, 4, 5],
    )


@pytest.fixture
def split_people():
    everyone = table(np.repeat(np.arange(1, 21), 2), [1, 2] * 20, 'everyone')
    order = [np.random.default_rng(s).permutation(20) + 1 for s in range(3)]
    splits = [{'train': sorted(o[:10].tolist()), 'test': sorted(o[10:].tolist())} for o in order]
    return DataSet(
        {'everyone': everyone},
        layout='people_splits',
        people_splits=splits,
        query_camera=1,
        gallery_camera=2,
        halves='wang2014',
    )


def test_roles_are_what_the_data_set_says(roles):
    p = partition(roles)
    assert all(names(getattr(p, role)) == names(roles.tables[role]) for role in ('train', 'query', 'gallery'))
    assert (p.protocol, p.name, p.convention) == ('mars_official', 'test', '') and len(p.validation_query) == len(
        p.validation_gallery
    ) == 0


def test_query_rows_are_queries_in_the_tables_order_and_the_rest_is_the_gallery(mars):
    p = partition(mars)
    assert names(p.query) == ['test6', 'test2', 'test4', 'test5'] and names(p.gallery) == ['test0', 'test1', 'test3']
    assert p.gallery.person_id.tolist() == [-1, 0, 20]  # junk and distractors stay
    assert p.protocol == 'mars_official'


@pytest.mark.parametrize('split', ['0', '1', '2'])
@pytest.mark.parametrize('halves', ['wang2014', 'swapped'])
def test_a_split_parts_people_and_cameras(split_people, split, halves):
    p = partition(split_people, split, halves)
    given_split = split_people.metadata['people_splits'][int(split)]
    train, test = (given_split[h] for h in (('train', 'test') if halves == 'wang2014' else ('test', 'train')))
    assert (
        people(p.train) == set(train)
        and people(p.query) == people(p.gallery) == set(test)
        and not people(p.train) & people(p.query)
    )
    assert set(p.query.camera_id) == {1} and set(p.gallery.camera_id) == {2}
    assert len(p.train) + len(p.query) + len(p.gallery) == 40 and (p.protocol, p.name) == (
        'cross_camera',
        f'split {split}',
    )


def test_swapped_halves_are_the_other_way_round_and_are_named(split_people):
    wang, swapped = (partition(split_people, '1', h) for h in ('wang2014', 'swapped'))
    assert people(wang.train) == people(swapped.query) and people(wang.query) == people(swapped.train)
    assert (wang.convention, swapped.convention) == ('halves as Wang 2014', 'halves swapped')
    del split_people.metadata['halves']  # PRID 2011: no published rule
    assert partition(split_people, '1').convention == 'halves as the table of splits has them'
    assert partition(split_people, '1', 'swapped').convention == 'halves swapped'


def test_splits_are_named_and_others_refused(roles, split_people):
    assert split_names(roles) == ['0'] and split_names(split_people) == ['0', '1', '2']
    for data, split in (
        (roles, '1'),
        (split_people, '3'),
        (split_people, '-1'),
        (split_people, 'all'),
        (split_people, '01'),
    ):
        with pytest.raises(UserError, match='has the splits'):
            partition(data, split)
    with pytest.raises(UserError, match="unknown layout 'pairs'"):
        partition(DataSet({}, layout='pairs'))


@pytest.mark.parametrize('data', ['roles', 'mars', 'split_people'])
@pytest.mark.parametrize('share', [0.2, 0.5])
def test_people_held_out_are_of_the_training_set_and_nobody_trains_on_them(data, share, request):
    data = request.getfixturevalue(data)
    whole, p = partition(data), partition(data, validation_share=share, seed=3)
    held = people(p.validation_query)
    assert (
        held
        and not held & people(p.train)
        and people(p.train) | held == people(whole.train)
        and people(p.validation_gallery) == held
    )
    assert len(held) == round(share * len(people(whole.train)))
    assert not held & (people(p.query) | people(p.gallery))
    assert (names(p.query), names(p.gallery)) == (names(whole.query), names(whole.gallery))  # the test stays as it is
    assert not set(names(p.validation_query)) & set(names(p.validation_gallery))


@pytest.mark.parametrize('data', ['roles', 'mars', 'split_people'])
def test_fewer_people_are_trained_on_and_the_rest_stays(data, request):
    """Whole people, drawn by the seed, more hold fewer; test and validation are those of all."""
    data = request.getfixturevalue(data)
    whole = partition(data, validation_share=0.2, seed=3)
    everyone = sorted(people(whole.train))
    drawn = [partition(data, validation_share=0.2, seed=3, train_people=n) for n in range(1, len(everyone) + 1)]
    for n, p in enumerate(drawn, 1):
        assert len(people(p.train)) == n
        assert names(p.train) == [
            name for name, who in zip(names(whole.train), whole.train.person_id) if who in people(p.train)
        ]
        for role in ('query', 'gallery', 'validation_query', 'validation_gallery'):
            assert names(getattr(p, role)) == names(getattr(whole, role))
    assert all(people(a.train) < people(b.train) for a, b in itertools.pairwise(drawn))
    assert names(drawn[-1].train) == names(whole.train)
    others = {frozenset(people(partition(data, seed=s, train_people=2).train)) for s in range(8)}
    assert len(others) > 1
    with pytest.raises(UserError, match=rf'train_people = {len(everyone) + 1}: there are {len(everyone)} people'):
        partition(data, validation_share=0.2, seed=3, train_people=len(everyone) + 1)


def groups(t: TrackletTable, size: int) -> list[set[int]]:
    """The people of each group in the table."""
    return [{p for p in people(t) if (p - 1) // size == g} for g in {(p - 1) // size for p in people(t)}]


@pytest.mark.parametrize('size', [2, 3])
@pytest.mark.parametrize('share', [0.0, 0.2, 0.5])
@pytest.mark.parametrize('drawn', [0, 4])
def test_groups_stay_together(roles, size, share, drawn):
    everyone = groups(roles.tables['train'], size)
    for seed in range(6):
        p = partition(roles, validation_share=share, seed=seed, train_people=drawn, group_size=size)
        assert all(group in everyone for group in groups(p.validation_query, size))
        assert len(people(p.train)) == drawn or not drawn
        assert sum(group not in everyone for group in groups(p.train, size)) <= (1 if drawn else 0)
        if share:
            assert abs(len(people(p.validation_query)) - max(2, 10 * share)) < 2 * size


def test_a_group_is_not_held_out_where_one_of_it_cannot_be_searched_for():
    t = table(np.repeat(TEN, 2), [1, 2] * 2 + [1, 1] + [1, 2] * 7)  # person 3 is seen by one camera
    held = set.union(*(people(hold_out(t, 0.4, seed, group_size=2)[1]) for seed in range(20)))
    assert held == set(TEN) - {3, 4}
    with pytest.raises(UserError, match=r'in whole groups of config.batch.group_size = 2, .* has 8 such people, 10 in'):
        hold_out(t, 0.95, 0, group_size=2)


def test_held_out_people_are_drawn_by_the_seed(roles):
    drawn = [people(partition(roles, validation_share=0.3, seed=s).validation_query) for s in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len({frozenset(d) for d in drawn}) > 1


def test_validation_follows_the_protocol_of_the_test(mars, split_people):
    p = partition(mars, validation_share=0.3)
    assert sorted(zip(p.validation_query.person_id.tolist(), p.validation_query.camera_id.tolist())) == [
        (person, camera) for person in sorted(people(p.validation_query)) for camera in (1, 2, 3)
    ]
    p = partition(split_people, '2', validation_share=0.3)
    assert set(p.validation_query.camera_id) == {1} and set(p.validation_gallery.camera_id) == {2}


@given(tables())
def test_one_query_for_every_person_and_camera_of_people_seen_twice(t):
    query, gallery = first_of_each_camera(t)
    assert sorted(names(query) + names(gallery)) == sorted(names(t))
    asked = list(zip(query.person_id.tolist(), query.camera_id.tolist()))
    cameras = {p: {c for q, c in zip(t.person_id.tolist(), t.camera_id.tolist()) if q == p} for p in people(t)}
    # MARS's rule, each once.
    assert sorted(asked) == sorted((p, c) for p, seen in cameras.items() if len(seen) >= 2 for c in seen)


@given(tables(), st.floats(0.01, 0.9), st.integers(0, 5))
def test_whole_people_are_held_out_or_it_is_refused(t, share, seed):
    try:
        kept, out = hold_out(t, share, seed)
    except UserError as error:
        assert 'validation_share' in str(error)
        return
    assert not people(kept) & people(out) and people(kept) | people(out) == people(t) and len(people(kept)) >= 2
    assert (out.camera_id >= 0).all() and all(len(set(out.camera_id[out.person_id == p])) >= 2 for p in people(out))
    assert len(people(out)) == max(2, round(share * len(people(t))))
    again = hold_out(t, share, seed)
    assert names(again[0]) == names(kept) and names(again[1]) == names(out)


@given(tables())
def test_nothing_is_held_out_without_a_share(t):
    kept, out = hold_out(t, 0.0, 0)
    assert names(kept) == names(t) and not len(out)


@given(tables())
def test_labels_number_the_people_from_zero(t):
    labels, who = person_labels(t)
    np.testing.assert_array_equal(who[labels], t.person_id)
    assert (
        labels.dtype == np.int32
        and sorted(set(labels.tolist())) == list(range(len(people(t))))
        and (np.diff(who) > 0).all()
    )


def test_a_share_that_leaves_nobody_is_told(roles):
    for share in (0.9, 0.99):
        with pytest.raises(UserError, match='must leave two to train on'):
            partition(roles, validation_share=share)


def test_a_training_set_that_is_too_small_for_any_share_is_not_told_to_lower_it():
    three = table([1, 1, 2, 2, 3, 3], [1, 2] * 3, 'train')
    for share in (0.01, 0.5):
        with pytest.raises(UserError, match=r'3 in all\. No share holds out fewer: set it to 0\.'):
            hold_out(three, share, 0)
    with pytest.raises(UserError, match=r'4 in all\. Lower it, or set it to 0\.'):
        hold_out(table([1, 1, 2, 2, 3, 3, 4, 4], [1, 2] * 4, 'train'), 0.8, 0)


def test_people_without_cameras_are_scored_by_a_protocol_that_needs_none(roles):
    for role in ('query', 'gallery'):
        blind = DataSet({**roles.tables, role: table([20, 21], [-1, -1], role)}, layout='roles')
        assert (partition(blind).protocol, partition(blind).convention) == ('all_but_query', 'cameras unknown')
    some = DataSet({**roles.tables, 'gallery': table([20, 21, 0], [-1, 2, -1], 'gallery')}, layout='roles')
    assert partition(some).protocol == 'mars_official'
    # Cameras of distractors and junk judge no pair.
    others = DataSet({**roles.tables, 'gallery': table([20, 21, 0, -1], [-1, -1, 2, 1], 'gallery')}, layout='roles')
    assert partition(others).protocol == 'all_but_query'


def test_people_without_cameras_are_held_out_by_their_tracklets():
    train = table([1, 1, 2, 2, 2, 3, 4, 4, 5, 5], [-1] * 10)
    p = partition(
        DataSet(
            {'train': train, 'query': table([20], [-1], 'query'), 'gallery': table([20], [-1], 'gallery')},
            layout='roles',
        ),
        validation_share=0.5,
    )
    held = people(p.validation_query)
    assert len(held) == 2 and 3 not in held and held == people(p.validation_gallery) and not held & people(p.train)
    assert len(p.validation_query) == 2 and len(p.train) + len(p.validation_query) + len(p.validation_gallery) == 10
    with pytest.raises(UserError, match='holds out 4 people with two tracklets'):
        hold_out(train, 0.8, 0, by_camera=False)
