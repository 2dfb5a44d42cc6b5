"""Tar archives that are compressed, which have no random access: decompressed into a temporary file."""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from pvlad_jax.core.errors import UserError


def is_plain_tar(path: str) -> bool:
    try:
        with tarfile.open(path, 'r:'):
            return True
    except tarfile.TarError:
        return False


def decompressed_tar(path: Path) -> str:
    import bz2
    import gzip
    import lzma

    openers = {b'\x1f\x8b': gzip.open, b'BZ': bz2.open, b'\xfd7': lzma.open}
    with open(path, 'rb') as f:
        opener = openers.get(f.read(2))
    if opener is None:
        raise tarfile.ReadError('neither plain nor compressed with gzip, bzip2 or xz')
    handle, plain = tempfile.mkstemp(prefix='pvlad_', suffix='.tar')
    try:
        with os.fdopen(handle, 'wb') as target, opener(path, 'rb') as packed:
            shutil.copyfileobj(packed, target, 1 << 20)
    except BaseException as error:
        remove_file(plain)
        if isinstance(error, OSError | EOFError | lzma.LZMAError):
            raise UserError(
                f'{path} could not be decompressed into {plain}: {error}. Unpack it by hand and give its folder.'
            ) from error
        raise
    return plain


def remove_file(path: str) -> None:
    Path(path).unlink(missing_ok=True)
