"""Atomic writes, on a disk or in object storage."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.folder_lock import Locked, lock_folder
from pvlad_jax.core.paths import is_remote

DISK_FULL_ERRNOS = {errno.ENOSPC: 'No space left', errno.EDQUOT: 'Disk quota exceeded', errno.EFBIG: 'File too large'}


def check_output_file(output: str | os.PathLike, inputs: Mapping[str, str | os.PathLike | None]) -> None:
    """UserError, before the work that it is for, where a file to be written is a folder, or one of those that are read.

    inputs: by the flags that name them; None = not given.
    """
    if is_remote(output):
        return
    output = Path(output)
    if output.is_dir():
        raise UserError(f'{output} is a folder. Give the name of a file.')
    for flag, path in inputs.items():
        if path is not None and not is_remote(path) and _is_same(output, Path(path)):
            raise UserError(f'{output} is the file that {flag} names, and would be replaced. Give another name.')


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def why_not_written(error: OSError, otherwise: str = 'choose another place') -> str:
    """'(No space left on device). Free space, or choose another place.': the end of a sentence for users."""
    remedy = f'Free space, or {otherwise}' if disk_full_reason(error) else f'{otherwise[0].upper()}{otherwise[1:]}'
    return f'({error.strerror or error}). {remedy}.'


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
        raise UserError(f'{path} cannot be written {why_not_written(error)}') from error


@contextlib.contextmanager
def atomic_folder(folder: Path, keep: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """Gives an empty folder beside `folder` to write to, which takes its place when the block is left without an error.

    Args:
      keep: whether something of this name in the former folder goes into the new one, where that has no such name.

    Raises:
      UserError: another process is writing it, or the disk does not let it; the old folder then stays, and nothing of
        the new one.
    """
    partial, before = (folder.with_name(f'.{folder.name}.{what}') for what in ('partial', 'replaced'))
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with lock_folder(partial):
            for left in partial.iterdir():  # by one that was killed
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != '.lock':
                    left.unlink()
            try:
                yield partial
            except BaseException:
                # Pictures of people may be in it, and what fills the disk should not stay there.
                shutil.rmtree(partial, ignore_errors=True)
                raise
            (partial / '.lock').unlink()
            shutil.rmtree(before, ignore_errors=True)
            if folder.exists():
                for path in folder.iterdir():
                    if keep(path.name) and not (partial / path.name).exists():
                        (shutil.copytree if path.is_dir() else shutil.copy2)(path, partial / path.name)
                folder.rename(before)
            partial.rename(folder)
            shutil.rmtree(before, ignore_errors=True)
    except Locked as error:
        raise UserError(f'Another process ({error.holder}) is writing {folder}. Wait for it.') from None
    except OSError as error:
        raise UserError(f'{folder} cannot be written {why_not_written(error, "give another --output")}') from error


def write_text(path: Any, text: str) -> None:
    """Replaces a text file (a pathlib.Path or epath.Path) atomically. OSError where the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.part')
    part.write_text(text)
    part.replace(path)


def disk_full_reason(error: BaseException) -> str | None:
    """'No space left' and its like, where that is what an error says; None otherwise."""
    code, text = getattr(error, 'errno', None), str(error)
    return next((reason for number, reason in DISK_FULL_ERRNOS.items() if code == number or reason in text), None)
