"""Rows of embedded tracklets -> the file that the user asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pvlad_jax.commands.embed_journal import Row
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import DISTRACTOR, UNKNOWN_CAMERA

_PIECE = 4096  # rows that are written at a time
_OF_A_ROW = ('tracklet', 'first_frame', 'last_frame', 'start_seconds', 'end_seconds', 'frames')  # columns
_MAX_CAMERA = 2**31 - 1  # of the int32 in an .npz file


def check_output(path: Path, camera: str, began: float | None = None) -> None:
    """UserError for what could only fail at the end of a long job."""
    if path.suffix not in ('.parquet', '.npz'):
        raise UserError(f'--output={path} must end in .parquet or .npz.')
    if path.is_dir():
        raise UserError(f'--output={path} is a folder; give a file.')
    if path.suffix == '.npz':
        _camera_id(camera)
        if began is not None:
            raise UserError(f'--output={path} holds no times. Leave --began out, or give a .parquet file.')
    else:
        import pvlad_jax.gallery.embedding_table  # noqa: F401  says what to install where pyarrow is missing


def check_names(path: Path, names: Sequence[str], source: Path) -> None:
    """UserError for tracklets of the source whose names the output cannot hold."""
    if path.suffix == '.npz':  # holds any
        return
    from pvlad_jax.gallery.embedding_table import MAX_NAME, NAME_SHOWN

    if longer := [name for name in names if len(name) > MAX_NAME]:
        name, more = longer[0], f', and {len(longer) - 1:,} more are too long' if len(longer) > 1 else ''
        raise UserError(
            f'{source}: the name of the tracklet {name[:NAME_SHOWN]!r}... has {len(name):,} characters{more}; '
            f'{path.suffix} holds up to {MAX_NAME}. Names are paths of folders below --input, or those of the video '
            'and its tracks: rename what is long, or give a folder further down as --input.'
        )


def _camera_id(camera: str) -> int:
    if not camera:
        return UNKNOWN_CAMERA
    if not camera.isascii() or not camera.isdecimal() or int(camera[:11]) > _MAX_CAMERA:
        raise UserError(f'--camera={camera}: cameras of an .npz file are numbers from 0 to {_MAX_CAMERA}.')
    return int(camera)


def write_output(
    path: Path, rows: Sequence[Row], source: str, camera: str, fingerprint: str, began: float = 0.0
) -> None:
    """Writes Parquet, or npz for the evaluation, where every tracklet is a distractor until a label says who it is.

    began: of the source, in seconds since 1970; 0 where times are to count from its beginning.
    """
    if path.suffix == '.npz':
        from pvlad_jax.evaluation.embeddings import Embeddings, write_embeddings

        labels = {'person_id': DISTRACTOR, 'camera_id': _camera_id(camera)}
        columns = {name: np.full(len(rows), label, np.int32) for name, label in labels.items()}
        names, vectors = np.array([row.tracklet for row in rows]), np.stack([row.embedding for row in rows])
        write_embeddings(path, Embeddings(embedding=vectors, tracklet=names, fingerprint=fingerprint, **columns))
        return
    from pvlad_jax.gallery.embedding_table import EmbeddingTable
    from pvlad_jax.gallery.table_file import TableWriter

    with TableWriter(path, len(rows[0].embedding), fingerprint) as writer:
        for start in range(0, len(rows), _PIECE):
            piece = rows[start : start + _PIECE]
            columns = {name: [getattr(row, name) for row in piece] for name in _OF_A_ROW}
            for name in ('start_seconds', 'end_seconds'):
                columns[name] = [None if seconds is None else began + seconds for seconds in columns[name]]
            columns |= {'source': [source] * len(piece), 'camera': [camera] * len(piece)}
            writer.write(EmbeddingTable.from_columns(columns, np.stack([row.embedding for row in piece]), fingerprint))
