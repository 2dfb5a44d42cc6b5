"""The people that a run was trained on, those of the run that it began with included: a test set must hold none of
them.

Known are people of a data set by name: the same table of labels, or a data set of the same name. Of other data sets
nothing is known, and nobody is assumed.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.fingerprint import labels_hash
from pvlad_jax.data.partition import Partition, partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable

_NAMED = 3  # people in a message


class Entry(TypedDict):
    """People of a data set by name."""

    data_set: str
    labels: str  # their hash
    people: list[str]
    inherited: bool  # whether by the run that this one began with
    trained_in: NotRequired[list[str]]  # of people whom a joined run was trained on in other data sets, their names


def entry_of(dataset: TrackletDataset, train: TrackletTable, trained_in: Sequence[str] = ()) -> Entry:
    """The people of a data set that a run was trained on, as data.json has them."""
    labels = labels_hash(dataset.tables, dataset.metadata)
    found = {'data_set': dataset.name, 'labels': labels, 'people': people_of(train), 'inherited': False}
    return {**found, 'trained_in': list(trained_in)} if trained_in else found


def entries_of(saved: Mapping[str, Any], config: Config, dataset: TrackletDataset) -> list[Entry]:
    """All that a run was trained on, as far as it is known.

    Args:
      saved: the run's data.json. One of a former version does not name people; they are found where the run was trained
        on the data set that is asked about.
      config: the run's.
      dataset: what is to be tested on.
    """
    if 'trained_on' in saved:
        return [dict(one) for one in saved['trained_on']]
    own = config.dataset
    if (saved.get('fingerprint') or {}).get('labels') != labels_hash(dataset.tables, dataset.metadata):
        return []
    # As versions drew that did not name people: each by himself, whatever batch.group_size was.
    roles = partition(dataset, own.split, own.halves, own.validation_share, config.seed, own.train_people)
    return [entry_of(dataset, roles.train)]


def check_test_people(
    config: Config, dataset: TrackletDataset, roles: Partition, entries: Iterable[Entry]
) -> Partition:
    """The roles, which then say how many of the test people were trained on.

    Raises:
      UserError: there are some, and config.evaluation.trained_people = 'refuse'.
    """
    test = people_of(TrackletTable.concatenate([roles.query, roles.gallery]))
    labels = labels_hash(dataset.tables, dataset.metadata)
    known = {
        person
        for one in entries
        if one['labels'] == labels or one['data_set'] == dataset.name
        for person in one['people']
    }
    both = [person for person in test if person in known]
    if not both:
        return roles
    if config.evaluation.trained_people != 'accept':
        raise UserError(
            f'{len(both)} of the {len(test)} people of the test set of {dataset.name!r} ({roles.name}) are '
            f'trained on, by this run or by the one that it began with: {named(both)}. A score on them says '
            'little about people never seen. Test on others (people who only share a name need one of their own: '
            'build the data set again), or accept it with --config.evaluation.trained_people=accept; the result then '
            'says so.'
        )
    return dataclasses.replace(roles, trained_people=len(both))


def people_of(table: TrackletTable) -> list[str]:
    """Names, sorted; without distractors and junk."""
    return sorted(set(table.person[table.person_id > 0].tolist()))


def named(people: Sequence[str]) -> str:
    """Their names in a message, at most `_NAMED` of them."""
    more = f' and {len(people) - _NAMED} more' if len(people) > _NAMED else ''
    return f'{", ".join(people[:_NAMED])}{more}'
