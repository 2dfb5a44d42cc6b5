"""Rows of a gallery on the disk: unit vectors to be mapped into memory, and their metadata as an Arrow file."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.sha256 import sha256_of
from pvlad_jax.gallery.manifest import Segment, State, sync
from pvlad_jax.gallery.metadata_columns import METADATA_SCHEMA
from pvlad_jax.gallery.removal import remove_all

# `id` numbers a row for good: what an index of FAISS calls it.
SCHEMA = METADATA_SCHEMA.append(pa.field('id', pa.int64()))
FILES = _VECTORS, _TRACKLETS = 'vectors.f32', 'tracklets.arrow'
_ROWS = 16_384  # copied at a time
MAX_ROWS = 65_536  # of a segment: what the deletion of one tracklet rewrites, 134 MB at 512 numbers

Rows = tuple[Float[np.ndarray, 'n E'], pa.Table]  # unit vectors, and a table of SCHEMA


def folder_of(gallery: Path, name: str) -> Path:
    return gallery / 'segments' / name


def write_segments(gallery: Path, name: str, pieces: Iterable[Rows]) -> tuple[Segment, ...]:
    """Writes segments that no state names yet, at most `MAX_ROWS` each; nothing is left of them where that fails.

    Args:
      name: of the first; the others are numbered.
      pieces: none of them empty; one that is larger than a segment is a segment of its own.
    """
    rest = _Rest(pieces)
    written: dict[str, Segment | None] = {}
    try:
        while rest:
            part = f'{name}.{len(written)}' if written else name
            written[part] = None  # named before it is written, so that it is removed where that fails
            written[part] = _write(folder_of(gallery, part), rest)
    except BaseException:
        for part in written:
            shutil.rmtree(folder_of(gallery, part), ignore_errors=True)
        raise
    return tuple(written.values())


def _write(folder: Path, rest: '_Rest') -> Segment:
    """Writes as many rows as go into a segment."""
    shutil.rmtree(folder, ignore_errors=True)  # of a change that was killed
    folder.mkdir(parents=True)
    n_rows = 0
    with (
        open(folder / _VECTORS, 'wb') as vectors,
        pa.OSFile(str(folder / _TRACKLETS), 'wb') as file,
        pa.ipc.new_file(file, SCHEMA) as tracklets,
    ):
        while rest and (not n_rows or n_rows + len(rest.next[0]) <= MAX_ROWS):
            unit, metadata = rest.take()
            vectors.write(np.ascontiguousarray(unit, np.float32))
            tracklets.write_table(metadata)
            n_rows += len(unit)
    for path in (folder / _VECTORS, folder / _TRACKLETS, folder, folder.parent):
        sync(path)
    return Segment(folder.name, n_rows, {name: sha256_of(folder / name) for name in FILES})


class _Rest:
    """Pieces that are still to be written, with a look at the next one. False where there is none."""

    def __init__(self, pieces: Iterable[Rows]):
        self._pieces = iter(pieces)
        self.next = next(self._pieces, None)

    def __bool__(self) -> bool:
        return self.next is not None

    def take(self) -> Rows:
        taken, self.next = self.next, next(self._pieces, None)
        return taken


class Contents:
    """The rows of a state, mapped into memory: files that are removed meanwhile stay readable here.

    vectors: of each segment, float32 unit vectors. metadata: of all rows, in their order.
    """

    def __init__(self, gallery: Path, state: State):
        self.vectors: list[Float[np.ndarray, '_ E']] = []
        tables = [SCHEMA.empty_table()]
        for segment in state.segments:
            folder = folder_of(gallery, segment.name)
            expected = segment.rows * state.size * 4
            if (found := (folder / _VECTORS).stat().st_size) != expected:
                raise UserError(
                    f'The gallery {gallery} is damaged: {folder / _VECTORS} has {found:,} bytes instead of '
                    f'{expected:,}. Restore it from a copy, or make the gallery again.'
                )
            self.vectors.append(np.memmap(folder / _VECTORS, np.float32, 'r', shape=(segment.rows, state.size)))
            try:
                table = pa.ipc.open_file(pa.memory_map(str(folder / _TRACKLETS))).read_all()
                table.validate(full=True)  # offsets within the file: Arrow crashes at others
                tables.append(table.cast(SCHEMA))
            except FileNotFoundError:  # a change has removed it meanwhile
                raise
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UserError(
                    f'The gallery {gallery} is damaged: {folder / _TRACKLETS} cannot be read ({error}). '
                    'Restore it from a copy, or make the gallery again.'
                ) from error
        self.metadata = pa.concat_tables(tables)
        if len(self.metadata) != state.rows:
            raise UserError(
                f'The gallery {gallery} is damaged: its files hold {len(self.metadata)} tracklets, '
                f'{state.rows} were written. Restore it from a copy, or make the gallery again.'
            )
        self.starts = np.cumsum([0, *(segment.rows for segment in state.segments)])

    def pieces(self, segment: int, rows: Int[np.ndarray, 'n'] | None = None) -> Iterator[Rows]:
        """A segment's rows, or those of them that are given by their number in it, some at a time."""
        start, end = self.starts[segment : segment + 2]
        numbers = np.arange(end - start) if rows is None else rows
        for i in range(0, len(numbers), _ROWS):
            chosen = numbers[i : i + _ROWS]
            yield self.vectors[segment][chosen], self.metadata.take(pa.array(start + chosen))


def sweep(gallery: Path, state: State) -> None:
    """Removes the segments and indices that the state does not name: leftovers of changes. Raises NotRemoved."""
    named = {segment.name for segment in state.segments}
    left = [path for path in (gallery / 'segments').glob('*') if path.name not in named]
    remove_all(left + [path for path in (gallery / 'index').glob('*') if path.name != state.index.get('file')])


def unit(vectors: Float[np.ndarray, 'n E']) -> Float[np.ndarray, 'n E']:
    """Vectors of length 1, the same whatever else is in the array. They must be finite and not zero.

    `evaluation.distances` has its own: it scales a block only where it must, so that a row's last bit depends on the
    others, and it imports JAX. Here equal tracklets are recognised by equal bytes.
    """
    result = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), 4096):  # bounds the temporaries in float64
        block = vectors[start : start + 4096]
        scaled = block / np.abs(block).max(axis=1, keepdims=True).astype(np.float64)  # no square leaves float64's range
        norm = np.sqrt(np.einsum('ne,ne->n', scaled, scaled))
        np.divide(scaled, norm[:, None], out=result[start : start + 4096], casting='same_kind')
    return result


def ids_to_rows(metadata: pa.Table, ids: Sequence[int] | Int[np.ndarray, '*n']) -> Int[np.ndarray, '*n']:
    """The rows of these ids; -1 for ids that are not there."""
    known = metadata['id'].to_numpy()
    order = np.argsort(known, kind='stable')
    place = np.searchsorted(known, ids, sorter=order)
    row = order[np.minimum(place, len(known) - 1)] if len(known) else np.full(np.shape(ids), -1)
    return np.where(known[row] == ids, row, -1) if len(known) else row
