"""Files that are written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from pvlad_jax.core.errors import UserError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` when the block is left: readers see the old file or the whole new one.

    UserError where the disk does not let it; the old file then stays.
    """
    if '://' in str(path):  # object storage: an object appears whole
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
