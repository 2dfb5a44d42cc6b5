"""SIGTERM, with which clouds and schedulers ask for a machine back, noticed at any moment, also in the middle of a long compilation."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from pvlad_jax.errors import EXIT_PREEMPTED


class Preempted(Exception):
    """The machine was asked back; the state is saved and the same command goes on from it."""


class StopRequest:
    """`asked` turns true with SIGTERM. From then on the run has `grace` seconds to save and to end.

    While `nothing_to_lose` (no step made since the start), the process ends at once; a run that has not ended after `grace` seconds
    ends unsaved: its last checkpoint is whole, and the machine would be gone anyway.
    """

    def __init__(self):
        self.grace = 25.0
        self.nothing_to_lose = True
        self._asked = threading.Event()
        self._ended = threading.Event()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def _watch(self, signals: int) -> None:
        while signal.SIGTERM not in os.read(signals, 64):
            if self._ended.is_set():
                return
        self._asked.set()
        if not self.nothing_to_lose and self._ended.wait(self.grace):
            return
        why = 'nothing to save yet' if self.nothing_to_lose else f'not saved within {self.grace:g} s, the last checkpoint stands'
        print(f'Asked to stop: {why}. The same command starts again.', file=sys.stderr, flush=True)
        os._exit(EXIT_PREEMPTED)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """Outside the main thread nothing is heard."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # Python runs handlers in the main thread only, between two of its own instructions; the byte in the pipe wakes a thread at once.
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.signal(signal.SIGTERM, lambda *_: request._asked.set())
    before_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    watcher = threading.Thread(target=request._watch, args=(signals,), daemon=True)
    watcher.start()
    try:
        yield request
    finally:
        request._ended.set()
        signal.set_wakeup_fd(before_wake)
        signal.signal(signal.SIGTERM, before)
        os.write(wake, b'\0')
        watcher.join()
        os.close(signals)
        os.close(wake)
