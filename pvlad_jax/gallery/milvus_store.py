"""A gallery in Milvus: `--uri=FILE.db` is milvus-lite in this process, `--uri=http://HOST:PORT` a server.

Milvus has no transactions, so a row carries the number of the change that added it, and readers look at rows up to the
number in gallery.json: an addition appears with that file. No text of a user stands in a filter expression: names,
cameras and sources are compared by their hashes.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.gallery import segments
from pvlad_jax.gallery.embedding_table import COLUMNS, TableReader
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.local_store import Added, Found
from pvlad_jax.gallery.manifest import State

_ROWS = 1000  # of a request; 512 numbers each are 2 MB of gRPC's 64
_MAX_RESULTS = 16_384  # of a search, Milvus's own limit
_UNKNOWN_START, _UNKNOWN_END = 1e300, -1e300  # no filter on time is met by these
_COMPACTION_SECONDS = 600


class MilvusStore:
    """The rows of a gallery in a Milvus collection; the folder holds the state and the crops."""

    def __init__(self, folder: Path):
        self.folder = folder

    def create(self, state: State) -> State:
        """Checks that Milvus answers and that the collection is not there yet; it is made with the first rows."""
        if not state.options.get('uri'):
            raise UserError('The backend milvus needs --uri=FILE.db (milvus-lite) or --uri=http://HOST:PORT '
                            '(a server).')
        uri = state.options['uri']
        if '://' not in uri:
            path = user_path(uri)
            if path.suffix != '.db':
                raise UserError(f'{uri}: milvus-lite wants a path that ends in .db.')
            path.parent.mkdir(parents=True, exist_ok=True)
            state = dataclasses.replace(state, options={**state.options, 'uri': str(path)})
        with _client(state) as client:
            name = state.options['collection']
            if client.has_collection(name):
                raise UserError(f'Milvus at {uri} has a collection {name!r} already. Give another --collection.')
        return state

    def recover(self, state: State) -> None:
        """Removes what a change that was killed has left."""
        if not state.size:
            return
        with _client(state) as client:
            current = _collection(state)
            for name in client.list_collections():
                if name != current and name.startswith(f'{state.options["collection"]}_v'):
                    client.drop_collection(name)
            if client.has_collection(current) and _rows(client, state, f'change > {state.version}', ['key'], limit=1):
                client.delete(current, filter=f'change > {state.version}')

    def finish(self, old: State, new: State) -> None:
        """After a commit: rows that are no longer there go from the disk."""
        if _collection(old) != _collection(new) and old.size:
            with _client(new) as client:
                client.drop_collection(_collection(old))

    def sources(self, state: State, names: Sequence[str]) -> list[str]:
        """The tracklets of these sources."""
        with _client(state) as client:
            return [_metadata(row)['tracklet'] for row in
                    _rows(client, state, f'source_key in {_keys(names)} and {_visible(state)}', ['metadata'])]

    def present(self, state: State, names: Sequence[str]) -> set[str]:
        """Those of these names that the gallery holds."""
        if not state.size or not names:
            return set()
        with _client(state) as client:
            return {_metadata(row)['tracklet'] for start in range(0, len(names), _ROWS) for row in
                    _rows(client, state, f'key in {_keys(names[start:start + _ROWS])} and {_visible(state)}',
                          ['metadata'])}

    def add(self, state: State, reader: TableReader, replace: bool, done: Callable[[int], None]) -> tuple[State, Added]:
        """The state with the rows of a table. UserError as `gallery.Gallery.add`."""
        if replace:
            raise UserError('--replace is not there for Milvus, where it could not be done at one moment: delete the '
                            'old tracklets first.')
        names: list[str] = []
        already_there, read = 0, set()
        with _client(state) as client:
            _make(client, state, _collection(state))
            for piece in reader.pieces(_ROWS):
                twice = read.intersection(piece.names)
                if twice:
                    raise UserError(f'{reader.path}: the tracklet name {min(twice)!r} stands twice; '
                                    'names must be unique.')
                read.update(piece.names)
                rows = [_row(vector, metadata, state.version + 1) for vector, metadata in
                        zip(segments.unit(piece.embedding), piece.metadata.to_pylist())]
                stored = {row['key']: row for row in _rows(client, state, f'key in {_keys(piece.names)}',
                                                           ['key', 'metadata', 'embedding'])}
                fresh = [row for row in rows if row['key'] not in stored]
                for row in rows:
                    old = stored.get(row['key'])
                    if old is not None and not _equal(old, row):
                        raise UserError(f'{reader.path}: the gallery holds another tracklet of the name '
                                        f'{_metadata(row)["tracklet"]!r} already. Names tell tracklets apart: rename '
                                        'it, or delete the old one. Nothing was added.')
                already_there += len(rows) - len(fresh)
                if fresh:
                    client.insert(_collection(state), fresh)
                    names += [_metadata(row)['tracklet'] for row in fresh]
                done(len(piece))
            if not names:
                return state, Added(already_there=already_there)
            client.flush(_collection(state))
        count = state.index.get('rows', 0) + len(names)
        new = dataclasses.replace(state, version=state.version + 1, index={**state.index, 'rows': count})
        return new, Added(len(names), already_there, names=tuple(names))

    def delete(self, state: State, names: Sequence[str]) -> State:
        """The state without these tracklets, which must be there.

        milvus-lite only marks deleted rows, so the others are copied into a new collection, and `finish` drops the old
        one. A server is asked to compact, which takes the rows out of its segments; it removes files of old segments
        in its own time (dataCoord.gc.dropTolerance).
        """
        index = {**state.index, 'rows': state.index['rows'] - len(names)}
        new = dataclasses.replace(state, version=state.version + 1, index=index)
        with _client(state) as client:
            if _is_lite(state):
                new.index['collection'] = f'{state.options["collection"]}_v{new.version}'
                gone = {_key(name) for name in names}
                _make(client, state, _collection(new))
                for rows in _all_rows(client, state):
                    kept = [row for row in rows if row['key'] not in gone]
                    if kept:
                        client.insert(_collection(new), kept)
                client.flush(_collection(new))
                return new
            for start in range(0, len(names), _ROWS):
                client.delete(_collection(state), filter=f'key in {_keys(names[start:start + _ROWS])}')
            client.flush(_collection(state))
            _compact(client, _collection(state))
        return new

    def search(self, state: State, queries: Float[np.ndarray, 'Q E'], of_queries: pa.Table, k: int, filters: Filters,
               probes: int, candidates: int, done: Callable[[int], None]) -> Found:
        """As `LocalStore.search`; Milvus itself decides how many candidates it looks at."""
        if k + 1 > _MAX_RESULTS:
            raise UserError(f'Milvus gives at most {_MAX_RESULTS - 1:,} results of a search.')
        found: Found = [(np.empty(0), []) for _ in range(len(queries))]
        own = of_queries['tracklet'].to_pylist()
        with _client(state) as client:
            for forbidden, numbers in filters.groups(of_queries):
                condition = ' and '.join([_visible(state), *_conditions(filters, forbidden)])
                for start in range(0, len(numbers), 128):
                    chosen = numbers[start:start + 128]
                    hits = client.search(_collection(state), data=[queries[i].tolist() for i in chosen], limit=k + 1,
                                         filter=condition, output_fields=['metadata'],
                                         search_params={'metric_type': 'COSINE'})
                    for number, rows in zip(chosen, hits):
                        kept = [(max(1 - row['distance'], 0.0), _metadata(row['entity'])) for row in rows]
                        kept = [(d, m) for d, m in kept if m['tracklet'] != own[number]][:k]
                        found[number] = (np.array([d for d, _ in kept]), [m for _, m in kept])
                    done(len(chosen) * state.index.get('rows', 0))
        return found


def _conditions(filters: Filters, forbidden: dict[str, str]) -> list[str]:
    """The filters in Milvus's language."""
    said = []
    for column, values in (('camera', filters.cameras), ('source', filters.sources)):
        if values:
            said.append(f'{column}_key in {_keys(values)}')
    if filters.after is not None:
        said.append(f'end_seconds >= {float(filters.after)!r}')
    if filters.before is not None:
        said.append(f'start_seconds <= {float(filters.before)!r}')
    return said + [f'{column}_key != "{_key(value)}"' for column, value in forbidden.items()]


