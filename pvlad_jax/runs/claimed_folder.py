"""A folder that a run holds. Where the run is refused, a folder that was not there before is taken away again."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.folder_lock import LOCK, lock_folder

CHECKPOINTS, COMPILE_CACHE = 'checkpoints', 'compile_cache'  # what a run makes before it has anything to keep
_ATTEMPTS = 3


class ClaimedFolder(contextlib.AbstractContextManager):
    """Locked until it is left, or until the process ends.

    Left by a refusal (a UserError, or what the machine refuses), it removes the folders that it has made, provided that
    they hold nothing but an empty folder of checkpoints, compiled programs and the lock. Where anything else is in
    them, all of it stays, as does a folder that was there before.
    """

    def __init__(self, folder: Path):
        """Makes the folder where it is not there. Locked where another process holds it, OSError where it cannot be
        written."""
        self._folder = folder
        for attempt in reversed(range(_ATTEMPTS)):
            self._made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock: IO[str] = lock_folder(folder)
                return
            except FileNotFoundError:  # a run that was refused has removed it since
                if not attempt:
                    raise
            except OSError:  # a full disk
                if self._made:
                    with contextlib.suppress(OSError):
                        _remove(folder, self._made)
                raise

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:  # still held while the folder goes
            if self._made and error is not None and (isinstance(error, UserError) or environment_error(error)):
                with contextlib.suppress(OSError):  # another process has put something there, or it cannot be removed
                    _remove(self._folder, self._made)


def _remove(folder: Path, made: Sequence[Path]) -> None:
    """`made`: the folder and those above it, from the innermost; each is removed only where it is empty."""
    checkpoints, programs = folder / CHECKPOINTS, folder / COMPILE_CACHE
    if {path.name for path in folder.iterdir()} - {LOCK, CHECKPOINTS, COMPILE_CACHE}:
        return
    if checkpoints.exists():
        checkpoints.rmdir()
    shutil.rmtree(programs, ignore_errors=True)
    (folder / LOCK).unlink(missing_ok=True)
    for path in made:
        path.rmdir()
