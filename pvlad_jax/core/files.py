"""Atomic writes, on a disk or in object storage."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import is_remote

DISK_FULL_ERRNOS = {errno.ENOSPC: 'No space left', errno.EDQUOT: 'Disk quota exceeded', errno.EFBIG: 'File too large'}


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, which replaces `path` when the block is left: readers see the old file or the new one.

    UserError where the disk does not let it; the old file then stays.
    """
    if is_remote(path):  # an object appears whole
        from etils import epath

        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(str(path)).name
            yield local
            epath.Path(str(path)).write_bytes(local.read_bytes())
        return
    path = Path(path)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'{path} cannot be written ({error}). Free space or choose another place.') from error


def write_text(path: Any, text: str) -> None:
    """Replaces a text file (a pathlib.Path or epath.Path) atomically. OSError where the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(text)
    part.replace(path)


def disk_full_reason(error: BaseException) -> str | None:
    """'No space left' and its like, where that is what an error says; None otherwise."""
    return next((reason for number, reason in DISK_FULL_ERRNOS.items()
                 if getattr(error, 'errno', None) == number or reason in str(error)), None)