@contextlib.contextmanager
def _client(state: State) -> Iterator[Any]:
    """A connection; what Milvus refuses becomes a UserError."""
    os.environ.setdefault('GRPC_VERBOSITY', 'NONE')  # else gRPC's C++ code writes of its pings to the terminal
    try:
        from pymilvus import MilvusClient, MilvusException
    except ImportError as error:
        raise UserError('The backend milvus needs pymilvus, and milvus-lite for a file, which are not installed: '
                        'pip install -r requirements-search.txt') from error
    # Both log what they raise, with tracebacks.
    for name in ('pymilvus', 'milvus_lite'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = state.options['uri']
    try:
        client = MilvusClient(uri, token=os.environ.get('MILVUS_TOKEN', ''))
    except Exception as error:
        raise UserError(f'Milvus at {uri} does not answer ({_first_line(error)}). Is it the right --uri, and no other '
                        'process using the file?') from error
    try:
        yield client
    except MilvusException as error:
        raise UserError(f'Milvus at {uri} refused: {_first_line(error)}') from error
    finally:
        client.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _make(client: Any, state: State, name: str) -> None:
    """The collection of this name, if it is not there."""
    if client.has_collection(name):
        return
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field('key', DataType.VARCHAR, is_primary=True, max_length=64)
    for column in ('camera_key', 'source_key'):
        schema.add_field(column, DataType.VARCHAR, max_length=64)
    for column in ('start_seconds', 'end_seconds'):
        schema.add_field(column, DataType.DOUBLE)
    schema.add_field('change', DataType.INT64)
    schema.add_field('metadata', DataType.VARCHAR, max_length=65_535)
    schema.add_field('embedding', DataType.FLOAT_VECTOR, dim=state.size)
    index = MilvusClient.prepare_index_params()
    # A file on one machine is searched exactly; a server chooses.
    index.add_index('embedding', index_type='FLAT' if _is_lite(state) else 'AUTOINDEX', metric_type='COSINE')
    client.create_collection(name, schema=schema, index_params=index, consistency_level='Strong')


def _is_lite(state: State) -> bool:
    return '://' not in state.options['uri']


def _collection(state: State) -> str:
    return state.index.get('collection', state.options['collection'])


def _visible(state: State) -> str:
    return f'change <= {state.version}'


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _keys(texts: Sequence[str]) -> str:
    return json.dumps([_key(text) for text in texts])


def _row(vector: Float[np.ndarray, 'E'], metadata: dict[str, Any], change: int) -> dict[str, Any]:
    start, end = metadata['start_seconds'], metadata['end_seconds']
    return {'key': _key(metadata['tracklet']), 'camera_key': _key(metadata['camera']),
            'source_key': _key(metadata['source']), 'start_seconds': _UNKNOWN_START if start is None else start,
            'end_seconds': _UNKNOWN_END if end is None else end, 'change': change,
            'metadata': json.dumps(metadata), 'embedding': vector.tolist()}


def _metadata(row: Any) -> dict[str, Any]:
    fields = json.loads(row['metadata'])
    return {column: fields[column] for column in COLUMNS}


def _equal(stored: Any, row: dict[str, Any]) -> bool:
    same = np.array_equal(np.asarray(stored['embedding'], np.float32), np.asarray(row['embedding'], np.float32))
    return same and _metadata(stored) == _metadata(row)


def _rows(client: Any, state: State, condition: str, fields: list[str], limit: int | None = None) -> list[Any]:
    """Rows that meet a condition, all of them where there is no limit."""
    if limit:
        return list(client.query(_collection(state), filter=condition, output_fields=fields, limit=limit))
    return [row for rows in _all_rows(client, state, condition, fields) for row in rows]


def _all_rows(client: Any, state: State, condition: str = '', fields: Sequence[str] = ('*',)) -> Iterator[list[Any]]:
    iterator = client.query_iterator(_collection(state), batch_size=_ROWS, filter=condition, output_fields=list(fields))
    try:
        while rows := iterator.next():
            yield list(rows)
    finally:
        iterator.close()


def _compact(client: Any, collection: str) -> None:
    """Has a server take deleted rows out of its segments, and waits for it."""
    job, end = client.compact(collection), time.monotonic() + _COMPACTION_SECONDS
    while client.get_compaction_state(job) != 'Completed':
        if time.monotonic() > end:
            raise UserError(f'Milvus has not compacted the collection {collection} within {_COMPACTION_SECONDS} s: the '
                            'rows are deleted, but may still lie on its disk. See its logs.')
        time.sleep(1)

