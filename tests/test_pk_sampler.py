"""P x K batches: who is drawn, how often, and with whom."""

import dataclasses

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import partition
from pvlad_jax.data.pk_sampler import PKSampler
from pvlad_jax.data.tracklet_dataset import TrackletDataset


@pytest.fixture(scope='module')
def opened(micro_data):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    return dataset, partition(dataset)


def test_people_are_seen_equally_often_and_cameras_mixed(opened):
    _, roles = opened
    batches = PKSampler(roles.train, people=3, tracklets=2, seed=5)
    rows = np.array([batches.rows(step) for step in range(8)]).reshape(8, 3, 2)
    labels = batches.labels[rows]
    assert (labels[..., 0] == labels[..., 1]).all()
    for turn in labels[..., 0].reshape(4, 6):  # two batches of 3 make a round of all 6 people
        assert sorted(turn) == list(range(6))
    assert (roles.train.camera_id[rows[..., 0]] != roles.train.camera_id[rows[..., 1]]).all()
    np.testing.assert_array_equal(batches.rows(7), PKSampler(roles.train, 3, 2, 5).rows(7))
    assert any((batches.rows(s) != PKSampler(roles.train, 3, 2, 6).rows(s)).any() for s in range(3))
    chosen = rows - rows.min() - 4 * labels  # which of a person's four
    assert (chosen != chosen[:, :1]).any()  # not the same of every person in a batch


def test_neighbours_meet_in_a_batch(opened):
    _, roles = opened
    batches = PKSampler(roles.train, people=2, tracklets=2, seed=5, group_size=2)
    pairs = {tuple(sorted(set(roles.train.person_id[batches.rows(step)].tolist()))) for step in range(30)}
    assert pairs == {(1, 2), (3, 4), (5, 6)}
    turns = [tuple(roles.train.person_id[batches.rows(s)[0]] // 2.1 for s in range(t, t + 3)) for t in range(0, 30, 3)]
    assert len(set(turns)) > 2  # the order of pairs changes


@pytest.mark.parametrize(
    'size, people, missing',
    [(2, 4, [3]), (2, 4, [1, 8, 10, 19]), (2, 2, [20]), (3, 6, [2, 7, 9]), (4, 4, [1, 2, 3, 9])],
)
def test_whole_groups_meet_also_where_others_are_not(opened, size, people, missing):
    """Of 21 people some are not trained on, such as those held out: their neighbours part no other group, unless one of
    it is left out of an epoch."""
    _, roles = opened
    there = np.setdiff1d(np.arange(1, 22), missing)
    train = dataclasses.replace(roles.train.select(np.zeros(len(there), int)), person_id=there)
    sampler = PKSampler(train, people, 1, seed=3, group_size=size)
    batches = [set(train.person_id[sampler.rows(step)].tolist()) for step in range(60)]
    whole = [g for g in np.arange(1, 22 - 21 % size).reshape(-1, size).tolist() if not set(g) & set(missing)]
    epoch = len(there) // people
    for start in range(0, 60 - epoch, epoch):
        parted = [g for g in whole if any(len(b & set(g)) not in (0, size) for b in batches[start : start + epoch])]
        assert len(parted) <= len(there) % size
        assert sum(map(len, batches[start : start + epoch])) == len(set.union(*batches[start : start + epoch]))
    assert set.union(*batches) == set(there.tolist())


@pytest.mark.parametrize(
    'size, people, there',
    [(2, 4, range(1, 14)), (4, 8, range(1, 22)), (2, 16, [*range(1, 13), 13, 15, 17, 19, 21, 23, 25, 27, 29])],
)
def test_people_of_smaller_groups_are_seen_as_often_as_others(opened, size, people, there):
    """A person without the others of the group, such as the last of an odd number: not left out of every epoch."""
    _, roles = opened
    train = dataclasses.replace(roles.train.select(np.zeros(len(there), int)), person_id=np.array(there))
    sampler = PKSampler(train, people, 1, seed=0, group_size=size)
    rows = np.concatenate([sampler.rows(step) for step in range(2_000)])
    seen = np.bincount(train.person_id[rows], minlength=30)[there]
    np.testing.assert_allclose(seen / seen.mean(), 1, atol=0.1)


def test_groups_of_nobody_are_an_error(opened):
    _, roles = opened
    odd = roles.train.select(roles.train.person_id % 2 == 1)
    with pytest.raises(UserError, match='group_size = 2: no two of the 3 training people'):
        PKSampler(odd, 2, 2, 0, group_size=2)


def test_a_person_with_few_tracklets_gives_them_again(opened):
    _, roles = opened
    one = roles.train.select(np.r_[0, 4 : len(roles.train)])  # person 1 keeps a single tracklet
    rows = [PKSampler(one, 6, 4, 0).rows(s) for s in range(2)]
    for batch in rows:
        counts = np.bincount(one.person_id[batch])
        assert (counts[1:7] == 4).all()


def test_too_few_people_are_errors(opened):
    _, roles = opened
    with pytest.raises(UserError, match='holds 6 people'):
        PKSampler(roles.train, 7, 2, 0)
    with pytest.raises(UserError, match='at least two'):
        PKSampler(roles.train.select(roles.train.person_id == 1), 1, 2, 0)
