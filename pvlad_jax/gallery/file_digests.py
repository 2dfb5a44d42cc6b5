"""Whether the files of a gallery hold what was written: a disk, a copy or a hand may have changed them since.

A change of one byte in a name or a vector can leave a file that reads well and answers wrongly, so the state keeps a
digest of each file.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.sha256 import sha256_of


@dataclasses.dataclass(frozen=True)
class Verified:
    """How much was found to be as it was written. without: files of an earlier version, which kept no digest."""

    files: int
    bytes: int
    without: tuple[Path, ...]


def verify_files(
    gallery: Path, written: Iterable[tuple[Path, str]], done: Callable[[int], None] = lambda count: None
) -> Verified:
    """Reads every file whose digest is known.

    Args:
      written: files, and their SHA-256; '' = unknown.
      done: called with the number of bytes of each.

    Raises:
      UserError: it names all files that differ.
      FileNotFoundError: a file is not there.
    """
    files, size, without, differ = 0, 0, [], []
    for path, digest in written:
        n_bytes = path.stat().st_size
        if not digest:
            without.append(path)
        elif sha256_of(path) != digest:
            differ.append(path)
        else:
            files, size = files + 1, size + n_bytes
        done(n_bytes)
    if differ:
        raise UserError(
            f'The gallery {gallery} is damaged: {", ".join(map(str, differ))} '
            f'{"is" if len(differ) == 1 else "are"} not as written (SHA-256). Restore '
            f'{"it" if len(differ) == 1 else "them"} from a copy, or make the gallery again.'
        )
    return Verified(files, size, tuple(without))
