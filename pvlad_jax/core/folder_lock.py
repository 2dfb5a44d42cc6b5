"""A folder that one process at a time may write to."""

import fcntl
import os
from pathlib import Path
from typing import IO

LOCK = '.lock'  # in the folder
_ATTEMPTS = 3


class Locked(Exception):
    """Another process holds the folder. holder: its number, or 'unknown'."""

    def __init__(self, holder: str):
        super().__init__(holder)
        self.holder = holder


def lock_folder(folder: Path) -> IO[str]:
    """Locks an existing folder; keep what is returned open. The system releases the lock when the process ends, however
    it ends.

    Raises:
      Locked: another process holds it.
      OSError: the folder cannot be written; FileNotFoundError: it is not there, or its last holder has removed it.
    """
    for attempt in reversed(range(_ATTEMPTS)):
        lock = open(folder / LOCK, 'a+', errors='replace')
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another one, where its last holder has just removed it; or on a file system without lasting numbers.
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / LOCK)) or not attempt:
                break
            lock.close()
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or 'unknown'
            lock.close()
            raise Locked(holder) from None
        except OSError:
            lock.close()
            raise
    lock.truncate(0)
    lock.write(f'{os.getpid()}\n')
    lock.flush()
    return lock
