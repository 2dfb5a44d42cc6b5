"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pvlad_jax.errors import UserError


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` when the block is left: readers see the old file or the whole new one.

    UserError where the disk does not let it; the old file then stays.
    """
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
