"""Removing what a gallery no longer holds, and saying where that fails: whoever deletes a person must be able to rely
on it.
"""

import shutil
from pathlib import Path

from pvlad_jax.core.errors import UserError


class NotRemoved(UserError):
    """Something that a change deletes or replaces is still on the disk."""


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it; nothing where there is none.

    All that can be removed is. Raises NotRemoved, which names the first that cannot.
    """
    failed = None
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        try:
            shutil.rmtree(path)  # once more, for the reason
        except OSError as error:
            failed = error
    else:
        try:
            path.unlink()
        except OSError as error:
            failed = error
    if failed and not isinstance(failed, FileNotFoundError):
        reason = failed.strerror or failed
        raise NotRemoved(
            f'{path} cannot be removed ({reason}): the gallery no longer holds it, and it is still on the disk. Allow '
            'its removal (permissions; on a network disk, end the programs that read the gallery), and give the same '
            'command again.'
        )


def remove_all(paths: list[Path]) -> None:
    """`remove` of each, also where one fails. Raises the first NotRemoved."""
    first = None
    for path in paths:
        try:
            remove(path)
        except NotRemoved as error:
            first = first or error
    if first:
        raise first
