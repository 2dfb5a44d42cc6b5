"""Files of embeddings: Parquet with the columns of gallery/embedding_table.py, written and read in pieces, since they
can be larger than memory; the .npz of an evaluation is read as well.

The schema's metadata hold the model's fingerprint (`pvlad_model`, '' = unknown) and the version of this format
(`pvlad_format`).
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.gallery.embedding_table import EmbeddingTable, check_names  # first: says where pyarrow is missing
from pvlad_jax.gallery.metadata_columns import COLUMNS, METADATA_SCHEMA, cast_metadata

import pyarrow as pa  # isort: skip
import pyarrow.compute as pc  # isort: skip
import pyarrow.parquet as pq  # isort: skip

FORMAT_VERSION = 1
_MODEL, _FORMAT = b'pvlad_model', b'pvlad_format'
_PIECE = 8192  # rows read at a time: 16 MiB at 512 numbers
_READ_BYTES = 2**20  # of a column, at a time; else a whole row group's


def schema(size: int, fingerprint: str) -> pa.Schema:
    """The schema of the file, for embeddings of `size` numbers."""
    fields = [*METADATA_SCHEMA, pa.field('embedding', pa.list_(pa.float32(), size))]
    return pa.schema(fields, {_MODEL: fingerprint.encode(), _FORMAT: str(FORMAT_VERSION).encode()})


class TableWriter:
    """Writes a table in pieces; the file appears, whole, when the block is left without an error.

        with TableWriter(path, size, fingerprint) as writer:
            writer.write(table)

    What is lost where the program is killed is the whole table: a job that can be resumed keeps its parts itself.
    """

    def __init__(self, path: str | PathLike, size: int, fingerprint: str):
        self.path, self.size, self.fingerprint = Path(path), size, fingerprint
        self._names: set[str] = set()

    def __enter__(self) -> 'TableWriter':
        self._stack = contextlib.ExitStack()
        try:
            partial = self._stack.enter_context(atomic_write(self.path))
            self._file = self._stack.enter_context(pq.ParquetWriter(partial, schema(self.size, self.fingerprint)))
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *error) -> bool | None:
        return self._stack.__exit__(*error)

    def write(self, table: EmbeddingTable) -> None:
        """Appends rows. UserError for vectors of another size or model, and for names that were written before."""
        table = table.checked(str(self.path))
        check_fits(table, str(self.path), self.size, self.fingerprint)
        twice = next((name for name in table.names if name in self._names), None)
        if twice is not None:
            raise UserError(f'{self.path}: the tracklet name {twice!r} occurs twice; names must be unique.')
        self._names.update(table.names)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(table.embedding.ravel()), self.size)
        self._file.write_table(table.metadata.append_column('embedding', vectors).cast(self._file.schema))


def check_fits(table: EmbeddingTable, name: str, size: int, fingerprint: str) -> None:
    """UserError where vectors have another size than `size`, or come from another model."""
    if table.embedding.shape[1] != size:
        raise UserError(
            f'{name}: embeddings have {table.embedding.shape[1]} numbers where {size} are needed. They '
            'must come from the same model.'
        )
    if table.fingerprint != fingerprint:
        raise UserError(
            f'{name}: the embeddings are of the model {table.fingerprint or "(unknown)"}, not of '
            f'{fingerprint or "(unknown)"}. Distances between models mean nothing.'
        )


def write_table(path: str | PathLike, table: EmbeddingTable) -> None:
    """Writes a table that is in memory; readers see the old file or the whole new one."""
    table = table.checked(str(path))
    with TableWriter(path, table.embedding.shape[1], table.fingerprint) as writer:
        writer.write(table)


class TableReader:
    """A table on the disk: Parquet, or the `.npz` of an evaluation, whose model is unknown.

    Attributes: path, size (numbers of an embedding), fingerprint, n_rows.

    Raises:
      UserError: not there, not readable, not such a table, of a later version, or empty.
    """

    def __init__(self, path: str | PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f'There is no file {path}.')
        if self.path.suffix == '.npz':
            self._whole = _from_npz(self.path)
            self.size, self.n_rows = self._whole.embedding.shape[1], len(self._whole)
            self.fingerprint = self._whole.fingerprint
            return
        self._whole = None
        with _readable(self.path):
            found = pq.read_schema(self.path)
            self.n_rows = pq.read_metadata(self.path).num_rows
        said = found.metadata or {}
        version = said.get(_FORMAT, b'0').decode(errors='replace')
        if version.isdecimal() and (len(version) > 9 or int(version) > FORMAT_VERSION):
            raise UserError(
                f'{path} has the format version {version}, this program reads up to {FORMAT_VERSION}. '
                'Install a newer one.'
            )
        twice = [name for name, count in Counter(found.names).items() if count > 1]
        if twice:
            raise UserError(f'{path} has the column {", ".join(twice)} more than once. Rename or remove the others.')
        missing = [name for name in ('tracklet', 'embedding') if name not in found.names]
        kind = None if missing else found.field('embedding').type
        if missing or not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
            raise UserError(
                f'{path} is not a table of embeddings: it needs the columns tracklet (text) and embedding '
                f'(fixed-size list of float32); it has {", ".join(f"{f.name} ({f.type})" for f in found)}.'
            )
        if not self.n_rows:
            raise UserError(f'{path} is empty: no tracklets.')
        self.size, self.fingerprint = kind.list_size, said.get(_MODEL, b'').decode(errors='replace')

    def pieces(self, rows: int = _PIECE) -> Iterator[EmbeddingTable]:
        """The rows in order, checked, at most `rows` at a time.

        UserError for a name that occurs twice, in any piece.
        """
        if self._whole is not None:
            for start in range(0, self.n_rows, rows):
                yield EmbeddingTable(
                    self._whole.metadata.slice(start, rows), self._whole.embedding[start : start + rows]
                )
            return
        self.names()
        with _readable(self.path), self._opened() as file:
            for batch in file.iter_batches(rows):
                batch.validate(full=True)
                yield _table_of(batch, self.fingerprint, str(self.path))

    def names(self) -> pa.StringArray:
        """Of all tracklets. UserError for one that occurs twice."""
        if self._whole is not None:
            return self._whole.metadata['tracklet'].combine_chunks()
        with _readable(self.path), self._opened() as file:
            column = file.read(columns=['tracklet'])['tracklet'].combine_chunks()
            column.validate(full=True)  # that it is UTF-8
        names = cast_metadata({'tracklet': column}, len(column), str(self.path))['tracklet'].combine_chunks()
        if len(pc.unique(names)) < len(names):
            check_names(names.to_pylist(), str(self.path))
        return names

    def _opened(self) -> pq.ParquetFile:
        """Without a buffer ahead, which would hold all that has been read of the file."""
        return pq.ParquetFile(self.path, pre_buffer=False, buffer_size=_READ_BYTES)


def read_table(path: str | PathLike) -> EmbeddingTable:
    """The whole table, in memory."""
    reader = TableReader(path)
    pieces = list(reader.pieces())
    embedding = pieces[0].embedding if len(pieces) == 1 else np.concatenate([piece.embedding for piece in pieces])
    return EmbeddingTable(pa.concat_tables([piece.metadata for piece in pieces]), embedding, reader.fingerprint)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Arrow's errors over a damaged file as a UserError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not a readable Parquet file ({" ".join(str(error).split())}).') from error


def _table_of(batch: pa.RecordBatch, fingerprint: str, name: str) -> EmbeddingTable:
    vectors = batch.column('embedding')
    if vectors.null_count or vectors.flatten().null_count:
        raise UserError(f'{name}: some tracklets have no embedding (null).')
    size = vectors.type.list_size
    columns = {column: batch.column(column) for column in COLUMNS if column in batch.schema.names}
    with np.errstate(over='ignore'):  # what becomes Inf is refused
        embedding = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, size).astype(np.float32, copy=False)
    return EmbeddingTable(cast_metadata(columns, len(batch), name), embedding, fingerprint).checked(name)


def _from_npz(path: Path) -> EmbeddingTable:
    """Cameras become text, -1 unknown; people are left out: who somebody is, a search is to find."""
    from pvlad_jax.evaluation.embeddings import read_embeddings  # imports JAX, which a gallery does without

    table = read_embeddings(path)
    cameras = [str(camera) if camera >= 0 else '' for camera in table.camera_id.tolist()]
    return EmbeddingTable.from_columns(
        {'tracklet': table.tracklet.tolist(), 'camera': cameras}, table.embedding.astype(np.float32), table.fingerprint
    )
