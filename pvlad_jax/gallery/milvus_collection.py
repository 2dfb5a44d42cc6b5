"""A collection of Milvus as rows of a gallery: the connection, the fields, filter expressions, queries, compaction.

A row carries the number of the change that added it, and readers look at rows up to the number in gallery.json. No text
of a user is put into a filter expression: names, cameras and sources are compared by their hashes.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.times import LEAST_DATE
from pvlad_jax.gallery.filters import Filters, is_date
from pvlad_jax.gallery.manifest import State
from pvlad_jax.gallery.metadata_columns import COLUMNS

ROWS_PER_REQUEST = 1000  # 512 numbers each are 2 MB of gRPC's 64
_MAX_ROWS_PER_REQUEST = 16_384  # of metadata alone; Milvus's own limit
_UNKNOWN_START, _UNKNOWN_END = 1e300, -1e300  # no filter on time is met by these
_COMPACTION_SECONDS = 600


def conditions(filters: Filters, forbidden: dict[str, str]) -> list[str]:
    """The filters in Milvus's language."""
    said = []
    for column, values in (('camera', filters.cameras), ('source', filters.sources)):
        if values:
            said.append(f'{column}_key in {keys(values)}')
    if filters.after is not None:
        said.append(f'end_seconds >= {float(filters.after)!r}')
        said += [] if is_date(filters.after) else [f'end_seconds < {LEAST_DATE!r}']
    if filters.before is not None:
        said.append(f'start_seconds <= {float(filters.before)!r}')
        said += [f'start_seconds >= {LEAST_DATE!r}'] if is_date(filters.before) else []
    return said + [f'{column}_key != "{key(value)}"' for column, value in forbidden.items()]


@contextlib.contextmanager
def connected(state: State) -> Iterator[Any]:
    """A connection; what Milvus refuses becomes a UserError."""
    os.environ.setdefault('GRPC_VERBOSITY', 'NONE')  # else gRPC's C++ code writes of its pings to the terminal
    try:
        from pymilvus import MilvusClient, MilvusException
    except ImportError as error:
        raise UserError(
            'The backend milvus needs pymilvus, and milvus-lite for a file, which are not installed: '
            'pip install -r requirements-search.txt'
        ) from error
    # Both log what they raise, with tracebacks.
    for name in ('pymilvus', 'milvus_lite'):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    uri = state.options['uri']
    try:
        client = MilvusClient(uri, token=os.environ.get('MILVUS_TOKEN', ''))
    except Exception as error:
        raise UserError(
            f'Milvus at {uri} does not answer ({_first_line(error)}). Is it the right --uri, and no other '
            'process using the file?'
        ) from error
    try:
        if state.size and client.has_collection(collection_of(state)):
            client.load_collection(collection_of(state))  # milvus-lite forgets with its process what was loaded
        yield client
    except MilvusException as error:
        raise UserError(f'Milvus at {uri} refused: {_first_line(error)}') from error
    finally:
        client.close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def make_collection(client: Any, state: State, name: str) -> None:
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
    index.add_index('embedding', index_type='FLAT' if is_lite(state) else 'AUTOINDEX', metric_type='COSINE')
    client.create_collection(name, schema=schema, index_params=index, consistency_level='Strong')


def is_lite(state: State) -> bool:
    return '://' not in state.options['uri']


def collection_of(state: State) -> str:
    return state.index.get('collection', state.options['collection'])


def visible(state: State) -> str:
    return f'change <= {state.version}'


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def keys(texts: Sequence[str]) -> str:
    return json.dumps([key(text) for text in texts])


def requests(names: Sequence[str]) -> Iterator[list[str]]:
    """The keys of these tracklets, as many at a time as one request asks for."""
    for start in range(0, len(names), ROWS_PER_REQUEST):
        yield [key(name) for name in names[start : start + ROWS_PER_REQUEST]]


def row_of(vector: Float[np.ndarray, 'E'], metadata: dict[str, Any], change: int) -> dict[str, Any]:
    start, end = metadata['start_seconds'], metadata['end_seconds']
    return {
        'key': key(metadata['tracklet']),
        'camera_key': key(metadata['camera']),
        'source_key': key(metadata['source']),
        'start_seconds': _UNKNOWN_START if start is None else start,
        'end_seconds': _UNKNOWN_END if end is None else end,
        'change': change,
        'metadata': json.dumps(metadata),
        'embedding': vector.tolist(),
    }


def metadata_of(row: Any) -> dict[str, Any]:
    fields = json.loads(row['metadata'])
    return {column: fields[column] for column in COLUMNS}


def is_equal(stored: Any, row: dict[str, Any]) -> bool:
    same = np.array_equal(np.asarray(stored['embedding'], np.float32), np.asarray(row['embedding'], np.float32))
    return same and metadata_of(stored) == metadata_of(row)


def rows_of_keys(client: Any, state: State, some: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    """Rows by key, of those of these keys that are there; looked up by primary key, whatever the collection's size.

    Rows of a change that was killed are among them: `is_visible` tells.
    """
    rows = client.get(collection_of(state), ids=list(some), output_fields=['key', 'change', *fields])
    return {row['key']: row for row in rows}


def is_visible(state: State, row: Any) -> bool:
    return row['change'] <= state.version


def rows_where(client: Any, state: State, condition: str, fields: Sequence[str]) -> list[Any]:
    """All rows that meet a condition, without their vectors."""
    collection, fields = collection_of(state), list(fields)
    if is_lite(state):  # has no limit, and looks at every row for every request of an iterator
        return list(client.query(collection, filter=condition, output_fields=fields))
    found: list[Any] = []
    iterator = client.query_iterator(
        collection, batch_size=_MAX_ROWS_PER_REQUEST, filter=condition, output_fields=fields
    )
    try:
        while rows := iterator.next():
            found += rows
    finally:
        iterator.close()
    return found


def compact(client: Any, collection: str) -> None:
    """Has a server take deleted rows out of its segments, and waits for it."""
    job, end = client.compact(collection), time.monotonic() + _COMPACTION_SECONDS
    while client.get_compaction_state(job) != 'Completed':
        if time.monotonic() > end:
            raise UserError(
                f'Milvus has not compacted the collection {collection} within {_COMPACTION_SECONDS} s: the '
                'rows are deleted, but may still lie on its disk. See its logs.'
            )
        time.sleep(1)
