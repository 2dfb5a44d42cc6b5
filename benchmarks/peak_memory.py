"""The most memory that a process has held, in MiB: all of it, and what is its own."""

import re
import threading
from pathlib import Path

_SECONDS = 0.02  # between two looks


class PeakMemory:
    """Around what is measured, in a process of its own.

    resident: the kernel's high-water mark of the resident set since the process began. It counts pages of mapped files,
    which the kernel takes back when memory is short. own: the most anonymous memory, which it cannot, seen by a thread
    that looks every 20 ms.
    """

    def __enter__(self) -> 'PeakMemory':
        self.own = process_memory('RssAnon')
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()
        self.own, self.resident = max(self.own, process_memory('RssAnon')), process_memory('VmHWM')

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS):
            self.own = max(self.own, process_memory('RssAnon'))


def process_memory(name: str) -> float:
    """MiB of this program alone by its name in /proc (Linux); getrusage would count the parent's memory at the fork."""
    return int(re.search(rf'{name}:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024
