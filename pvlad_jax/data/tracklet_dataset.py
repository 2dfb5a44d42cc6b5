"""A converted data set on disk: its tables of tracklets and random access to their encoded frames (format:
docs/design.md).
"""

import dataclasses
import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import msgspec
import numpy as np
from jaxtyping import Int, Shaped

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.saved_files import Int64, json_object, reading
from pvlad_jax.data.dataset_format import (
    COLUMNS,
    FORMAT_VERSION,
    LAYOUTS,
    METADATA_FILE,
    TEXT_COLUMNS,
    open_records,
    read_columns,
    read_metadata,
    table_file,
)

_INFO = 'dataset_info.json'
_AGAIN = 'Convert the data set again with data_prep/build_tfds.py.'


@dataclasses.dataclass(frozen=True)
class TrackletTable:
    """Labels of tracklets, one row each, without their frames. Rows of any splits of one data set."""

    split: Shaped[np.ndarray, 'N']  # TFDS split that holds the record
    row: Int[np.ndarray, 'N']  # its place in that split
    tracklet: Shaped[np.ndarray, 'N']  # unique name, str
    person: Shaped[np.ndarray, 'N']  # name in the source, str
    person_id: Int[np.ndarray, 'N']
    camera_id: Int[np.ndarray, 'N']  # -1 = unknown
    n_frames: Int[np.ndarray, 'N']

    def __len__(self) -> int:
        return len(self.row)

    def select(self, rows) -> 'TrackletTable':
        """The rows of a mask or an index array, in its order."""
        return TrackletTable(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    @staticmethod
    def concatenate(tables: Sequence['TrackletTable']) -> 'TrackletTable':
        """The rows of all tables, one table after the other."""
        return TrackletTable(
            *(np.concatenate([getattr(t, f.name) for t in tables]) for f in dataclasses.fields(TrackletTable))
        )


@dataclasses.dataclass(frozen=True)
class EncodedTracklet:
    """A record: the tracklet's name and its frames, not decoded."""

    tracklet: str
    frames: Sequence[bytes]  # encoded images, read one by one on access


class TrackletDataset:
    """One data set folder. Tables are read at once; records only when asked for, safely from many threads."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name, records = _described(self.folder / _INFO)
        self.metadata = read_metadata(self.folder, _AGAIN)
        version = str(self.metadata.get('format_version', 'unknown'))
        if version.split('.')[0] != str(FORMAT_VERSION):
            raise UserError(
                f'{self.folder} is of data format {version}; this program reads {FORMAT_VERSION}.x. {_AGAIN}'
            )
        self.tables: dict[str, TrackletTable] = {
            split: _read_table(self.folder, split, count) for split, count in records.items()
        }
        self._check_layout()

    def _check_layout(self) -> None:
        """UserError where metadata.json names splits or rows that are not there."""
        layout = self.metadata['layout']
        needed = set(LAYOUTS.get(layout, ())) - ({'train'} if layout == 'roles' else set())  # one to test on alone
        if missing := sorted(needed - self.tables.keys()):
            raise UserError(f'{self.folder / _INFO} names no split {missing[0]}, which layout {layout!r} has. {_AGAIN}')
        if layout == 'people_splits' and not self.metadata['people_splits']:
            raise UserError(f'{self.folder / METADATA_FILE} names no people_splits. {_AGAIN}')
        rows = self.metadata['query_rows'] if layout == 'query_rows' else []
        if rows and not 0 <= min(rows) <= max(rows) < len(self.tables['test']):
            raise UserError(f'{self.folder / METADATA_FILE} names query_rows that split test does not have. {_AGAIN}')

    @classmethod
    def open(cls, data_dir: str, name: str) -> 'TrackletDataset':
        """The newest version of DATA_DIR/NAME. UserError where there is none, or no readable one."""
        folder = find_dataset(data_dir, name)
        if folder is None:
            bare = name.strip()
            if bare not in ('', name) and find_dataset(data_dir, bare):
                raise UserError(
                    f'No data set {name!r} in {user_path(data_dir)}, but {bare!r}. Leave out the blanks around its '
                    'name.'
                )
            there = sorted({p.parents[1].name for p in user_path(data_dir).glob('*/*/dataset_info.json')})
            held = f' It holds {", ".join(there[:10])}.' if there else ''
            raise UserError(
                f'No data set {name!r} in {user_path(data_dir)}.{held} Make it with: python data_prep/build_tfds.py '
                f'--dataset=... --name={shlex.quote(name)} --source=... --data_dir={data_dir}'
            )
        return cls(folder)

    @functools.cached_property
    def _sources(self) -> dict:
        return open_records(self.folder, _AGAIN)

    def read(self, split: str, row: int | np.integer) -> EncodedTracklet:
        """CorruptRecord where the record is damaged."""
        source = self._sources[split]
        try:
            record = source[int(row)]
            return EncodedTracklet(record['tracklet'].decode(), _LazyFrames(record['frames']))
        except OSError:
            raise  # the disk, not the record
        except Exception as error:  # ArrayRecord and protobuf have classes of their own
            from pvlad_jax.data.frame_decoding import CorruptRecord

            raise CorruptRecord(
                f'Tracklet {str(self.tables[split].tracklet[int(row)])!r} (record {row} of split {split} in '
                f'{self.folder}) is damaged: {error}'
            ) from error


class _LazyFrames(Sequence):
    """The encoded frames of a record; TFDS reads each on access."""

    def __init__(self, frames):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index) -> bytes:
        return self._frames[int(index)]['image']


def find_dataset(data_dir: str, name: str) -> Path | None:
    """DATA_DIR/NAME/VERSION of the highest complete version, or None. DATA_DIR may begin with '~'."""
    versions = [
        p.parent
        for p in (user_path(data_dir) / name).glob('*/dataset_info.json')
        if not p.parent.name.startswith('incomplete')
    ]
    return max(versions, key=lambda p: [int(n) if n.isdecimal() else -1 for n in p.name.split('.')], default=None)


class _Split(TypedDict):
    name: str
    shardLengths: list[str | Int64]


class _Info(TypedDict):
    name: str
    splits: list[_Split]


def _described(path: Path) -> tuple[str, dict[str, int]]:
    """(the data set's name, {split: records}) of dataset_info.json."""
    with reading(path, _AGAIN, 'cannot be read'):
        info = msgspec.convert(json_object(path.read_bytes()), _Info)
        return info['name'], {split['name']: sum(map(int, split['shardLengths'])) for split in info['splits']}


def _read_table(folder: Path, split: str, n_records: int) -> TrackletTable:
    path = folder / table_file(split)
    columns = read_columns(path, _AGAIN)
    length = len(columns['person_id'])
    converted = {
        name: np.char.decode(columns[name], 'utf-8') if name in TEXT_COLUMNS else columns[name].astype(np.int64)
        for name in COLUMNS
    }
    table = TrackletTable(split=np.full(length, split), row=np.arange(length), **converted)
    if len(table) != n_records:
        raise UserError(
            f'{path} lists {len(table)} tracklets, but the split holds {n_records} records. Convert the data set again.'
        )
    return table
