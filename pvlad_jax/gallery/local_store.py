"""A gallery on this machine's disk: the backends `exact` and `faiss`.

Every change writes new files next to the old ones and gives the state that names them; nothing that a reader may hold
is touched. Whoever commits the state calls `finish` afterwards, or, where the change failed, `recover` with the old
state.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.gallery import cosine_search, faiss_index, segments
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.file_digests import Verified, verify_files
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.manifest import Segment, State
from pvlad_jax.gallery.metadata_columns import METADATA_SCHEMA
from pvlad_jax.gallery.segments import Contents
from pvlad_jax.gallery.table_file import TableReader

_MAX_SMALL = 32  # segments
_SMALL = segments.MAX_ROWS // 2  # rows; segments below are merged where there are too many of them
Found = list[tuple[Float[np.ndarray, 'k'], list[dict[str, Any]]]]  # of each query: distances, and the rows' metadata


@dataclasses.dataclass(frozen=True)
class Added:
    """What an addition did, in tracklets."""

    added: int = 0
    already_there: int = 0
    replaced: int = 0
    names: tuple[str, ...] = ()  # of those that were added or replaced
    unchanged: tuple[str, ...] = ()  # of those that were there already
    pictures: int = 0  # tracklets whose pictures were stored


class LocalStore:
    """The rows of a gallery folder on the disk."""

    def __init__(self, folder: Path):
        self.folder = folder

    def create(self, state: State) -> State:
        if state.backend == 'faiss':
            faiss_index.faiss_module()
        return state

    def recover(self, state: State) -> None:
        """Removes what a change that was killed has left."""
        segments.sweep(self.folder, state)

    def finish(self, old: State, new: State) -> None:
        """After a commit: the old files go."""
        segments.sweep(self.folder, new)

    def sources(self, state: State, names: Sequence[str]) -> list[str]:
        """The tracklets of these sources."""
        metadata = Contents(self.folder, state).metadata
        return metadata.filter(pc.is_in(metadata['source'], pa.array(names, pa.string())))['tracklet'].to_pylist()

    def present(self, state: State, names: Sequence[str]) -> set[str]:
        """Those of these names that the gallery holds."""
        stored = Contents(self.folder, state).metadata['tracklet']
        return set(pc.unique(stored.filter(pc.is_in(stored, pa.array(names, pa.string())))).to_pylist())

    def add(self, state: State, reader: TableReader, replace: bool, done: Callable[[int], None]) -> tuple[State, Added]:
        """The state with the rows of a table. UserError as `gallery.Gallery.add`."""
        contents = Contents(self.folder, state)
        tally = _Tally(state, contents, reader, replace, done)
        name = f'{state.version + 1:08d}'
        written = segments.write_segments(self.folder, name, tally.pieces())
        if not written:
            return state, tally.added
        rows = np.array(sorted(tally.replaced), np.int64)
        kept = self._without(state, contents, rows, name)
        new = dataclasses.replace(
            state,
            version=state.version + 1,
            segments=(*kept, *written),
            next_id=state.next_id + sum(segment.rows for segment in written),
        )
        return self._indexed(self._merged(new), state, contents, rows), tally.added

    def delete(self, state: State, names: Sequence[str]) -> State:
        """The state without these tracklets, which must be there."""
        contents = Contents(self.folder, state)
        rows = np.flatnonzero(pc.is_in(contents.metadata['tracklet'], pa.array(names, pa.string())).to_numpy())
        kept = self._without(state, contents, rows, f'{state.version + 1:08d}')
        new = dataclasses.replace(state, version=state.version + 1, segments=tuple(kept))
        return self._indexed(new, state, contents, rows)

    @staticmethod
    def search_options(state: State) -> tuple[str, ...]:
        """Which of `probes` and `candidates` the backend's search has a use for."""
        return ('probes', 'candidates') if state.options.get('kind') == 'ivfpq' else ()

    def search(
        self,
        state: State,
        queries: Float[np.ndarray, 'Q E'],
        of_queries: pa.Table,
        k: int,
        filters: Filters,
        probes: int,
        candidates: int,
        done: Callable[[int], None],
    ) -> Found:
        """FileNotFoundError where a change has removed files of the state meanwhile."""
        contents = Contents(self.folder, state)
        k = max(min(k, state.rows), 1)  # what the search holds grows with k, however few rows there are
        if state.backend == 'faiss' and (state.index or state.options.get('kind') == 'flat'):
            index = faiss_index.read(self.folder, state.index) if state.index else None
            rows, distances = faiss_index.search(index, contents, queries, of_queries, k, filters, probes, candidates)
            done(len(queries) * state.rows)
        else:
            rows, distances = cosine_search.search(
                queries,
                contents.vectors,
                k,
                rows=filters.rows(contents.metadata),
                allowed=filters.allowed(of_queries, contents.metadata),
                done=done,
            )
        found = rows >= 0
        metadata = iter(contents.metadata.take(pa.array(rows[found])).to_pylist())
        return [
            (distance[there], [next(metadata) for _ in range(there.sum())]) for distance, there in zip(distances, found)
        ]

    def verify(self, state: State, done: Callable[[int], None]) -> Verified:
        """UserError for files that are not as they were written; FileNotFoundError as `search`."""
        files = [file for segment in state.segments for file in self._files(segment)]
        verified = verify_files(self.folder, [*files, *self._index_files(state)], done)
        Contents(self.folder, state)  # as many rows as the state says, and files without a digest that can be read
        return verified

    def _files(self, segment: Segment) -> list[tuple[Path, str]]:
        """The files of a segment, and their digests."""
        folder = segments.folder_of(self.folder, segment.name)
        return [(folder / name, segment.sha256.get(name, '')) for name in segments.FILES]

    def _index_files(self, state: State) -> list[tuple[Path, str]]:
        if not state.index:
            return []
        return [(faiss_index.path_of(self.folder, state.index['file']), state.index.get('sha256', ''))]

    def _copied(
        self, state: State, contents: Contents, number: int, rows: Int[np.ndarray, 'n'] | None = None
    ) -> Iterator[segments.Rows]:
        """Rows of a segment, all by default, to be written to another. UserError where they are not as they were
        written: the copy has digests of its own, which would hide that.
        """
        verify_files(self.folder, self._files(state.segments[number]))
        yield from contents.pieces(number, rows)

    def _without(self, state: State, contents: Contents, rows: Int[np.ndarray, 'd'], name: str) -> list[Segment]:
        """The segments, those that hold one of these rows rewritten without them."""
        kept = []
        for number, segment in enumerate(state.segments):
            start, end = contents.starts[number : number + 2]
            gone = rows[(rows >= start) & (rows < end)] - start
            if not len(gone):
                kept.append(segment)
                continue
            rest = self._copied(state, contents, number, np.setdiff1d(np.arange(end - start), gone))
            kept += segments.write_segments(self.folder, f'{name}-{number}', rest)
        return kept

    def _merged(self, state: State) -> State:
        """The same rows in fewer segments, where there are too many."""
        small = [number for number, segment in enumerate(state.segments) if segment.rows < _SMALL]
        if len(small) <= _MAX_SMALL:
            return state
        contents = Contents(self.folder, state)
        pieces = (piece for number in small for piece in self._copied(state, contents, number))
        merged = segments.write_segments(self.folder, f'{state.version:08d}-merged', pieces)
        kept = [segment for number, segment in enumerate(state.segments) if number not in small]
        return dataclasses.replace(state, segments=(*kept, *merged))

    def _indexed(self, new: State, old: State, contents: Contents, removed: Int[np.ndarray, 'd']) -> State:
        """The new state with FAISS's index of its rows."""
        if old.backend != 'faiss' or old.options.get('kind') != 'ivfpq':
            return new
        verify_files(self.folder, self._index_files(old))  # the new index goes on from it
        ids = contents.metadata['id'].to_numpy()[removed], cosine_search.gather(contents.vectors, removed)
        index = faiss_index.updated(
            self.folder,
            old.index,
            Contents(self.folder, new),
            np.arange(old.next_id, new.next_id),
            ids,
            f'{new.version:08d}.faiss',
            new.size,
        )
        return dataclasses.replace(new, index=index)


