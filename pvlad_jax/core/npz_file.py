"""Arrays of an .npz file of any origin. Nothing in it is unpickled, and what is wrong is said without NumPy's advice to
do so."""

import contextlib
import io
from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np

from pvlad_jax.core.errors import first_line

_ZIP = b'PK\x03\x04', b'PK\x05\x06'  # with members, and without any
_OTHERS = {b'PAR1': 'a Parquet table', np.lib.format.MAGIC_PREFIX: 'a single array (.npy)'}


def read_npz(
    path: str | PathLike | io.IOBase, names: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """The arrays of these names, and the optional ones that are there, of a file by its path or open for reading.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is no such file, is damaged, or lacks one of them; the message is the end of a sentence that begins
        with the file's name.
    """
    with contextlib.ExitStack() as stack:
        file: Any = path if isinstance(path, io.IOBase) else stack.enter_context(open(path, 'rb'))
        start = file.read(8)
        file.seek(-len(start), io.SEEK_CUR)
        for magic, kind in _OTHERS.items():
            if start.startswith(magic):
                raise ValueError(f'is {kind}, not an .npz file')
        if not start.startswith(_ZIP):
            raise ValueError('is not an .npz file of plain arrays' if start else 'is empty')
        try:
            archive = stack.enter_context(np.load(file, allow_pickle=False))
        except Exception as error:  # zipfile's, struct's, OSError of a place that is not there
            raise ValueError('is a zip archive that is cut or damaged') from error
        names = list(names)
        if missing := [name for name in names if name not in archive.files]:
            raise ValueError(f'lacks {", ".join(missing)}')
        there = [name for name in optional if name in archive.files]
        return {name: _array(archive, name) for name in (*names, *there)}


def _array(archive: Any, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # damaged archives raise zlib.error, struct.error, KeyError, MemoryError and more
        reason = first_line(error)
        if 'pickle' not in reason:
            raise ValueError(f'is damaged in {name} ({reason})') from error
        array = None
    if not isinstance(array, np.ndarray):  # NumPy gives bytes of a member that it does not know
        raise ValueError(f'holds what is no plain array in {name}')
    return array
