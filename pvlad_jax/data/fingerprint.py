"""What tells one data set from another: hashes of its labels and of its record files. A copy or an identical rebuild
has the same ones."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pvlad_jax.data.content_hash import content_hash
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable

# Of metadata.json, what decides who is trained on and who is searched.
_ROLES = ('layout', 'people_splits', 'query_rows', 'query_camera', 'gallery_camera', 'halves')


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """`splits`: {name: (tracklets, people, frames)}, to say in words what has changed."""

    labels: str
    content: str
    splits: dict[str, tuple[int, int, int]]

    def to_json(self) -> dict:
        return {
            'labels': self.labels,
            'content': self.content,
            'splits': {name: list(counts) for name, counts in self.splits.items()},
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> 'Fingerprint':
        """KeyError, TypeError or AttributeError where it is none."""
        return cls(saved['labels'], saved['content'], {name: tuple(counts) for name, counts in saved['splits'].items()})

    def same(self, other: 'Fingerprint') -> bool:
        return (self.labels, self.content) == (other.labels, other.content)

    def changes(self, now: 'Fingerprint') -> str:
        """How `now` differs from this one, as a clause."""
        for name in sorted(self.splits.keys() | now.splits.keys(), key=lambda name: (name != 'train', name)):
            if self.splits.get(name) != now.splits.get(name):
                return f'{name}: {_counted(self.splits.get(name))} before, {_counted(now.splits.get(name))} now'
        if self.labels != now.labels:
            return 'as many tracklets, people and frames as before, but other names, labels, cameras or order'
        return 'the same labels as before, but other frames'


def _counted(counts: tuple[int, int, int] | None) -> str:
    return '{:,} tracklets of {:,} people, {:,} frames'.format(*counts) if counts else 'no such split'


def fingerprint(dataset: TrackletDataset, content: str | None = None) -> Fingerprint:
    """`content`: the hash of the record files, where the caller knows it already."""
    splits = {
        name: (len(table), len(np.unique(table.person_id)), int(table.n_frames.sum()))
        for name, table in dataset.tables.items()
    }
    return Fingerprint(
        labels_hash(dataset.tables, dataset.metadata), content or content_hash(dataset.folder, dataset.tables), splits
    )


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
