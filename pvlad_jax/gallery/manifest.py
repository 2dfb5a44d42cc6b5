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
from typing import Any

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.saved_files import NoFile, json_object, reading, typed

FORMAT_VERSION = 1
_NAME = 'gallery.json'
_NEEDED = {'size': int, 'version': int, 'next_id': int, 'segments': list}  # their defaults are those of an empty one
# Of a backend, what it cannot do without.
_OPTIONS = {'milvus': {'uri': str, 'collection': str}}
_INDEX = {'milvus': {'rows?': int, 'collection?': str}, 'faiss': {'file': str, 'trained_on?': int}}


@dataclasses.dataclass(frozen=True)
class Segment:
    """Rows that were written together. name: of its folder."""

    name: str
    rows: int


@dataclasses.dataclass(frozen=True)
class State:
    """What gallery.json holds.

    size: numbers of an embedding, 0 until the first are added. fingerprint: of their model, '' = unknown.
    options: of the backend. index: what the backend keeps in addition to the segments.
    """

    backend: str
    fingerprint: str = ''
    size: int = 0
    version: int = 0  # counts changes
    next_id: int = 0  # of a row; an id is never given twice
    segments: tuple[Segment, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    index: dict[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT_VERSION

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments)


def read_state(folder: Path) -> State:
    """UserError where there is no gallery, or a damaged one, or one of a later version."""
    path = folder / _NAME
    try:
        with reading(path, 'Restore it from a copy, or make the gallery again.'):
            fields = json_object(path.read_bytes())
            if (version := typed(fields.get('format'), int, 'format')) > FORMAT_VERSION:
                raise UserError(
                    f'The gallery {folder} has the format version {version}, this program reads up to '
                    f'{FORMAT_VERSION}. Install a newer one.'
                )
            state = typed(typed(fields, _NEEDED), State)
            typed(state.options, _OPTIONS.get(state.backend, {}), 'options')
            typed(state.index, _INDEX.get(state.backend, {}) if state.index else {}, 'index')
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
