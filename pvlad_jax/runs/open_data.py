"""The data of a run: one data set, or several that are joined, with the roles of their tracklets."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pvlad_jax.config import Config
from pvlad_jax.config.data_set_names import is_join, joined_data_sets, without_blanks
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.fingerprint import labels_hash
from pvlad_jax.data.joined_dataset import AnyDataset, JoinedDataset, joined_roles
from pvlad_jax.data.partition import Partition, held_out_clause, partition, person_labels, split_names
from pvlad_jax.data.tracklet_dataset import TrackletDataset, find_dataset


class OpenedData(NamedTuple):
    """The data of a run: one data set, or several that are joined.

    Attributes:
      roles: of the data set; of a join those of all data sets together, `train` with new numbers.
      parts: of a join, each data set with its own roles, by its name as the user wrote it and in that order; else {}.
    """

    dataset: AnyDataset
    roles: Partition
    parts: Mapping[str, tuple[TrackletDataset, Partition]]


def open_data(config: Config) -> OpenedData:
    """Opens what config.dataset.name names.

    Raises:
      UserError: no such data set or split, one that this program cannot read, or data sets that cannot be joined.
    """
    given = config.dataset
    if not is_join(given.name):
        _check_split_is_elsewhere(given.data_dir, given.name)
        dataset = TrackletDataset.open(given.data_dir, given.name)
        _check_halves(config, dataset)
        roles = _roles(config, dataset, given.split)
        return OpenedData(dataset, roles, {})
    if folder := find_dataset(given.data_dir, given.name):
        raise UserError(
            f'config.dataset.name = {given.name!r}: + joins data sets, and {folder.parent} is one of that very name. '
            'Rename its folder.'
        )
    named = joined_data_sets(given.name)
    opened = {one.written: TrackletDataset.open(given.data_dir, one.name) for one in named}
    _check_halves(config, *opened.values())
    parts = {}
    for one in named:
        dataset = opened[one.written]
        if one.split not in split_names(dataset):
            raise UserError(
                f'config.dataset.name = {given.name!r}: data set {one.name!r} has the splits '
                f'{", ".join(split_names(dataset))}, and not {one.split}.'
            )
        with said_of(one.written):
            parts[one.written] = (dataset, _roles(config, dataset, one.split))
    return join(config, parts)


def _roles(config: Config, dataset: TrackletDataset, split: str) -> Partition:
    given = config.dataset
    shares = given.validation_share, config.seed, given.train_people, config.batch.group_size
    return partition(dataset, split, given.halves, *shares)


def join(config: Config, parts: Mapping[str, tuple[TrackletDataset, Partition]]) -> OpenedData:
    """Data sets with their roles, by name, as one.

    Raises:
      UserError: two of them are one data set, or one has nobody to train on, or too few for its share of a batch.
    """
    name, labels, share = config.dataset.name, {}, config.batch.identities // len(parts)
    for part, (dataset, roles) in parts.items():
        other = labels.setdefault(labels_hash(dataset.tables, dataset.metadata), part)
        if other != part:
            raise UserError(
                f'config.dataset.name = {name!r}: {other!r} and {part!r} are one data set under two names (their '
                'tables of tracklets are the same): each of its people would count as two. Leave one of them out.'
            )
        if not len(roles.train):
            raise UserError(
                f'config.dataset.name = {name!r}: {part!r} has nobody to train on. Leave it out, and test on it '
                f'afterwards: --mode=eval --workdir=WORKDIR --config.evaluation.dataset={part}'
            )
        there = len(person_labels(roles.train)[1])
        if config.batch.sampling == 'balanced' and there < share:
            why = held_out_clause(config.dataset.validation_share, roles.validation_query, roles.validation_gallery)
            raise UserError(
                f"config.batch.sampling = 'balanced' takes {share} people of each data set for a batch, and {part!r} "
                f'has {there} to train on{f" ({why})" if why else ""}. Set '
                f'--config.batch.identities={there * len(parts)} or lower, or '
                '--config.batch.sampling=proportional.'
            )
    dataset = JoinedDataset(name, config.dataset.data_dir, {part: dataset for part, (dataset, _) in parts.items()})
    roles = joined_roles(dataset, {part: roles for part, (_, roles) in parts.items()}, config.batch.group_size)
    return OpenedData(dataset, roles, parts)


@contextlib.contextmanager
def said_of(part: str) -> Iterator[None]:
    """Names the data set of a join, where there is one, that a UserError is about."""
    try:
        yield
    except UserError as error:
        if not part:
            raise
        raise UserError(f'Of the joined data sets, {part!r}: {error}') from error


def _check_split_is_elsewhere(data_dir: str, name: str) -> None:
    """UserError where one data set is named as those of a join are."""
    folder, at, split = without_blanks(name).partition('@')
    if at and find_dataset(data_dir, name) is None and find_dataset(data_dir, folder) is not None:
        raise UserError(
            f'config.dataset.name = {name!r}: a split is written behind the name where data sets are joined. Of one, '
            f'set --config.dataset.name={folder} --config.dataset.split={split}'
        )


def _check_halves(config: Config, *data_sets: TrackletDataset) -> None:
    """UserError where config.dataset.halves has no effect."""
    given = config.dataset
    if given.halves != 'wang2014' and all(one.metadata['layout'] != 'people_splits' for one in data_sets):
        raise UserError(
            f'config.dataset.halves = {given.halves!r} has no effect: data set {given.name!r} has no splits '
            "into halves. Set it to 'wang2014'."
        )
