"""A Milvus server as a benchmark sees it: its process's time and memory, and when its index is ready."""

import os
import threading
import time
from pathlib import Path

from pvlad_jax.gallery import milvus_collection
from pvlad_jax.gallery.manifest import State

_SECONDS = 0.2  # between two looks at its memory
_TICKS = os.sysconf('SC_CLK_TCK')


class ServerProcess:
    """Around what is measured. pid: of the server on this machine; 0 = it runs elsewhere, and nothing is known.

    memory: the most that it has held since it was entered, and the most of that which is not pages of files, in MiB.
    """

    def __init__(self, pid: int):
        self.pid, self.memory = pid, (0.0, 0.0)

    def __enter__(self) -> 'ServerProcess':
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def processor_seconds(self) -> float:
        """Of all its threads, since it began."""
        if not self.pid:
            return 0.0
        fields = Path(f'/proc/{self.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        if self.pid:
            status = dict(line.split(':', 1) for line in Path(f'/proc/{self.pid}/status').read_text().splitlines())
            now = [int(status[name].split()[0]) / 1024 for name in ('VmRSS', 'RssAnon')]
            self.memory = tuple(map(max, self.memory, now))


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
    from pymilvus import connections, utility

    connections.connect(alias='benchmark', uri=state.options['uri'])
    segments = utility.get_query_segment_info(collection, using='benchmark')
    return sum(s.num_rows for s in segments if s.index_name) >= state.index['rows']


def drop(state: State) -> None:
    """The collection with all that is in it."""
    with milvus_collection.connected(state) as client:
        client.drop_collection(milvus_collection.collection_of(state))
