"""A Milvus server as a benchmark sees it: its processor time, and when its index is ready."""

import os
import time
from pathlib import Path

from pvlad_jax.gallery import milvus_collection
from pvlad_jax.gallery.manifest import State

_TICKS = os.sysconf('SC_CLK_TCK')


def processor_seconds(pid: int) -> float:
    """Of all threads of a process of this machine, since it began."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wait_for_index(state: State, seconds: float) -> bool:
    """Whether searches go through the server's index to every row within this time.

    Until then it searches an interim index, also some seconds after the index has been made: those who search load it.
    """
    end = time.monotonic() + seconds
    with milvus_collection.connected(state) as client:
        name = milvus_collection.collection_of(state)
        while time.monotonic() < end:
            index = client.describe_index(name, 'embedding')
            made = int(index['pending_index_rows']) == 0 and int(index['indexed_rows']) >= state.index['rows']
            if made and _is_loaded(state, name):
                return True
            time.sleep(1)
    return False


def _is_loaded(state: State, collection: str) -> bool:
    """Whether those who search have loaded the index of all rows."""
    from pymilvus import connections, utility

    connections.connect(alias='benchmark', uri=state.options['uri'])
    segments = utility.get_query_segment_info(collection, using='benchmark')
    return sum(s.num_rows for s in segments if s.index_name) >= state.index['rows']


def drop(state: State) -> None:
    """The collection with all that is in it."""
    with milvus_collection.connected(state) as client:
        client.drop_collection(milvus_collection.collection_of(state))
