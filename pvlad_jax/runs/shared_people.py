"""People whom joined data sets have in common, as far as identical tracklets show it.

Such a person would be taught to the network as two, or be tested after training. Tracklets are identical where their
encoded frames are: one that was cut or encoded anew is not recognised.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.data.tracklet_digests import BYTES, tracklet_digests
from pvlad_jax.runs.experiment import NetworkOnData
from pvlad_jax.runs.trained_people import Entry, entry_of, named, people_of

CHECKED = 'people that data sets have in common'  # in data.json
_Tables = dict[tuple[str, str], TrackletTable]  # by data set and 'trained' or 'tested'


class _Tracklets(NamedTuple):
    """Of people, with a digest of each row; b'' = unknown."""

    table: TrackletTable
    digests: list[bytes]

    def also_in(self, other: '_Tracklets') -> TrackletTable:
        """The rows whose tracklet the others hold too."""
        known = set(other.digests) - {b''}
        return self.table.select(np.array([digest in known for digest in self.digests], bool))


def check_shared_people(config: Config, parts: Mapping[str, NetworkOnData]) -> list[Entry]:
    """Compares all data sets of a join. All processes must call it: they share the reading out.

    Returns:
      An entry for each data set of which test people are trained on in another one, where that is accepted.

    Raises:
      UserError: people are trained on in two data sets; or tested in one and trained on in another, and
        config.evaluation.trained_people = 'refuse'.
    """
    trained, tested = _tracklets(config, parts)
    for one, other in itertools.combinations(parts, 2):
        both = trained[one].also_in(trained[other])
        if len(both):
            raise UserError(
                f'{_counted(both)} of the training set of {one!r} are in that of {other!r} as well: '
                f'{named(people_of(both))}. Each of them would count as two. Leave one of the two data sets '
                'out, or build one of them again without these people.'
            )
    return [entry for part in parts for entry in _tested_after_training(config, part, parts[part], tested, trained)]


def _tested_after_training(
    config: Config, part: str, test: NetworkOnData, tested: Mapping[str, _Tracklets], trained: Mapping[str, _Tracklets]
) -> list[Entry]:
    found = {other: tested[part].also_in(trained[other]) for other in trained if other != part}
    found = {other: both for other, both in found.items() if len(both)}
    if not found:
        return []
    other, both = next(iter(found.items()))
    if config.evaluation.trained_people != 'accept':
        raise UserError(
            f'{_counted(both)} of the test set of {part!r} are in the training set of {other!r}: '
            f'{named(people_of(both))}. A score on them says little about people never seen. Leave one of the two data '
            'sets out, or accept it with --config.evaluation.trained_people=accept; the result then says so.'
        )
    return [entry_of(test.dataset, TrackletTable.concatenate(list(found.values())), trained_in=sorted(found))]


def _tracklets(
    config: Config, parts: Mapping[str, NetworkOnData]
) -> tuple[dict[str, _Tracklets], dict[str, _Tracklets]]:
    """({data set: trained on, or held out for validation}, {data set: tested}): those tracklets that another data set
    may hold too. By the number of frames, then by a few frames, most are left out before they are read.
    """
    tables: _Tables = {}
    for part, test in parts.items():
        roles = test.partition
        tables[part, 'trained'] = _of_people(roles.train, roles.validation_query, roles.validation_gallery)
        tables[part, 'tested'] = _of_people(roles.query, roles.gallery)
    tables = _kept(tables, {place: table.n_frames.tolist() for place, table in tables.items()})
    tables = _kept(tables, _digests(config, parts, tables, whole=False))
    digests = _digests(config, parts, tables, whole=True)
    trained, tested = (
        {part: _Tracklets(tables[part, kind], digests[part, kind]) for part in parts} for kind in ('trained', 'tested')
    )
    return trained, tested


def _kept(tables: _Tables, keys: Mapping[tuple[str, str], Sequence[Any]]) -> _Tables:
    """The rows whose key another data set has too."""
    kept = {}
    for (part, kind), table in tables.items():
        elsewhere = {key for (other, _), some in keys.items() if other != part for key in some}
        kept[part, kind] = table.select(np.array([key in elsewhere for key in keys[part, kind]], bool))
    return kept


def _of_people(*tables: TrackletTable) -> TrackletTable:
    """Without junk and distractors."""
    table = TrackletTable.concatenate(tables)
    return table.select(table.person_id > 0)


def _digests(
    config: Config, parts: Mapping[str, NetworkOnData], tables: _Tables, whole: bool
) -> dict[tuple[str, str], list[bytes]]:
    mine, found = slice(jax.process_index(), None, jax.process_count()), {}
    for (part, kind), table in tables.items():
        digests = np.zeros((len(table), BYTES), np.uint8)
        digests[mine] = tracklet_digests(parts[part].dataset, table.select(mine), config.input.threads, whole)
        if jax.process_count() > 1 and len(table):
            digests = np.asarray(multihost_utils.process_allgather(digests)).max(axis=0)
        found[part, kind] = [row.tobytes() if row.any() else b'' for row in digests]
    return found


def _counted(table: TrackletTable) -> str:
    people = len(people_of(table))
    return f'{people} {"people" if people > 1 else "person"} ({len(table)} tracklet{"s" if len(table) > 1 else ""})'