class _Tally:
    """Reads a table to be added, leaves out what is there already, and counts."""

    def __init__(
        self, state: State, contents: Contents, reader: TableReader, replace: bool, done: Callable[[int], None]
    ):
        self.state, self.contents, self.reader, self.replace, self.done = state, contents, reader, replace, done
        # One pass over the stored names, whatever the number of pieces; what is kept of it is as many as are added.
        stored = contents.metadata['tracklet']
        there = pc.is_in(stored, reader.names())
        self.row = dict(zip(stored.filter(there).to_pylist(), np.flatnonzero(there.to_numpy()).tolist()))
        self.names: list[str] = []
        self.replaced: list[int] = []  # rows
        self.unchanged: list[str] = []

    @property
    def added(self) -> Added:
        counts = len(self.names) - len(self.replaced), len(self.unchanged), len(self.replaced)
        return Added(*counts, tuple(self.names), tuple(self.unchanged))

    def pieces(self) -> Iterator[segments.Rows]:
        for piece in self.reader.pieces():
            unit, metadata = self._new(segments.unit(piece.embedding), piece)
            first = self.state.next_id + len(self.names)
            self.names += metadata['tracklet'].to_pylist()
            if len(unit):
                yield unit, metadata.append_column('id', pa.array(np.arange(first, first + len(unit))))
            self.done(len(piece))

    def _new(self, unit: Float[np.ndarray, 'n E'], piece: EmbeddingTable) -> tuple[Float[np.ndarray, 'm E'], pa.Table]:
        """The rows of a piece that must be written."""
        row = np.array([self.row.get(name, -1) for name in piece.names])
        there = np.flatnonzero(row >= 0)
        if not len(there):
            return unit, piece.metadata
        old = self.contents.metadata.select(METADATA_SCHEMA.names).take(pa.array(row[there]))
        equal = (cosine_search.gather(self.contents.vectors, row[there]) == unit[there]).all(axis=1)
        equal &= [a == b for a, b in zip(old.to_pylist(), piece.metadata.take(pa.array(there)).to_pylist())]
        if not equal.all() and not self.replace:
            name = piece.names[there[np.argmin(equal)]]
            raise UserError(
                f'{self.reader.path}: the gallery holds another tracklet of the name {name!r} already. '
                'Names tell tracklets apart: rename it, delete the old one, or give --replace. '
                'Nothing was added.'
            )
        self.replaced += row[there[~equal]].tolist()
        self.unchanged += [piece.names[row] for row in there[equal]]
        keep = np.ones(len(unit), bool)
        keep[there[equal]] = False
        return unit[keep], piece.metadata.filter(pa.array(keep))


def size_on_disk(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob('*'):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
