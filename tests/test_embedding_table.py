"""The Parquet table of embeddings: what is written is what is read; what no search could rank is refused."""

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import file_name
from pvlad_jax.evaluation import Embeddings, write_embeddings

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')
from pvlad_jax.gallery.embedding_table import EmbeddingTable  # noqa: E402
from pvlad_jax.gallery.table_file import TableReader, TableWriter, read_table, schema, write_table  # noqa: E402


def table(n: int = 5, size: int = 4, start: int = 0, fingerprint: str = 'm1', **columns) -> EmbeddingTable:
    vectors = np.random.default_rng(start).standard_normal((n, size)).astype(np.float32)
    names = [f't{start + i}' for i in range(n)]
    return EmbeddingTable.from_columns({'tracklet': names, **columns}, vectors, fingerprint)


def test_what_is_written_is_read(tmp_path):
    written = table(
        3,
        source=['a', '../b', '<script>'],
        camera=['1', '', 'Tür'],
        first_frame=[0, 5, -1],
        last_frame=[9, 5, -1],
        frames=[10, 1, 0],
        start_seconds=[0.0, 1.5, float('nan')],
        end_seconds=[0.5, 1.5, None],
    )
    write_table(tmp_path / 't.parquet', written)
    read = read_table(tmp_path / 't.parquet')
    assert read.metadata == written.metadata and read.fingerprint == 'm1'
    assert read.metadata['start_seconds'].to_pylist() == [0.0, 1.5, None]
    np.testing.assert_array_equal(read.embedding, written.embedding)


def test_pieces_make_up_the_whole(tmp_path):
    with TableWriter(tmp_path / 't.parquet', 4, 'm1') as writer:
        for start in (0, 3, 6):
            writer.write(table(3, start=start))
        with pytest.raises(UserError, match="'t3' occurs twice"):
            writer.write(table(1, start=3))
    whole = read_table(tmp_path / 't.parquet')
    assert whole.names == [f't{i}' for i in range(9)]
    pieces = list(TableReader(tmp_path / 't.parquet').pieces(2))
    np.testing.assert_array_equal(np.concatenate([piece.embedding for piece in pieces]), whole.embedding)
    twice = pa.concat_tables([pq.read_table(tmp_path / 't.parquet')] * 2)
    pq.write_table(twice, tmp_path / 'twice.parquet')
    with pytest.raises(UserError, match="'t0' occurs twice"):
        list(TableReader(tmp_path / 'twice.parquet').pieces(9))


def test_reading_holds_a_piece_and_not_what_was_read(tmp_path):
    with TableWriter(tmp_path / 't.parquet', 256, 'm1') as writer:
        for start in range(0, 20_000, 1000):
            writer.write(table(1000, 256, start))
    before, held = pa.total_allocated_bytes(), []
    for _ in TableReader(tmp_path / 't.parquet').pieces(500):
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == 40 and max(held) < 5 * 2**20 < (tmp_path / 't.parquet').stat().st_size / 3


def test_a_table_that_was_not_finished_leaves_the_old_one(tmp_path):
    write_table(tmp_path / 't.parquet', table(2))
    with pytest.raises(KeyError), TableWriter(tmp_path / 't.parquet', 4, 'm1') as writer:
        writer.write(table(3, start=9))
        raise KeyError
    assert read_table(tmp_path / 't.parquet').names == ['t0', 't1']
    assert [path.name for path in tmp_path.iterdir()] == ['t.parquet']


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'embedding': np.full((2, 4), np.nan, np.float32)}, 'NaN or Inf'),
        ({'embedding': np.zeros((2, 4), np.float32)}, 'all zeros'),
        ({'embedding': np.ones((3, 4), np.float32)}, 'embedding must be'),
        ({'embedding': np.ones((2, 4), int)}, 'embedding must be'),
        ({'tracklet': ['a', 'a']}, "'a' occurs twice"),
        ({'tracklet': ['a', '']}, 'no name'),
        ({'tracklet': ['a', 'b' * 1001]}, 'row 1 has a name of 1,001 .* more than 1000. Shorten it: .bbb'),
        ({'tracklet': ['a', '\ud800']}, 'tracklet is string'),
        ({'start_seconds': [None, np.inf]}, "start_seconds of 'b' is infinite"),
        ({'end_seconds': [-np.inf, 2]}, "end_seconds of 'a' is infinite"),
        ({'frames': [1]}, 'has 1 values'),
        ({'frames': ['x', 'y']}, 'frames is int32'),
        ({'colour': [1, 2]}, 'has the columns'),
    ],
)
def test_bad_rows_are_refused(change, says):
    columns = {'tracklet': ['a', 'b'], 'embedding': np.ones((2, 4), np.float32), **change}
    with pytest.raises(UserError, match=says):
        EmbeddingTable.from_columns(columns, columns.pop('embedding'))


