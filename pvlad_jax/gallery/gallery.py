"""A gallery: stored embeddings that are added to, searched and deleted from, in a folder of its own.

    gallery = Gallery.create('street', backend='exact')
    gallery.add('monday.parquet', crops='monday_crops')
    for answer in gallery.search(read_table('query.parquet'), k=10):
        ...
    gallery.delete(sources=['monday.mp4'])

One process at a time may change it; others may search meanwhile and see the state before a change or after it.
"""

import dataclasses
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.registry import Registry
from pvlad_jax.gallery import crops as pictures
from pvlad_jax.gallery import faiss_index, manifest
from pvlad_jax.gallery.answers import Answer, answers
from pvlad_jax.gallery.change import change, locked
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.file_digests import Verified
from pvlad_jax.gallery.filters import Filters, names_in
from pvlad_jax.gallery.local_store import Added, Found, LocalStore, size_on_disk
from pvlad_jax.gallery.manifest import State
from pvlad_jax.gallery.milvus_store import MilvusStore
from pvlad_jax.gallery.removal import NotRemoved
from pvlad_jax.gallery.same_model import model_of
from pvlad_jax.gallery.segments import unit
from pvlad_jax.gallery.table_file import TableReader

BACKENDS = Registry('--backend', {'exact': LocalStore, 'faiss': LocalStore, 'milvus': MilvusStore})
PROBES, CANDIDATES = 128, 1000  # of a search that gives none (docs/search_speed.md)
_Read = TypeVar('_Read')
_ATTEMPTS = 5  # at reading a state whose files a change removes meanwhile


def _nothing(count: int) -> None:
    """Takes the place of a progress line."""


