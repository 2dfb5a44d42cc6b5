"""Runs of the micro experiment as processes of their own, forked from one that has imported the program: a start takes
no imports.

The forking process has made no JAX backend, so each run chooses its devices as a process started from nothing does.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_processes = multiprocessing.get_context('forkserver')
_processes.set_forkserver_preload(['tests.helpers.run_micro_imports'])


class ForkedRun:
    """`python -m tests.helpers.run_micro *arguments`, or another function of a module, with the methods of
    subprocess.Popen that tests use; what it prints goes to files.
    """

    def __init__(self, *arguments: str, function: Callable[[Sequence[str]], None] | None = None):
        self._output = [tempfile.NamedTemporaryFile('r', prefix='forked_run_') for _ in range(2)]
        self._arguments = arguments
        self._process = _processes.Process(
            target=_run, args=(function, arguments, dict(os.environ), *(file.name for file in self._output))
        )
        self._process.start()
        self._polled = threading.Lock()  # of two threads that ask at once, one would be told 255
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with self._polled:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(self._arguments, timeout)
            time.sleep(0.01)
        return code

    def printed(self) -> str:
        """What it has printed to stdout so far."""
        return Path(self._output[0].name).read_text()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """(stdout, stderr), once it has ended."""
        self.wait(timeout)
        return tuple(Path(file.name).read_text() for file in self._output)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_micro(
    data_dir: Path, workdir: Path, *arguments: str, fields: Mapping[str, Any], devices: int = 1
) -> ForkedRun:
    """A training of the micro experiment with these fields of its configuration; `arguments` of
    tests/helpers/run_micro.py.
    """
    return ForkedRun(
        str(data_dir),
        str(workdir),
        '--devices',
        str(devices),
        *arguments,
        '--set',
        *(f'{name}={json.dumps(value)}' for name, value in fields.items()),
    )


def _run(function, arguments: tuple[str, ...], environment: dict[str, str], stdout: str, stderr: str) -> None:
    os.environ.clear()
    os.environ.update(environment)  # as it is now, not when the first run was forked
    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, stream.fileno())
        os.close(file)
    from tests.helpers import run_micro

    (function or run_micro.main)(arguments)
