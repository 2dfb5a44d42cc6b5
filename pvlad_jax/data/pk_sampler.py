"""P x K batches: P people, K tracklets of each (Hermans 2017), as a pure function of (seed, step)."""

import functools

import numpy as np
from jaxtyping import Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import group_of, person_labels
from pvlad_jax.data.tracklet_dataset import TrackletTable


class PKSampler:
    """Draws the tracklets of any step's batch without the steps before it, so that runs resume and shard.

    Identities come in epochs: each is a new order of all of them, cut into batches, so that all are seen equally often
    however many tracklets they have (one person of MARS has 271, one has 1). What is left of an epoch after whole
    batches is left for the next. Of a person, tracklets of different cameras are preferred; one with fewer than K gives
    some of them again. With `group_size` > 1, groups of that many people of consecutive numbers (`group_of`) stay in
    one piece: look-alikes whose numbers a data set has put next to each other then meet in a batch, and are each
    other's hardest negatives. Groups of which some are not trained on are joined to full ones. Where the number of
    people is no multiple of the group's, an epoch leaves out those who are too many, other ones each time: what remains
    of their groups is joined likewise, and no other group is parted.

    With `share` the people fall into several sets, as those of joined data sets do: each gives equally many people to
    every batch, in epochs of its own, so that all people of a small set are seen more often than those of a large one.
    A batch is then in random order, since devices and parts of an accumulated gradient take consecutive or alternate
    people, and each should meet all sets.
    """

    def __init__(
        self,
        train: TrackletTable,
        people: int,
        tracklets: int,
        seed: int,
        group_size: int = 1,
        share: Int[np.ndarray, 'N'] | None = None,
    ):
        """
        Args:
          group_size: divides `people`, and each set's share of it.
          share: the set of each row, counted from 0, whose number divides `people`; None = all are one set.
        """
        check_identities(train, people)
        labels, ids = person_labels(train)
        self.people, self.tracklets, self.seed = people, tracklets, seed
        self.labels, self.person_ids = labels, ids
        self._rows = np.split(np.argsort(labels, kind='stable'), np.cumsum(np.bincount(labels))[:-1])
        self._cameras = train.camera_id
        first_rows = np.array([rows[0] for rows in self._rows])
        set_of_label = np.zeros(len(ids), int) if share is None else share[first_rows]
        self._sets = [np.flatnonzero(set_of_label == number) for number in range(set_of_label.max() + 1)]
        self._group, self._group_size = group_of(ids, group_size), group_size
        if group_size > 1 and len(np.unique(self._group)) == len(ids):
            raise UserError(
                f'config.batch.group_size = {group_size}: no two of the {len(ids)} training people have numbers that '
                f'belong together (1 to {group_size}, {group_size + 1} to {2 * group_size}, ...). Set it to 1.'
            )
        self._order = functools.lru_cache(maxsize=4 * len(self._sets))(self._shuffled)

    def rows(self, step: int) -> Int[np.ndarray, 'B']:
        """Rows of the training table, P·K of them, person by person."""
        return np.concatenate([self.of_label(step, label) for label in self._people_of(step).tolist()])

    def _people_of(self, step: int) -> Int[np.ndarray, 'P']:
        """Labels."""
        each = self.people // len(self._sets)
        chosen = []
        for number, labels in enumerate(self._sets):
            epoch, place = divmod(step, len(labels) // each)
            chosen.append(self._order(number, epoch)[place * each : (place + 1) * each])
        together = np.concatenate(chosen)
        if len(self._sets) == 1:
            return together
        return together[np.random.default_rng([self.seed, 6, step]).permutation(self.people)]

    def _shuffled(self, number: int, epoch: int) -> Int[np.ndarray, 'L']:
        """The labels of a set in the order of an epoch."""
        stream = [self.seed, 1, epoch, *([number] if number else [])]
        labels = self._sets[number]
        return labels[_shuffled_groups(self._group[labels], self._group_size, np.random.default_rng(stream))]

    def rows_of_label(self, label: int) -> Int[np.ndarray, 'R']:
        """All rows of a person."""
        return self._rows[label]

    def of_label(self, step: int, label: int) -> Int[np.ndarray, 'K']:
        """The K rows of a person that a batch of this step takes, if it takes that person."""
        rng = np.random.default_rng([self.seed, 2, step, label])
        rows = rng.permutation(self._rows[label])
        # The n-th tracklet of each camera comes before any camera's n+1-th.
        seen: dict[int, int] = {}
        rank = np.empty(len(rows), int)
        for i, camera in enumerate(self._cameras[rows]):
            rank[i] = seen[camera] = seen.get(camera, -1) + 1
        rows = rows[np.argsort(rank, kind='stable')]
        return np.resize(rows, self.tracklets)


def check_identities(train: TrackletTable, people: int, why: str = '') -> None:
    """UserError where the training set has too few people for a batch of `people`. why: it may have so few, a
    clause."""
    there, why = len(person_labels(train)[1]), f' ({why})' if why else ''
    if there == 0:
        raise UserError(
            'The data set has no training people, so it can only be tested on: --mode=eval --workdir=WORKDIR of a '
            'trained network --config.evaluation.dataset=NAME (docs/transfer.md).'
        )
    if there < 2:
        raise UserError(f'The training set holds {there} person(s){why}; telling people apart takes at least two.')
    if there < people:
        raise UserError(
            f'config.batch.identities = {people}, but the training set holds {there} people{why}. '
            f'Set --config.batch.identities={there} or lower.'
        )


def _shuffled_groups(group: Int[np.ndarray, 'I'], size: int, rng: np.random.Generator) -> Int[np.ndarray, 'I']:
    """A random order of 0..I-1 that has a whole group at each multiple of `size`, so that no cut there parts one.

    Those who are too many for that are at the end, where an epoch leaves them out. They are drawn from all: always from
    the smaller groups, the same people would never be seen. Members of smaller groups are joined in the order in which
    they come.
    """
    order = rng.permutation(len(group))
    place = rng.permutation(group.max() + 1)[group]
    too_many, order = np.split(order, [len(group) % size])
    order = order[np.argsort(place[order], kind='stable')]
    joined = np.bincount(group[order])[group[order]] < size
    pieces = np.concatenate([order[~joined], order[joined]]).reshape(-1, size)
    if joined.any():
        pieces = rng.permutation(pieces)
    return np.concatenate([pieces.ravel(), too_many])
