"""The most memory that a process has held, in MiB: all of it, and what is its own."""

import re
import threading
from pathlib import Path

_SECONDS = 0.02  # between two looks


class PeakMemory:
    """Around what is measured, in a process of its own, or in the other one of `pid`.

    resident: the kernel's high-water mark of the resident set since this process began; of another, the most that a
    thread saw, which looks every 20 ms. It counts pages of mapped files, which the kernel takes back when memory is
    short. own: the most anonymous memory that the thread saw, which the kernel cannot take back.
    """

    def __init__(self, pid: int | str = 'self'):
        self.pid, self.own, self.resident = pid, 0.0, 0.0

    def __enter__(self) -> 'PeakMemory':
        self._look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        self.own = max(self.own, process_memory('RssAnon', self.pid))
        resident = process_memory('VmHWM' if self.pid == 'self' else 'VmRSS', self.pid)
        self.resident = max(self.resident, resident)


def process_memory(name: str, pid: int | str = 'self') -> float:
    """MiB of one program alone by its name in /proc (Linux); getrusage would count the parent's memory at the fork."""
    return int(re.search(rf'{name}:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())[1]) / 1024
