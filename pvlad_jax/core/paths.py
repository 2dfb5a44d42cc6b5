"""The one reading of a path that a user gives, the same in every command and configuration field."""

from os import PathLike
from pathlib import Path

from pvlad_jax.core.errors import UserError


def is_remote(path: str | PathLike) -> bool:
    """Whether a path lies in object storage (gs://...)."""
    return '://' in str(path)


def user_path(path: str | Path) -> Path:
    """The absolute path that a user means: '~' and '~name' are home folders, a relative path begins at the current
    folder.

    Shells expand '~' at the beginning of a word only, so not in --flag=~/folder. Raises UserError where the home
    folder is unknown, and for object storage: a caller that can read that asks `is_remote` first.
    """
    if is_remote(path):
        raise UserError(f'{path} is in object storage, where this cannot be read or written. Give a path on a disk.')
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f'{path}: there is no home folder of that name. Write the path in full.') from error


def remote_or_user_path(path: str | Path) -> str:
    """The same as text, for what may lie in object storage as well: such paths stay as they are."""
    return str(path) if is_remote(path) else str(user_path(path))
