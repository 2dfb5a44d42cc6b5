"""What tells one data set from another: hashes of its labels and of its record files. A copy or an identical rebuild
has the same ones."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pvlad_jax.core.saved_files import Int64
from pvlad_jax.data.content_hash import content_hash
from pvlad_jax.data.joined_dataset import AnyDataset, JoinedDataset
from pvlad_jax.data.tracklet_dataset import TrackletTable

# Of metadata.json, what decides who is trained on and who is searched.
_ROLES = ('layout', 'people_splits', 'query_rows', 'query_camera', 'gallery_camera', 'halves')


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Hashes by which a run recognises its data set.

    Attributes:
      labels: of its tables, and of what decides the roles of tracklets.
      content: of its record files.
      splits: {name: (tracklets, people, frames)}, to say in words what has changed.
      data_sets: those of a join, by name, which then have the splits; otherwise {}.
    """

    labels: str
    content: str
    splits: dict[str, tuple[Int64, Int64, Int64]]
    data_sets: dict[str, 'Fingerprint'] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        content = {
            'labels': self.labels,
            'content': self.content,
            'splits': {name: list(counts) for name, counts in self.splits.items()},
        }
        each = {name: one.to_json() for name, one in self.data_sets.items()}
        return {**content, 'data_sets': each} if each else content

    def same(self, other: 'Fingerprint') -> bool:
        """Whether both hashes are the same."""
        return (self.labels, self.content) == (other.labels, other.content)

    def changes(self, now: 'Fingerprint') -> str:
        """How `now` differs from this one, as a clause."""
        for name, before in self.data_sets.items():
            if name in now.data_sets and not before.same(now.data_sets[name]):
                return f'in {name!r}, {before.changes(now.data_sets[name])}'
        for name in sorted(self.splits.keys() | now.splits.keys(), key=lambda name: (name != 'train', name)):
            if self.splits.get(name) != now.splits.get(name):
                return f'{name}: {_counted(self.splits.get(name))} before, {_counted(now.splits.get(name))} now'
        if self.labels != now.labels:
            return 'as many tracklets, people and frames as before, but other names, labels, cameras or order'
        return 'the same labels as before, but other frames'


def _counted(counts: tuple[int, int, int] | None) -> str:
    return '{:,} tracklets of {:,} people, {:,} frames'.format(*counts) if counts else 'no such split'


def fingerprint(dataset: AnyDataset, before: Fingerprint | None = None) -> Fingerprint:
    """`before`: an earlier one, where the record files are known to be the same: they are not read again."""
    if isinstance(dataset, JoinedDataset):
        known = before.data_sets if before else {}
        each = {name: fingerprint(one, known.get(name)) for name, one in dataset.data_sets.items()}
        labels, content = (_hash_of_all(getattr(one, kind) for one in each.values()) for kind in ('labels', 'content'))
        return Fingerprint(labels, content, {}, each)
    splits = {
        name: (len(table), len(np.unique(table.person_id)), int(table.n_frames.sum()))
        for name, table in dataset.tables.items()
    }
    content = before.content if before else content_hash(dataset.folder, dataset.tables)
    return Fingerprint(labels_hash(dataset.tables, dataset.metadata), content, splits)


def _hash_of_all(hashes: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(hashes)).encode()).hexdigest()


def labels_hash(tables: Mapping[str, TrackletTable], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over the tables in the order of their rows, which batches are drawn by, and over the roles."""
    digest = hashlib.sha256()
    for name in sorted(tables):
        table = tables[name]
        digest.update(json.dumps([name, len(table), table.tracklet.tolist(), table.person.tolist()]).encode())
        for column in (table.person_id, table.camera_id, table.n_frames):
            digest.update(np.ascontiguousarray(column, '<i8').data)
    digest.update(json.dumps({key: metadata.get(key) for key in _ROLES}, sort_keys=True).encode())
    return digest.hexdigest()
