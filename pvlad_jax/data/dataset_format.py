"""The format of a data set on disk, which data_prep writes and this package reads (docs/design.md): names and
versions.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

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


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table as stored. OSError, ValueError or KeyError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as table:
            return {name: table[name] for name in COLUMNS}
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def record_files(folder: Path, splits: Iterable[str]) -> dict[str, list[Path]]:
    """Of each split, in the order of its records."""
    return {split: sorted(Path(folder).glob(f'*-{split}.array_record-*')) for split in sorted(splits)}