class Gallery:
    """An existing gallery.

    Args:
      folder: of the gallery.

    Raises:
      UserError: no gallery there, or a damaged one.
    """

    def __init__(self, folder: str | PathLike):
        self.folder = user_path(folder)
        state = manifest.read_state(self.folder)
        self.store = BACKENDS[state.backend](self.folder)

    @classmethod
    def create(
        cls,
        folder: str | PathLike,
        fingerprint: str = '',
        backend: str = 'exact',
        *,
        kind: str = 'ivfpq',
        uri: str = '',
        collection: str = 'pvlad',
    ) -> 'Gallery':
        """A new, empty gallery.

        Args:
          fingerprint: of the model whose embeddings it takes; '' = that of the first table.
          backend: a name of `BACKENDS`.
          kind: of the backend faiss: 'ivfpq' or 'flat'.
          uri, collection: of the backend milvus.
        """
        path = user_path(folder)
        store = BACKENDS[backend](path)
        if kind not in faiss_index.KINDS:
            raise UserError(f'The kind of a FAISS index is {" or ".join(faiss_index.KINDS)}, not {kind!r}.')
        if manifest.exists(path):
            raise UserError(f'{path} is a gallery already. Add to it, or give another folder.')
        if path.exists() and not path.is_dir():
            raise UserError(f'{path} is a file. Give another folder.')
        if path.exists() and any(p.name != '.lock' and not manifest.is_partial(p) for p in path.iterdir()):
            raise UserError(f'{path} is not empty. Give a new folder.')
        options = {'faiss': {'kind': kind}, 'milvus': {'uri': uri, 'collection': collection}}.get(backend, {})
        state = store.create(State(backend, fingerprint, 0, 0, 0, (), options))
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            manifest.commit(path, state)
        return cls(path)

    @property
    def state(self) -> State:
        """As it is now."""
        return manifest.read_state(self.folder)

    @property
    def unfinished(self) -> bool:
        """Whether a change is being made, or was killed, so that what it removes may be on the disk."""
        return pictures.unfinished(self.folder) is not None

    def __len__(self) -> int:
        """How many tracklets there are."""
        return self.state.tracklets

    def add(
        self,
        table: str | PathLike | TableReader,
        crops: str | PathLike | None = None,
        *,
        replace: bool = False,
        fingerprint: str = '',
        done: Callable[[int], None] = _nothing,
    ) -> Added:
        """Adds the tracklets of a table, all or none. Those that are there already, equal in everything, are left out.

        Args:
          table: Parquet or npz.
          crops: a folder with a folder of pictures for each tracklet (`crops.crops_of`). Tracklets that are there
            already get theirs if they have none.
          replace: whether a tracklet that differs from one of the same name takes its place.
          fingerprint: the model of a table that does not say its own.
          done: called with the number of tracklets that were read.

        Raises:
          UserError: another model or size, a name that occurs twice or for another tracklet, vectors without a
            direction, a gallery that another process is changing, a full disk. The gallery is then as it was. Also
            where the change was made and a file that it replaces cannot be removed.
        """
        reader = table if isinstance(table, TableReader) else TableReader(user_path(table))
        source = None if crops is None else user_path(crops)
        with change(self.folder, self.store) as (state, _):
            if source is not None:
                pictures.check_crops(source)
            reader.fingerprint = model_of(reader, state, fingerprint)
            if state.size not in (0, reader.size):
                raise UserError(
                    f'{reader.path}: embeddings have {reader.size} numbers, those of the gallery '
                    f'{state.size}. They must come from the same model.'
                )
            old, state = state, dataclasses.replace(state, size=reader.size, fingerprint=reader.fingerprint)
            new, added = self.store.add(state, reader, replace, done)
            staged: tuple[str, ...] = ()
            if source is not None:
                stored = pictures.crops_by_name(self.folder)
                without = [name for name in added.unchanged if not stored(name)]
                staged = pictures.stage_crops(source, self.folder, [*added.names, *without])
            changed = tuple(dict.fromkeys([*added.names, *staged]))
            if staged and new is state:  # pictures alone are a change too: all are there or none
                new = dataclasses.replace(old, version=old.version + 1)
            if new is not state:
                if source is not None or added.replaced:
                    pictures.note_unfinished(self.folder, pictures.Unfinished(old.version, changed, staged))
                manifest.commit(self.folder, new)
                try:
                    self.store.finish(old, new)
                except NotRemoved:
                    if added.replaced:
                        raise
                    # Else these are files of rows that are stored elsewhere too, and they go with a later change.
            if staged or added.replaced:
                pictures.settle_crops(self.folder, changed, staged)
            pictures.note_finished(self.folder)
        return dataclasses.replace(added, pictures=len(staged))

    def delete(self, tracklets: Iterable[str] = (), sources: Iterable[str] = ()) -> int:
        """Removes tracklets by name, and all those of a source, with vectors, metadata and crops, from the disk.

        Returns:
          How many; with them those of the same deletion that was killed before, which is finished. UserError, and
          nothing is removed, where a name or source is not there or empty. UserError too where a file cannot be
          removed: the tracklets are then no longer found, and the same deletion given again goes on.
        """
        tracklets, sources = names_in(tracklets, 'tracklets'), names_in(sources, 'sources')
        with change(self.folder, self.store) as (state, finished):
            again = finished.asked_again(tracklets, sources)
            before = set(finished.tracklets) if again else set()
            nothing = 'Nothing more was deleted.' if finished.deletion else 'Nothing was deleted.'
            there = self.store.present(state, list(tracklets))
            missing = next((name for name in tracklets if name not in there | before), None)
            if missing is not None:
                raise UserError(f'The gallery {self.folder} has no tracklet {missing!r}. {nothing}')
            for source in sources:
                if not source:
                    raise UserError(
                        "The source '' stands for every tracklet whose source is unknown. Delete those by their names."
                    )
                found = self.store.sources(state, [source])
                if not found and not (again and source in finished.sources):
                    raise UserError(f'The gallery {self.folder} has no tracklet of the source {source!r}. {nothing}')
                there.update(found)
            if not there:
                return len(before)
            names = sorted(there)
            noted = pictures.Unfinished(state.version, tuple(names), deletion=True, sources=tuple(sources))
            pictures.note_unfinished(self.folder, noted)
            new = self.store.delete(state, names)
            manifest.commit(self.folder, new)
            try:
                self.store.finish(state, new)
            finally:
                pictures.remove_crops(self.folder, names)
            pictures.note_finished(self.folder)
        return len(there | before)

    def search(
        self,
        queries: EmbeddingTable,
        k: int | np.integer = 10,
        filters: Filters = Filters(),  # noqa: B008  immutable
        *,
        fingerprint: str = '',
        probes: int | None = None,
        candidates: int | None = None,
        done: Callable[[int], None] = _nothing,
    ) -> list[Answer]:
        """The k nearest tracklets of each query.

        Args:
          k: a whole number from 1.
          fingerprint: the model of queries that do not say their own.
          probes, candidates: of FAISS's IVF-PQ: lists that are read (128), and candidates that are scored exactly
            (1,000); the latter is also ef of a Milvus server's HNSW.
          done: called with the number of products of a query and a stored vector.

        Raises:
          UserError: queries of another model or size, an empty gallery, an option that its backend does not have.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise UserError(f'k = {k!r}: the number of results is a whole number from 1.')
        queries = queries.checked('The queries')
        effort = {'probes': probes, 'candidates': candidates}

        def read(state: State) -> Found:
            for option, value in effort.items():
                if value is not None and option not in self.store.search_options(state):
                    raise UserError(
                        f'The search of the gallery {self.folder} (backend {state.backend}) has no {option}. '
                        f'Leave --{option} out.'
                    )
            if not state.tracklets:
                raise UserError(f'The gallery {self.folder} is empty. Add to it first.')
            model_of(queries, state, fingerprint, 'The queries')
            if queries.embedding.shape[1] != state.size:
                raise UserError(
                    f'The queries have {queries.embedding.shape[1]} numbers, the embeddings of the gallery '
                    f'{state.size}. They must come from the same model.'
                )
            wanted = PROBES if probes is None else probes, CANDIDATES if candidates is None else candidates
            return self.store.search(state, unit(queries.embedding), queries.metadata, int(k), filters, *wanted, done)

        return answers(queries, self._read(read))

    def _read(self, read: Callable[[State], _Read]) -> _Read:
        """What `read` makes of the state as it is now; of the next one where a change removes its files meanwhile."""
        for attempt in range(_ATTEMPTS):
            try:
                return read(self.state)
            except FileNotFoundError as error:
                if attempt == _ATTEMPTS - 1:
                    raise UserError(
                        f'The gallery {self.folder} is damaged: {error.filename} is not there. Restore it '
                        'from a copy, or make the gallery again.'
                    ) from error
        raise AssertionError

    def verify(self, done: Callable[[int], None] = _nothing) -> Verified:
        """Reads all vectors, metadata and indices, and compares their digests with those kept when they were written.
        Pictures are not compared; `unfinished` says whether those of a killed change are still there.

        Args:
          done: called with the number of bytes that were read.

        Raises:
          UserError: a file that differs or is not there, a gallery in Milvus.
        """
        return self._read(lambda state: self.store.verify(state, done))

    def info(self) -> dict[str, Any]:
        """What there is, as JSON can hold it."""
        state = self.state
        return {
            'gallery': str(self.folder),
            'backend': state.backend,
            **state.options,
            'tracklets': len(self),
            'size': state.size,
            'model': state.fingerprint,
            'changes': state.version,
            'index': state.index,
            'bytes': size_on_disk(self.folder),
            'unfinished_change': self.unfinished,
        }
