"""A folder that one process at a time may write to."""

import fcntl
import os
from pathlib import Path
from typing import IO


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
      OSError: the folder cannot be written.
    """
    lock = open(folder / '.lock', 'a+', errors='replace')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
