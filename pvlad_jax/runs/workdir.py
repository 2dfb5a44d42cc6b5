"""The working directory of a run: one run at a time, one configuration for good. On a local disk or in object storage (gs://...)."""

import contextlib
import json
from pathlib import Path

from etils import epath

from pvlad_jax.config import Config, differences, flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import write_text
from pvlad_jax.core.folder_lock import Locked, lock_folder
from pvlad_jax.core.paths import is_remote, user_path

Folder = Path | epath.Path  # pathlib.Path, or epath.Path in object storage: they read alike


def open_workdir(workdir: str | Path) -> Folder:
    """The path of a working directory, which need not exist yet. UserError for object storage without the library that reads it."""
    if not is_remote(workdir):
        return user_path(workdir)
    try:
        path = epath.Path(str(workdir))
        path.exists()
    except (ImportError, NotImplementedError, ValueError) as error:
        raise UserError(f'The working directory {workdir} cannot be reached: {error}. gs:// needs `pip install gcsfs`.') from error
    return path


class InUse(UserError):
    """Another run holds the working directory."""


def claim(workdir: Folder) -> contextlib.AbstractContextManager:
    """Makes the folder and locks it; keep what is returned open. The system lets go when the process ends, however it ends.

    Object storage has no such locks: there nothing is locked.
    InUse where another run holds it, UserError where it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if isinstance(workdir, epath.Path) and is_remote(workdir):
            return contextlib.nullcontext()
        return lock_folder(Path(workdir))
    except OSError as error:
        raise UserError(f'The working directory {workdir} cannot be written: {error.strerror}. Give another --workdir.') from error
    except Locked as error:
        raise InUse(f'Another run (process {error.holder}) is using {workdir}. Wait for it, stop it, or give another --workdir.') from None


def check_config(workdir: Folder, config: Config) -> None:
    """UserError where the folder belongs to a run of another configuration, with the fields that differ."""
    path = workdir / 'config.json'
    if not path.exists():
        return
    try:
        saved = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error}). Restore it, or give another --workdir.') from error
    changed = differences(saved, config)
    if changed:
        raise UserError(f'{workdir} holds a run of another configuration:\n  ' + '\n  '.join(changed) +
                        '\nGive another --workdir, or set these fields back.')


def write_config(workdir: Folder, config: Config) -> None:
    write_text(workdir / 'config.json', json.dumps(flatten(config), indent=1, sort_keys=True) + '\n')
