"""The tables that come with a benchmark, looked for where the data set ships them and in --info_dir."""

import gzip
import io
from pathlib import Path

import numpy as np

from data_prep.sources.archives import Folder, FrameFiles
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path


def find_annotation(files: FrameFiles, info_dir: str | Path | None, name: str) -> bytes | None:
    """Returns the content of a table by its file name, or of the same name with .gz; None where there is none.

    `info_dir` goes before the source. Raises UserError where the one that is looked in holds several of that name that
    differ, and for an info_dir that is missing.
    """
    if info_dir is not None:
        folder = user_path(info_dir)
        if not folder.is_dir():
            raise UserError(
                f'--info_dir: {folder} is not a folder. It holds the tables that come with the data set, '
                f'such as {name}.'
            )
        tables = Folder(folder)  # which follows links, as for the data set itself
        if (found := _only_one(tables, name)) is not None:
            return found
    return _only_one(files, name)


def _only_one(files: FrameFiles, name: str) -> bytes | None:
    places = [n for n in files.names if n.rpartition('/')[2] in (name, name + '.gz')]
    contents = {_content(n, files.read(n)): n for n in places}
    if len(contents) > 1:
        differ = ' and '.join(contents.values())
        raise UserError(f'{differ} differ. Remove the wrong one, or name the folder of the right one by --info_dir.')
    return next(iter(contents), None)


def require_annotation(files: FrameFiles, info_dir: str | Path | None, name: str, hint: str) -> bytes:
    """`find_annotation`, or a UserError that says where the table comes from."""
    content = find_annotation(files, info_dir, name)
    if content is None:
        raise UserError(f'{name} was found neither in the source nor in --info_dir. {hint}')
    return content


def read_matlab(content: bytes, name: str, key: str) -> np.ndarray:
    """Returns a matrix of integers from a MATLAB file, as int64. Raises UserError where there is none under this
    key."""
    import scipy.io  # takes a quarter of a second, and most data sets have no such table

    try:
        matrix = np.asarray(scipy.io.loadmat(io.BytesIO(content))[key])
    except Exception as error:  # scipy raises what its parser happens to meet
        raise UserError(f'{name} cannot be read as a MATLAB file with a matrix {key!r}: {error}') from error
    if matrix.dtype.kind not in 'iuf' or not np.isfinite(matrix).all() or (matrix != np.floor(matrix)).any():
        raise UserError(f'{name}: {key} is not a matrix of integers.')
    return matrix.astype(np.int64)


def read_lines(name: str, content: bytes) -> list[str]:
    """The lines of the name list `name`, whatever ends them: LF or CRLF. UserError where it is not text in UTF-8."""
    try:
        return content.decode('utf-8-sig').split()
    except UnicodeDecodeError as error:
        raise UserError(f'{name} is not text in UTF-8 ({error.reason}). Save it as UTF-8.') from error


def _content(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data) if name.endswith('.gz') else data
    except (OSError, EOFError) as error:
        raise UserError(f'{name} cannot be decompressed: {error}') from error
