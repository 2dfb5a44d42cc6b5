"""A gallery in Milvus: `--uri=FILE.db` is milvus-lite in this process, `--uri=http://HOST:PORT` a server.

Milvus has no transactions: rows of an addition are there before they are visible, and appear with gallery.json
(`milvus_collection`).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.gallery import milvus_collection as milvus
from pvlad_jax.gallery import segments
from pvlad_jax.gallery.file_digests import Verified
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.local_store import Added, Found
from pvlad_jax.gallery.manifest import State
from pvlad_jax.gallery.table_file import TableReader

_MAX_RESULTS = 16_384  # of a search, Milvus's own limit
_MAX_CANDIDATES = 32_768  # likewise


class MilvusStore:
    """The rows of a gallery in a Milvus collection; the folder holds the state and the crops."""

    def __init__(self, folder: Path):
        self.folder = folder
        # There while rows are added that no state counts yet: Milvus would look at every row to find them.
        self._adding = folder / 'adding_rows'

    def create(self, state: State) -> State:
        """Checks that Milvus answers and that the collection is not there yet; it is made with the first rows."""
        if not state.options.get('uri'):
            raise UserError(
                'The backend milvus needs --uri=FILE.db (milvus-lite) or --uri=http://HOST:PORT (a server).'
            )
        uri = state.options['uri']
        if '://' not in uri:
            path = user_path(uri)
            if path.suffix != '.db':
                raise UserError(f'{uri}: milvus-lite wants a path that ends in .db.')
            path.parent.mkdir(parents=True, exist_ok=True)
            state = dataclasses.replace(state, options={**state.options, 'uri': str(path)})
        with milvus.connected(state) as client:
            name = state.options['collection']
            if client.has_collection(name):
                raise UserError(f'Milvus at {uri} has a collection {name!r} already. Give another --collection.')
        return state

    def recover(self, state: State) -> None:
        """Removes what a change that was killed has left."""
        if not state.size and not self._adding.exists():
            return
        with milvus.connected(state) as client:
            current = milvus.collection_of(state)
            for name in client.list_collections():
                if name != current and name.startswith(f'{state.options["collection"]}_v'):
                    client.drop_collection(name)
            if self._adding.exists() and client.has_collection(current):
                if state.size:
                    client.delete(current, filter=f'change > {state.version}')
                else:  # these were the first rows
                    client.drop_collection(current)
        self._adding.unlink(missing_ok=True)

    def finish(self, old: State, new: State) -> None:
        """After a commit: rows that are no longer there go from the disk."""
        self._adding.unlink(missing_ok=True)
        if milvus.collection_of(old) != milvus.collection_of(new) and old.size:
            with milvus.connected(new) as client:
                client.drop_collection(milvus.collection_of(old))

    def verify(self, state: State, done: Callable[[int], None]) -> Verified:
        """UserError always: the rows are not in files of the gallery."""
        raise UserError(
            f'The rows of the gallery {self.folder} are in Milvus, which looks after its own files: there is nothing '
            'to verify here.'
        )

    def sources(self, state: State, names: Sequence[str]) -> list[str]:
        """The tracklets of these sources."""
        condition = f'source_key in {milvus.keys(names)} and {milvus.visible(state)}'
        with milvus.connected(state) as client:
            rows = milvus.rows_where(client, state, condition, ['metadata'])
        return [milvus.metadata_of(row)['tracklet'] for row in rows]

    def present(self, state: State, names: Sequence[str]) -> set[str]:
        """Those of these names that the gallery holds."""
        if not state.size or not names:
            return set()
        there: set[str] = set()
        with milvus.connected(state) as client:
            for some in milvus.requests(names):
                rows = milvus.rows_of_keys(client, state, some, ['metadata']).values()
                there.update(milvus.metadata_of(row)['tracklet'] for row in rows if milvus.is_visible(state, row))
        return there

    def add(self, state: State, reader: TableReader, replace: bool, done: Callable[[int], None]) -> tuple[State, Added]:
        """The state with the rows of a table. UserError as `gallery.Gallery.add`."""
        if replace:
            raise UserError(
                '--replace is not there for Milvus, where it could not be done at one moment: delete the '
                'old tracklets first.'
            )
        names: list[str] = []
        unchanged: list[str] = []
        filled = bool(state.index.get('rows'))
        with milvus.connected(state) as client:
            milvus.make_collection(client, state, milvus.collection_of(state))
            for piece in reader.pieces(milvus.ROWS_PER_REQUEST):
                rows = [
                    milvus.row_of(vector, metadata, state.version + 1)
                    for vector, metadata in zip(segments.unit(piece.embedding), piece.metadata.to_pylist())
                ]
                keys = [row['key'] for row in rows]
                stored = milvus.rows_of_keys(client, state, keys, ['metadata', 'embedding']) if filled else {}
                fresh = [row for row in rows if row['key'] not in stored]
                for row in rows:
                    old = stored.get(row['key'])
                    if old is not None and not milvus.is_equal(old, row):
                        name = milvus.metadata_of(row)['tracklet']
                        raise UserError(
                            f'{reader.path}: the gallery holds another tracklet of the name {name!r} '
                            'already. Names tell tracklets apart: rename it, or delete the old one. '
                            'Nothing was added.'
                        )
                unchanged += [milvus.metadata_of(row)['tracklet'] for row in rows if row['key'] in stored]
                if fresh:
                    self._adding.touch()
                    client.insert(milvus.collection_of(state), fresh)
                    names += [milvus.metadata_of(row)['tracklet'] for row in fresh]
                done(len(piece))
            if not names:
                return state, Added(already_there=len(unchanged), unchanged=tuple(unchanged))
            client.flush(milvus.collection_of(state))
        count = state.index.get('rows', 0) + len(names)
        new = dataclasses.replace(state, version=state.version + 1, index={**state.index, 'rows': count})
        return new, Added(len(names), len(unchanged), names=tuple(names), unchanged=tuple(unchanged))

    def delete(self, state: State, names: Sequence[str]) -> State:
        """The state without these tracklets, which must be there.

        milvus-lite only marks deleted rows, so the others are copied into a new collection, and `finish` drops the old
        one. A server is asked to compact, which takes the rows out of its segments; it removes files of old segments
        in its own time (dataCoord.gc.dropTolerance).
        """
        index = {**state.index, 'rows': state.index['rows'] - len(names)}
        new = dataclasses.replace(state, version=state.version + 1, index=index)
        with milvus.connected(state) as client:
            if milvus.is_lite(state):
                new.index['collection'] = f'{state.options["collection"]}_v{new.version}'
                gone = {milvus.key(name) for name in names}
                milvus.make_collection(client, state, milvus.collection_of(new))
                for kept in self._kept(client, state, gone):
                    client.insert(milvus.collection_of(new), kept)
                client.flush(milvus.collection_of(new))
                return new
            for some in milvus.requests(names):
                client.delete(milvus.collection_of(state), ids=some)
            client.flush(milvus.collection_of(state))
            milvus.compact(client, milvus.collection_of(state))
        return new

    def _kept(self, client: Any, state: State, gone: set[str]) -> Iterator[list[Any]]:
        """The rows that stay, some at a time.

        Keys come first, and rows by key: to read on after the n-th row, milvus-lite sorts all rows anew.
        """
        keys = [row['key'] for row in milvus.rows_where(client, state, milvus.visible(state), ['key'])]
        keys = [key for key in keys if key not in gone]
        for start in range(0, len(keys), milvus.ROWS_PER_REQUEST):
            some = keys[start : start + milvus.ROWS_PER_REQUEST]
            yield list(milvus.rows_of_keys(client, state, some, ['*']).values())

    @staticmethod
    def search_options(state: State) -> tuple[str, ...]:
        """As `LocalStore.search_options`: a server chooses its index, which may be HNSW."""
        return () if milvus.is_lite(state) else ('candidates',)

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
        """As `LocalStore.search`; `candidates` is what a server's HNSW calls ef, where its index is one."""
        k = max(min(k, state.index.get('rows', 0)), 1)
        if k + 1 > _MAX_RESULTS:
            raise UserError(f'Milvus gives at most {_MAX_RESULTS - 1:,} results of a search.')
        found: Found = [(np.empty(0), []) for _ in range(len(queries))]
        own = of_queries['tracklet'].to_pylist()
        # Without it HNSW looks at hardly more than k: of 20,000 vectors it found 0.92 of the 50 nearest.
        how = {} if milvus.is_lite(state) else {'ef': min(max(candidates, k + 1), _MAX_CANDIDATES)}
        with milvus.connected(state) as client:
            for forbidden, numbers in filters.groups(of_queries):
                condition = ' and '.join([milvus.visible(state), *milvus.conditions(filters, forbidden)])
                for start in range(0, len(numbers), 128):
                    chosen = numbers[start : start + 128]
                    hits = client.search(
                        milvus.collection_of(state),
                        data=[queries[i].tolist() for i in chosen],
                        limit=k + 1,
                        filter=condition,
                        output_fields=['metadata'],
                        search_params={'metric_type': 'COSINE', 'params': how},
                    )
                    for number, rows in zip(chosen, hits):
                        kept = [(max(1 - row['distance'], 0.0), milvus.metadata_of(row['entity'])) for row in rows]
                        kept = [(d, m) for d, m in kept if m['tracklet'] != own[number]][:k]
                        found[number] = (np.array([d for d, _ in kept]), [m for _, m in kept])
                    done(len(chosen) * state.index.get('rows', 0))
        return found
