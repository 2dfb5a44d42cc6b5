"""The format of a data set on disk, which data_prep writes and this package reads (docs/design.md): names and
versions.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.npz_file import read_npz
from pvlad_jax.core.saved_files import Int64, json_object, reading

FORMAT_VERSION = 1  # of metadata.json; raised when a reader of the old format would go wrong
FOLDER_VERSION = '1.0.0'  # TFDS's, the name of the folder
METADATA_FILE = 'metadata.json'

EVERYONE = 'everyone'  # TFDS's word 'all' cannot name a split
# Layout -> the splits of TFDS.
LAYOUTS = {'roles': ('train', 'query', 'gallery'), 'query_rows': ('train', 'test'), 'people_splits': (EVERYONE,)}
ENCODINGS = ('jpeg', 'png', 'mixed')

# tracklets_SPLIT.npz: one row a record.
TEXT_COLUMNS = ('tracklet', 'person')  # fixed-width UTF-8 bytes
LABEL_COLUMNS = ('tracklet', 'person', 'person_id', 'camera_id')  # as in the record
COLUMNS = (*LABEL_COLUMNS, 'n_frames')  # numbers are int32
Tables = dict[str, dict[str, np.ndarray]]  # split -> columns


def table_file(split: str) -> str:
    return f'tracklets_{split}.npz'


class _Halves(TypedDict):
    train: list[Int64]
    test: list[Int64]


class _AnyLayout(TypedDict):
    layout: str


class _QueryRows(_AnyLayout):
    query_rows: list[Int64]


class _PeopleSplits(_AnyLayout):
    people_splits: list[_Halves]
    query_camera: Int64
    gallery_camera: Int64


# Of metadata.json, what a layout cannot do without.
_OF_LAYOUT = {'query_rows': _QueryRows, 'people_splits': _PeopleSplits}


def read_metadata(folder: Path, remedy: str) -> dict[str, Any]:
    """metadata.json. UserError, with what to do, where it cannot be read, or lacks what its layout needs; that of
    another format is left to the caller."""
    with reading(folder / METADATA_FILE, remedy, 'cannot be read'):
        metadata = json_object((folder / METADATA_FILE).read_bytes())
        if str(metadata.get('format_version')).split('.')[0] == str(FORMAT_VERSION):
            layout = msgspec.convert(metadata, _AnyLayout)['layout']
            msgspec.convert(metadata, _OF_LAYOUT.get(layout, _AnyLayout))
        return metadata


def read_columns(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """The columns of a table as stored. UserError, with what to do, where it cannot be read, or has other columns."""
    with reading(path, remedy, 'cannot be read'):
        try:
            columns = read_npz(path, COLUMNS)
        except ValueError as error:
            raise ValueError(f'it {error}') from error
        for name, column in columns.items():
            if column.ndim != 1 or column.dtype.kind not in ('S' if name in TEXT_COLUMNS else 'iu'):
                raise ValueError(f'column {name} is {column.dtype} of shape {column.shape}')
            if name in TEXT_COLUMNS:
                np.char.decode(column, 'utf-8')
        if len({len(column) for column in columns.values()}) > 1:
            raise ValueError('its columns are of different lengths')
        return columns


def open_records(folder: Path, remedy: str) -> dict[str, Any]:
    """TFDS's records of each split, whose frames stay encoded. UserError, with what to do, where their description is
    damaged."""
    import tensorflow_datasets as tfds  # slow to import, and not needed for labels alone

    skip = {'frames': {'image': tfds.decode.SkipDecoding()}}
    try:
        builder = tfds.builder_from_directory(folder)
        return {split: builder.as_data_source(split, decoders=skip) for split in builder.info.splits}
    except OSError:
        raise
    except Exception as error:  # TFDS and protobuf have classes of their own
        raise UserError(f'The records of {folder} cannot be opened ({first_line(error)}). {remedy}') from error


def record_files(folder: Path, splits: Iterable[str]) -> dict[str, list[Path]]:
    """Of each split, in the order of its records."""
    return {split: sorted(Path(folder).glob(f'*-{split}.array_record-*')) for split in sorted(splits)}