def test_numbers_beyond_float32_are_refused_without_a_warning(tmp_path, recwarn):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 1e300]), 2)
    pq.write_table(pa.table({'tracklet': ['a'], 'embedding': vectors}), tmp_path / 't.parquet')
    with pytest.raises(UserError, match="the embedding of 'a' holds NaN or Inf"):
        read_table(tmp_path / 't.parquet')
    assert not recwarn.list


def test_other_sizes_and_models_are_refused(tmp_path):
    with TableWriter(tmp_path / 't.parquet', 4, 'm1') as writer:
        with pytest.raises(UserError, match='5 numbers where 4'):
            writer.write(table(size=5))
        with pytest.raises(UserError, match='of the model m2, not of m1'):
            writer.write(table(fingerprint='m2'))


def test_files_that_are_no_such_table_are_refused(tmp_path):
    (tmp_path / 'text').write_text('no')
    write_table(tmp_path / 'whole', table())
    (tmp_path / 'cut').write_bytes((tmp_path / 'whole').read_bytes()[:-20])
    pq.write_table(pa.table({'x': [1]}), tmp_path / 'other')
    pq.write_table(schema(4, '').empty_table(), tmp_path / 'empty')
    pq.write_table(schema(4, '').empty_table().replace_schema_metadata({b'pvlad_format': b'9'}), tmp_path / 'later')
    for name, says in (
        ('none', 'There is no file'),
        ('text', 'not a readable'),
        ('cut', 'not a readable'),
        ('other', 'not a table of'),
        ('empty', 'is empty'),
        ('later', 'format version 9'),
    ):
        with pytest.raises(UserError, match=says):
            read_table(tmp_path / name)


def test_the_npz_of_an_evaluation_is_read_too(tmp_path):
    vectors = np.ones((2, 3), np.float32)
    write_embeddings(
        tmp_path / 'e.npz',
        Embeddings(
            embedding=vectors, person_id=np.array([1, 2]), camera_id=np.array([-1, 0]), tracklet=np.array(['a', 'b'])
        ),
    )
    read = read_table(tmp_path / 'e.npz')
    assert read.names == ['a', 'b'] and read.metadata['camera'].to_pylist() == ['', '0'] and read.fingerprint == ''


def test_what_other_programs_leave_out_is_unknown(tmp_path):
    columns = {
        'tracklet': ['a', 'b'],
        'start_seconds': [float('nan'), 2.0],
        'frames': pa.array([None, 3], pa.int64()),
        'camera': [None, 'c'],
        'embedding': pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2)),
    }
    pq.write_table(pa.table(columns), tmp_path / 't.parquet')
    a, b = read_table(tmp_path / 't.parquet').metadata.to_pylist()
    assert (a['start_seconds'], a['frames'], a['camera'], a['last_frame']) == (None, -1, '', -1)
    assert (b['start_seconds'], b['frames'], b['camera']) == (2.0, 3, 'c')


def test_names_become_files_of_one_folder_each_its_own():
    names = ['a', 'A b', '../../etc/passwd', '/abs', '.', '..', '.hidden', 'a/b', 'a%2Fb', '<script>', 'a~b', '']
    names += ['Ö' * 400, 'Ö' * 401, 'x' * 900, '\x00', 'nul\n', file_name('x' * 900)]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all('/' not in f and not f.startswith('.') and 0 < len(f.encode()) <= 150 and f.isprintable() for f in files)


def test_columns_twice_and_names_that_are_no_text(tmp_path):
    vectors = pa.array([[1.0, 0.0]], pa.list_(pa.float32(), 2))
    twice = pa.Table.from_arrays([pa.array(['a']), vectors, pa.array(['s']), pa.array(['t'])],
                                 ['tracklet', 'embedding', 'source', 'source'])  # fmt: skip
    pq.write_table(twice, tmp_path / 't.parquet')
    with pytest.raises(UserError, match='has the column source more than once'):
        read_table(tmp_path / 't.parquet')
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b'\xff\xfe'))
    good = pa.array(['a'])
    for tracklet, source in ((bad, good), (good, bad)):
        pq.write_table(pa.table({'tracklet': tracklet, 'source': source, 'embedding': vectors}), tmp_path / 't.parquet')
        with pytest.raises(UserError, match='not a readable Parquet file'):
            read_table(tmp_path / 't.parquet')
