"""Several data sets read as one, for training on the union of their people.

Everything of a data set gets its name in front, and numbers of its own: records are found by 'NAME:SPLIT', tracklets
are called 'NAME/TRACKLET', people and known cameras are counted on from those of the data set before. So one person
number, camera or tracklet name in two data sets means two.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pvlad_jax.core.paths import user_path
from pvlad_jax.data.partition import Partition
from pvlad_jax.data.tracklet_dataset import EncodedTracklet, TrackletDataset, TrackletTable

_MARK = ':'  # between a data set's name and its split; no name holds it
_TABLES = ('train', 'query', 'gallery', 'validation_query', 'validation_gallery')  # of a Partition


class JoinedDataset:
    """Data sets by name, in the order of their names: how a user has ordered them changes nothing in training.

    Attributes:
      name: as config.dataset.name has it.
      folder: that the data sets lie in.
    """

    def __init__(self, name: str, data_dir: str, data_sets: Mapping[str, TrackletDataset]):
        self.name, self.folder = name, Path(user_path(data_dir))
        self.data_sets = {part: data_sets[part] for part in sorted(data_sets)}

    def read(self, split: str, row: int | np.integer) -> EncodedTracklet:
        """The record of a row of a joined table. CorruptRecord where it is damaged."""
        part, _, own = str(split).rpartition(_MARK)
        record = self.data_sets[part].read(own, row)
        return EncodedTracklet(_called(part, record.tracklet), record.frames)


AnyDataset = TrackletDataset | JoinedDataset


def data_sets_of(dataset: AnyDataset) -> dict[str, TrackletDataset]:
    """Those of a join by their names; otherwise {'': the data set}."""
    return dataset.data_sets if isinstance(dataset, JoinedDataset) else {'': dataset}


def joined_roles(dataset: JoinedDataset, roles: Mapping[str, Partition], group_size: int = 1) -> Partition:
    """The roles of all data sets in one, whose tables `dataset` reads. It has no protocol: each data set has its own.

    Args:
      roles: of each data set, by name.
      group_size: config.batch.group_size; people who stand next to each other in a data set stay in one group.
    """
    tables: dict[str, list[TrackletTable]] = {kind: [] for kind in _TABLES}
    people = cameras = 0  # numbers that are taken
    for part, own in dataset.data_sets.items():
        for kind in _TABLES:
            tables[kind].append(_renumbered(part, getattr(roles[part], kind), people, cameras))
        people += -(-max(int(t.person_id.max(initial=0)) for t in own.tables.values()) // group_size) * group_size
        cameras += max(int(t.camera_id.max(initial=0)) for t in own.tables.values()) + 1
    united = {kind: TrackletTable.concatenate(some) for kind, some in tables.items()}
    return Partition(**united, protocol='', name='test', convention='')


def data_set_of_rows(table: TrackletTable) -> Int[np.ndarray, 'N']:
    """Which data set each row of a joined table belongs to, counted from 0; all 0 where nothing was joined."""
    parts = np.char.rpartition(table.split.astype(str), _MARK)[:, 0] if len(table) else np.zeros(0, str)
    return np.unique(parts, return_inverse=True)[1].astype(np.int64)


def _renumbered(part: str, table: TrackletTable, people: int, cameras: int) -> TrackletTable:
    """Junk and distractors (-1, 0) and unknown cameras (-1) stay what they are."""
    return dataclasses.replace(
        table,
        split=np.array([f'{part}{_MARK}{split}' for split in table.split.tolist()], dtype=str),
        tracklet=np.array([_called(part, name) for name in table.tracklet.tolist()], dtype=str),
        person_id=np.where(table.person_id > 0, table.person_id + people, table.person_id),
        camera_id=np.where(table.camera_id >= 0, table.camera_id + cameras, table.camera_id),
    )


def _called(part: str, tracklet: str) -> str:
    return f'{part}/{tracklet}'
