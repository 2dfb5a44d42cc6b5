"""Who is trained on, who is asked for, and who is searched: the three lists of tracklets that a data set's layout and
split define.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.dataset_format import EVERYONE
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable

DEFAULT_PROTOCOL = {'roles': 'mars_official', 'query_rows': 'mars_official', 'people_splits': 'cross_camera'}

# As results say them; where a data set's splits follow no published rule, 'wang2014' means as its table has them.
HALVES = {'wang2014': 'halves as Wang 2014', 'swapped': 'halves swapped'}
HALVES_OF_TABLE = 'halves as the table of splits has them'
NO_CAMERAS = 'cameras unknown'


@dataclasses.dataclass(frozen=True)
class Partition:
    """Tracklets by role.

    `gallery` never holds a query's record twice; protocols add the queries where they want them there.
    """

    train: TrackletTable
    query: TrackletTable
    gallery: TrackletTable
    validation_query: TrackletTable  # of training people held out; empty without a validation share
    validation_gallery: TrackletTable
    protocol: str  # the data set's own; all_but_query where cameras are unknown
    name: str  # 'test', or 'split 3' where there are several
    convention: (
        str  # how the split's halves are read, where that is a choice, or that cameras are unknown; as results say it
    )
    trained_people: int = 0  # test people whom the run is known to have been trained on


def split_names(dataset: TrackletDataset) -> list[str]:
    """The values that config.dataset.split may take, in addition to 'all'."""
    return [str(i) for i in range(len(dataset.metadata.get('people_splits', [])) or 1)]


def partition(
    dataset: TrackletDataset,
    split: str = '0',
    halves: str = 'wang2014',
    validation_share: float = 0.0,
    seed: int = 0,
    train_people: int = 0,
    group_size: int = 1,
) -> Partition:
    """The roles of a data set's tracklets.

    Args:
      split: which of the layout `people_splits`; '0' for the other layouts.
      halves: 'swapped' exchanges training and test people of `people_splits` (some public code does).
      validation_share: share of the training people held out, drawn by `seed`, at least two where it is above 0.
      train_people: how many of those left are trained on, drawn by `seed`; 0 = all.
      group_size: people of one group (`group_of`) are held out together, and drawn one after the other.
    """
    if split not in split_names(dataset):
        raise UserError(
            f'config.dataset.split = {split!r}: data set {dataset.name!r} has the splits '
            f'{", ".join(split_names(dataset))}.'
        )
    layout = dataset.metadata['layout']
    name, convention = 'test', ''
    if layout == 'people_splits':
        name, convention = f'split {split}', _convention(dataset, halves)
    train, query, gallery = _tables_by_role(dataset, split, halves)
    protocol = DEFAULT_PROTOCOL[layout]
    if protocol == 'mars_official' and not (knows_cameras(query) and knows_cameras(gallery)):
        protocol, convention = 'all_but_query', NO_CAMERAS
    train, held_out = hold_out(train, validation_share, seed, protocol != 'all_but_query', group_size)
    train = draw_people(train, train_people, seed, group_size, held_out_clause(validation_share, held_out))
    if protocol == 'all_but_query':
        validation = first_of_each_person(held_out)
    elif protocol == 'cross_camera':
        validation = (
            held_out.select(held_out.camera_id == dataset.metadata['query_camera']),
            held_out.select(held_out.camera_id == dataset.metadata['gallery_camera']),
        )
    else:
        validation = first_of_each_camera(held_out)
    return Partition(train, query, gallery, *validation, protocol, name, convention)


def _tables_by_role(
    dataset: TrackletDataset, split: str, halves: str
) -> tuple[TrackletTable, TrackletTable, TrackletTable]:
    """(train, query, gallery) as the layout defines them (docs/design.md)."""
    layout, metadata, tables = dataset.metadata['layout'], dataset.metadata, dataset.tables
    match layout:
        case 'roles':
            query = tables['query']
            # There is none in a data set to test on alone.
            train = tables['train'] if 'train' in tables else query.select(slice(0))
            return train, query, tables['gallery']
        case 'query_rows':
            test, query_rows = tables['test'], np.asarray(metadata['query_rows'], int)
            is_query = np.zeros(len(test), bool)
            is_query[query_rows] = True
            return tables['train'], test.select(query_rows), test.select(~is_query)
        case 'people_splits':
            people = metadata['people_splits'][int(split)]
            sides = ('train', 'test') if halves == 'wang2014' else ('test', 'train')
            everyone = tables[EVERYONE]
            train, test = (everyone.select(np.isin(everyone.person_id, people[side])) for side in sides)
            query = test.select(test.camera_id == metadata['query_camera'])
            return train, query, test.select(test.camera_id == metadata['gallery_camera'])
    raise UserError(f'{dataset.folder}: unknown layout {layout!r} in metadata.json. Convert the data set again.')


def _convention(dataset: TrackletDataset, halves: str) -> str:
    """How the halves of the layout `people_splits` are read, as results say it."""
    if (drawn := dataset.metadata.get('splits_drawn_by_seed')) is not None:
        swapped = f'; {HALVES[halves]}' if halves != 'wang2014' else ''
        return f'splits drawn with seed {drawn}, not the published ones{swapped}'
    as_is = halves == 'wang2014' and dataset.metadata.get('halves') != 'wang2014'
    return HALVES_OF_TABLE if as_is else HALVES[halves]


def knows_cameras(table: Any) -> bool:
    """Whether any person's camera is known; where none is, of the queries or of the gallery, no pair can be judged by
    cameras.
    """
    people = table.person_id > 0
    return bool((table.camera_id[people] >= 0).any()) or not people.any()


def group_of(person_id: Int[np.ndarray, '*n'], size: int) -> Int[np.ndarray, '*n']:
    """The group that a person belongs to, config.batch.group_size: people 1 to `size` are the first, and so on."""
    return (person_id - 1) // size


def hold_out(
    train: TrackletTable, share: float, seed: int, by_camera: bool = True, group_size: int = 1
) -> tuple[TrackletTable, TrackletTable]:
    """(kept, held out): whole people, a seeded choice among those who can be searched for.

    Args:
      by_camera: these are people seen by two known cameras or more, and only their tracklets of known cameras are held
        out; otherwise people with two tracklets or more.
      group_size: of a group (`group_of`) all are held out, or none; the share is met to about a group.
    """
    if share == 0:
        return train, train.select(np.zeros(len(train), bool))
    everyone = np.unique(train.person_id)
    usable = train.camera_id >= 0 if by_camera else np.ones(len(train), bool)
    place = train.camera_id if by_camera else np.arange(len(train))
    # A person once for each camera, or tracklet.
    seen = np.unique(np.stack([train.person_id[usable], place[usable]]), axis=1)[0]
    people, places = np.unique(seen, return_counts=True)
    group = group_of(everyone, group_size)
    # Groups of which everybody can be searched for.
    whole = np.setdiff1d(group, group_of(np.setdiff1d(everyone, people[places >= 2]), group_size))
    usable_people = everyone[np.isin(group, whole)]
    count = max(2, round(share * len(everyone)))
    groups = max(2, round(count * len(whole) / max(len(usable_people), 1)))
    if len(whole) < groups or len(everyone) < groups * group_size + 2:
        such = 'seen by two cameras' if by_camera else 'with two tracklets'
        such += f', in whole groups of config.batch.group_size = {group_size}' if group_size > 1 else ''
        remedy = 'Lower it, or set it to 0.' if groups > 2 else 'No share holds out fewer: set it to 0.'
        raise UserError(
            f'config.dataset.validation_share = {share} holds out {count} people {such}, and must leave two to '
            f'train on; the training set has {len(usable_people)} such people, {len(everyone)} in all. {remedy}'
        )
    drawn = np.random.default_rng([seed, 0x7A11]).choice(whole, groups, replace=False)
    out = np.isin(group_of(train.person_id, group_size), drawn)
    return train.select(~out), train.select(out & usable)


def held_out_clause(share: float, *held_out: TrackletTable) -> str:
    """How many people validation takes from training, as a clause; '' without validation. held_out: all of them."""
    people = {person for table in held_out for person in table.person_id.tolist()}
    return f'config.dataset.validation_share = {share:g} holds out {len(people)}, never fewer than two' if share else ''


def draw_people(train: TrackletTable, count: int, seed: int, group_size: int = 1, held_out: str = '') -> TrackletTable:
    """The tracklets of `count` people, 0 = all. Of one seed, those of a larger number include those of a smaller one,
    as a learning curve needs. People of a group (`group_of`) are drawn one after the other.

    Args:
      held_out: `held_out_clause` of those who are no longer in `train`.
    """
    people = np.unique(train.person_id)
    if count == 0:
        return train
    if count > len(people):
        raise UserError(
            f'config.dataset.train_people = {count}: there are {len(people)} people to train on'
            f'{f" ({held_out})" if held_out else ""}. Lower it, or set it to 0 for all.'
        )
    groups, which = np.unique(group_of(people, group_size), return_inverse=True)
    place = np.argsort(np.random.default_rng([seed, 0xD3A3]).permutation(len(groups)))
    drawn = people[np.argsort(place[which], kind='stable')][:count]
    return train.select(np.isin(train.person_id, drawn))


def first_of_each_person(table: TrackletTable) -> tuple[TrackletTable, TrackletTable]:
    """(query, gallery) without cameras: each person's first tracklet is the query."""
    is_query = np.zeros(len(table), bool)
    is_query[np.unique(table.person_id, return_index=True)[1]] = True
    return table.select(is_query), table.select(~is_query)


def first_of_each_camera(table: TrackletTable) -> tuple[TrackletTable, TrackletTable]:
    """(query, gallery) as MARS chooses them: one query for every person and camera of people seen by two cameras or
    more.
    """
    pairs, first = np.unique(np.stack([table.person_id, table.camera_id]), axis=1, return_index=True)
    _, person, cameras = np.unique(pairs[0], return_inverse=True, return_counts=True)
    is_query = np.zeros(len(table), bool)
    is_query[first[cameras[person] >= 2]] = True
    return table.select(is_query), table.select(~is_query)


def person_labels(train: TrackletTable) -> tuple[np.ndarray, np.ndarray]:
    """(label 0..I-1 of each row, the I person ids in label order)."""
    people, labels = np.unique(train.person_id, return_inverse=True)
    return labels.astype(np.int32), people
