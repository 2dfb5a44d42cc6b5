"""The state of a gallery, one small file that is replaced whole: readers see the state before a change or after it.

GALLERY/gallery.json          the state; names the files that belong to it
GALLERY/segments/NAME/        vectors.f32 and tracklets.arrow, never changed once they are named
GALLERY/index/NAME.faiss      of the backend faiss
GALLERY/crops/TRACKLET/       pictures
GALLERY/adding_rows           of the backend milvus, while rows are added
GALLERY/.crops/TRACKLET/      pictures of a change that is not yet committed
GALLERY/unfinished.json       the change that this is, should it be killed
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.saved_files import Int64, NoFile, Versioned, json_object, reading

FORMAT_VERSION = 1
_NAME = 'gallery.json'


@dataclasses.dataclass(frozen=True)
class Segment:
    """Rows that were written together. name: of its folder. sha256: of its files, by their names; {} where an
    earlier version wrote them.
    """

    name: str
    rows: Int64
    sha256: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class State:
    """What gallery.json holds.

    size: numbers of an embedding, 0 until the first are added. fingerprint: of their model, '' = unknown.
    options: of the backend. index: what the backend keeps in addition to the segments.
    """

    backend: str
    fingerprint: str
    size: Int64
    version: Int64  # counts changes
    next_id: Int64  # of a row; an id is never given twice
    segments: tuple[Segment, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    index: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: Int64 = FORMAT_VERSION

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)

    @property
    def tracklets(self) -> int:
        """How many there are, in segments or in Milvus."""
        return self.index.get('rows', self.rows)


class _MilvusOptions(TypedDict):
    uri: str
    collection: str


class _MilvusIndex(TypedDict):
    rows: NotRequired[Int64]
    collection: NotRequired[str]


class _FaissIndex(TypedDict):
    file: str
    trained_on: NotRequired[Int64]
    sha256: NotRequired[str]


# Of a backend, what it reads of `State.options` and, where it is not empty, of `State.index`.
_OPTIONS = {'milvus': _MilvusOptions}
_INDEX = {'milvus': _MilvusIndex, 'faiss': _FaissIndex}


def read_state(folder: Path) -> State:
    """UserError where there is no gallery, or a damaged one, or one of a later version."""
    path = folder / _NAME
    try:
        with reading(path, 'Restore it from a copy, or make the gallery again.'):
            fields = json_object(path.read_bytes())
            if (version := msgspec.convert(fields, Versioned)['format']) > FORMAT_VERSION:
                raise UserError(
                    f'The gallery {folder} has the format version {version}, this program reads up to '
                    f'{FORMAT_VERSION}. Install a newer one.'
                )
            state = msgspec.convert(fields, State)
            msgspec.convert(state.options, _OPTIONS.get(state.backend, dict))
            msgspec.convert(state.index, _INDEX.get(state.backend, dict) if state.index else dict)
            return state
    except NoFile:
        raise UserError(
            f'{folder} is not a gallery: it has no {_NAME}. Make one with: '
            f'python -m pvlad_jax gallery create --gallery={folder}'
        ) from None


def commit(folder: Path, state: State) -> None:
    """Makes this the gallery's state, on the disk when the call returns."""
    with atomic_write(folder / _NAME) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(state), indent=1) + '\n')
        sync(partial)
    sync(folder)


def exists(folder: Path) -> bool:
    return (folder / _NAME).exists()


def is_partial(path: Path) -> bool:
    """Whether this is a file of `atomic_write` that a process was writing when it was killed."""
    return path.name.startswith('.') and path.name.endswith('.partial')


def sync(path: Path) -> None:
    """Has a file's bytes, or a folder's names, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
