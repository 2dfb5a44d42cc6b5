"""SIGTERM, with which clouds and schedulers ask for a machine back, noticed at any moment, also in the middle of a long
compilation.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from pvlad_jax.core.errors import EXIT_PREEMPTED
from pvlad_jax.core.terminal import complain
from pvlad_jax.launch import distributed


class Preempted(Exception):
    """The machine was asked back; the state is saved and the same command resumes from it."""


class StopRequest:
    """`requested` turns true with SIGTERM to any process of the run. From then on it has `grace` seconds to save and to
    end.

    While `no_unsaved_steps` (no step made since the start), the process ends at once; a run that has not ended after
    `grace` seconds ends unsaved: its last checkpoint is whole, and the machine would be gone anyway.
    """

    def __init__(self):
        self.grace = 25.0
        self.no_unsaved_steps = True
        self.what_follows: Callable[[], str] = lambda: 'Give the same command again.'
        self._requested = threading.Event()
        self._ended = threading.Event()
        self._wake: int | None = None  # end of the pipe that the watching thread reads

    @property
    def requested(self) -> bool:
        """Whether any process of the run was asked to stop."""
        return self._requested.is_set()

    def request(self) -> None:
        """What SIGTERM does, for another thread to call."""
        self._requested.set()
        with contextlib.suppress(OSError):  # no longer listened to
            if self._wake is not None:
                os.write(self._wake, bytes([signal.SIGTERM]))

    def _watch(self, signals: int) -> None:
        while signal.SIGTERM not in os.read(signals, 64):
            if self._ended.is_set():
                return
        self._requested.set()
        distributed.ask_all_to_stop()
        if not self.no_unsaved_steps and self._ended.wait(self.grace):
            return
        why = 'nothing to save yet' if self.no_unsaved_steps else f'not saved within {self.grace:g} s'
        complain(f'Asked to stop: {why}. {self.what_follows()}')
        distributed.exit_now(EXIT_PREEMPTED)


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """A request that SIGTERM makes, while the block runs. Outside the main thread no signal is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    # Python runs handlers in the main thread only, between two of its own instructions; the byte in the pipe wakes a
    # thread at once.
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    request._wake = wake
    before = signal.signal(signal.SIGTERM, lambda *_: request._requested.set())
    before_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    watcher = threading.Thread(target=request._watch, args=(signals,), daemon=True)
    watcher.start()
    try:
        yield request
    finally:
        request._ended.set()
        request._wake = None
        signal.set_wakeup_fd(before_wake)
        signal.signal(signal.SIGTERM, before)
        os.write(wake, b'\0')
        watcher.join()
        os.close(signals)
        os.close(wake)
