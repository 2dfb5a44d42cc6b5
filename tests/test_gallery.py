"""Galleries: changes are atomic, what is deleted is gone from the disk, and search is a sort."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip('pyarrow')
from pvlad_jax.core.errors import UserError  # noqa: E402
from pvlad_jax.core.file_names import file_name  # noqa: E402
from pvlad_jax.evaluation import Embeddings, write_embeddings  # noqa: E402
from pvlad_jax.gallery import local_store, manifest, segments  # noqa: E402
from pvlad_jax.gallery.crops import stored_crops  # noqa: E402
from pvlad_jax.gallery.embedding_table import EmbeddingTable, write_table  # noqa: E402
from pvlad_jax.gallery.filters import Filters, seconds  # noqa: E402
from pvlad_jax.gallery.gallery import Gallery  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SIZE = 8
BACKENDS = [pytest.param({'backend': 'exact'}, id='exact'),
            pytest.param({'backend': 'faiss', 'kind': 'flat'}, id='faiss'),
            pytest.param({'backend': 'milvus'}, id='milvus')]


def rows(start: int, end: int, fingerprint: str = 'm1', seed: int = 0) -> EmbeddingTable:
    """Tracklets of three cameras and two sources, one second each."""
    numbers = range(start, end)
    vectors = np.stack([np.random.default_rng((seed, i)).standard_normal(SIZE) for i in numbers]).astype(np.float32)
    return EmbeddingTable.from_columns(
        {'tracklet': [f't{i}' for i in numbers], 'camera': [('a', 'b', '')[i % 3] for i in numbers],
         'source': [f'video{i // 10}' for i in numbers], 'start_seconds': [float(i) for i in numbers],
         'end_seconds': [i + 0.9 for i in numbers]}, vectors, fingerprint)


@pytest.fixture
def table(tmp_path):
    def write(*args, **options) -> Path:
        path = tmp_path / ('rows' + '-'.join(map(str, args)) + '.parquet')
        write_table(path, rows(*args, **options))
        return path
    return write


def make(folder: Path, backend: str = 'exact', **options) -> Gallery:
    if backend == 'faiss':
        pytest.importorskip('faiss')
    if backend == 'milvus':
        pytest.importorskip('milvus_lite')
        options = {'uri': str(folder.parent / 'milvus.db')}
    return Gallery.create(folder, 'm1', backend, **options)


def found(gallery: Gallery, queries: EmbeddingTable, k: int = 5, filters: Filters = Filters()) -> list[list[str]]:  # noqa: B008
    return [[hit['tracklet'] for hit in answer.hits] for answer in gallery.search(queries, k, filters)]


def sorted_by_cosine(stored: EmbeddingTable, queries: EmbeddingTable, k: int, keep=lambda query, row: True) -> list[list[str]]:
    """A plain sort, in float64."""
    q, g = (segments.unit(t.embedding).astype(np.float64) for t in (queries, stored))
    of_queries, of_rows = queries.metadata.to_pylist(), stored.metadata.to_pylist()
    result = []
    for query, similarity in zip(of_queries, q @ g.T):
        order = [i for i in np.argsort(-similarity, kind='stable') if keep(query, of_rows[i])]
        result.append([of_rows[i]['tracklet'] for i in order if of_rows[i]['tracklet'] != query['tracklet']][:k])
    return result


def holds(folder: Path, needle: bytes) -> list[str]:
    return [str(p) for p in folder.rglob('*') if p.is_file() and needle in p.read_bytes()]


FILTERS = [(Filters(), lambda q, r: True),
           (Filters(cameras=('a', '')), lambda q, r: r['camera'] in ('a', '')),
           (Filters(sources=('video1', '" or 1 == 1')), lambda q, r: r['source'] == 'video1'),
           (Filters(after=5.0, before=12.0), lambda q, r: r['end_seconds'] >= 5 and r['start_seconds'] <= 12),
           (Filters(other_camera=True), lambda q, r: r['camera'] != q['camera'] or not r['camera']),
           (Filters(other_source=True, cameras=('b',)), lambda q, r: r['camera'] == 'b' and r['source'] != q['source']),
           (Filters(cameras=('nowhere',)), lambda q, r: False)]


@pytest.mark.parametrize('options', BACKENDS)
def test_a_life(options, tmp_path, table):
    """Add, search, add again, delete: on every backend as in a plain list."""
    gallery = make(tmp_path / 'g', **options)
    with pytest.raises(UserError, match='is empty'):
        gallery.search(rows(0, 1))
    assert gallery.add(table(0, 20)).added == 20
    again = gallery.add(table(10, 30))  # half of it is there already
    assert (again.added, again.already_there) == (10, 10)
    assert gallery.add(table(10, 30)).added == 0 and gallery.info()['tracklets'] == 30
    queries = rows(5, 8)  # stored themselves
    for filters, keep in FILTERS:
        assert found(gallery, queries, 5, filters) == sorted_by_cosine(rows(0, 30), queries, 5, keep), filters
    hit = gallery.search(queries, 1)[0].hits[0]
    assert set(hit) == {'distance', *pa.schema(rows(0, 1).metadata.schema).names} and 0 < hit['distance'] < 2

    changed = rows(3, 4, seed=1)
    write_table(tmp_path / 'changed.parquet', changed)
    with pytest.raises(UserError, match="another tracklet of the name 't3'"):
        gallery.add(tmp_path / 'changed.parquet')
    with pytest.raises(UserError, match="no tracklet 'x'"):
        gallery.delete(['t1', 'x'])
    with pytest.raises(UserError, match="no tracklet of the source 'y'"):
        gallery.delete(['t1'], ['y'])
    assert gallery.info()['tracklets'] == 30

    gone = segments.unit(rows(4, 5).embedding).tobytes()
    assert holds(tmp_path, gone) and gallery.delete(['t4'], ['video1']) == 11
    left = [*range(4), *range(5, 10), *range(20, 30)]
    names = {f't{i}' for i in left}
    assert {name for row in found(gallery, queries, 40) for name in row} == names
    for number in (4, 10, 19):
        assert not holds(tmp_path / 'g', segments.unit(rows(number, number + 1).embedding).tobytes())
    if options['backend'] == 'milvus':
        assert not holds(tmp_path / 'milvus.db', gone)
        assert holds(tmp_path / 'milvus.db', segments.unit(rows(5, 6).embedding).tobytes())
    assert gallery.add(table(4, 5)).added == 1  # the name is free again
    assert found(gallery, queries, 40) == [[name for name in row if name in names | {'t4'}]
                                           for row in sorted_by_cosine(rows(0, 30), queries, 40)]


@pytest.mark.parametrize('n', [1, 5, 700])
def test_exact_search_is_a_stable_sort(n):
    from pvlad_jax.gallery.cosine_search import search

    rng = np.random.default_rng(n)
    stored = segments.unit(rng.integers(-2, 3, (n, 4)).astype(np.float32) + np.float32([0.1, 0, 0, 0]))  # many are equal
    queries = segments.unit(rng.standard_normal((9, 4)).astype(np.float32))
    allowed = rng.random((9, n)) < 0.7
    mask = rng.random(n) < 0.6
    parts = np.split(stored, [n // 3, n // 2])
    for k in (1, 7, 40):
        result, distances = search(queries, parts, k, rows=mask, allowed=lambda q, r: allowed[q, r])
        for query in range(9):
            distance = 1 - np.einsum('e,ne->n', queries[query].astype(np.float64), stored.astype(np.float64))
            order = np.lexsort((np.arange(n), np.maximum(distance, 0)))
            order = [i for i in order if mask[i] and allowed[query, i]][:k]
            assert result[query][:len(order)].tolist() == order and (result[query][len(order):] == -1).all()
            np.testing.assert_allclose(distances[query][:len(order)], np.maximum(distance[order], 0), atol=1e-15)


def test_blocks_and_order_change_nothing(monkeypatch):
    from pvlad_jax.gallery import cosine_search

    rng = np.random.default_rng(0)
    queries, stored = (segments.unit(rng.standard_normal((n, 16)).astype(np.float32)) for n in (6, 3000))
    stored = stored[np.argsort(stored @ queries[0])]  # the worst order: each block is nearer than the last
    whole = cosine_search.search(queries, [stored], 10)
    monkeypatch.setattr(cosine_search, '_MIN_ROWS', 64)
    monkeypatch.setattr(cosine_search, '_BLOCK_SCORES', 1)
    monkeypatch.setattr(cosine_search, '_MAX_QUERIES', 4)
    for a, b in zip(whole, cosine_search.search(queries, [stored], 10)):
        np.testing.assert_array_equal(a, b)


def test_replacing_takes_the_old_vector_from_the_disk(tmp_path, table):
    gallery = make(tmp_path / 'g')
    (tmp_path / 'crops/t3').mkdir(parents=True)
    (tmp_path / 'crops/t3/1.jpg').write_bytes(b'old')
    gallery.add(table(0, 10), tmp_path / 'crops')
    write_table(tmp_path / 'changed.parquet', rows(3, 5, seed=1))
    replaced = gallery.add(tmp_path / 'changed.parquet', replace=True)
    assert (replaced.added, replaced.replaced, gallery.info()['tracklets']) == (0, 2, 10)
    assert not holds(tmp_path / 'g', segments.unit(rows(3, 4).embedding).tobytes()) and not holds(tmp_path / 'g', b'old')
    assert found(gallery, EmbeddingTable.from_columns({'tracklet': ['q']}, rows(3, 4, seed=1).embedding, 'm1'), 1) == [['t3']]


def test_many_small_additions_are_merged(tmp_path, table, monkeypatch):
    monkeypatch.setattr(local_store, '_MAX_SEGMENTS', 3)
    gallery = make(tmp_path / 'g')
    for i in range(0, 14, 2):
        gallery.add(table(i, i + 2))
    assert len(gallery.state.segments) <= 3 and len(list((tmp_path / 'g/segments').iterdir())) <= 3
    assert found(gallery, rows(0, 3)) == sorted_by_cosine(rows(0, 14), rows(0, 3), 5)


def test_crops_come_and_go_with_their_tracklets(tmp_path, table):
    names = ['t0', '../../escape', 'a/b']
    pictures = tmp_path / 'crops'
    for folder in (pictures / 't0', pictures / file_name('../../escape'), pictures / 'a/b', tmp_path / 'secret'):
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f'{i:03}.jpg').write_bytes(b'JPEG of ' + folder.name.encode())
    vectors = rows(0, 3).embedding
    write_table(tmp_path / 'n.parquet', EmbeddingTable.from_columns({'tracklet': names}, vectors, 'm1'))
    gallery = make(tmp_path / 'g')
    gallery.add(tmp_path / 'n.parquet', pictures)
    assert [len(stored_crops(gallery.folder, name)) for name in names] == [8, 8, 8]
    assert {p.parent for p in (tmp_path / 'g/crops').rglob('*.jpg')} == {tmp_path / 'g/crops' / file_name(n) for n in names}
    assert gallery.delete(names[:2]) == 2
    assert not holds(tmp_path / 'g', b'escape') and not holds(tmp_path / 'g', b'JPEG of t0')
    assert len(stored_crops(gallery.folder, 'a/b')) == 8 and stored_crops(pictures, '../secret') == []
    with pytest.raises(UserError, match='no folder'):
        gallery.add(table(0, 3), tmp_path / 'nowhere')
    assert gallery.info()['tracklets'] == gallery.delete(['a/b']) == 1
    assert found(gallery, rows(0, 2)) == [[], []] and not list((tmp_path / 'g/crops').iterdir())


KILLED = """
import os, sys
from pvlad_jax.gallery import gallery, manifest
def die(*args): os._exit(9)
if sys.argv[2] == 'commit':
    manifest.commit = die
else:
    gallery.LocalStore.finish = die
g = gallery.Gallery(sys.argv[1])
if sys.argv[3] == 'add':
    g.add(sys.argv[4], sys.argv[5])
else:
    g.delete(['t1'])
"""


@pytest.mark.parametrize(('change', 'moment', 'left'), [
    ('add', 'commit', range(5)),  # all is written, and no state names it
    ('delete', 'finish', (0, 2, 3, 4))])  # the new state stands, and the old files still lie there
def test_killed_during_a_change_is_the_old_state_or_the_new(change, moment, left, tmp_path, table):
    for i in range(8):
        (tmp_path / f'crops/t{i}').mkdir(parents=True)
        (tmp_path / f'crops/t{i}/1.png').write_bytes(f'crop of t{i}.'.encode())
    gallery, expected = make(tmp_path / 'g'), {f't{i}' for i in left}
    gallery.add(table(0, 5), tmp_path / 'crops')
    command = [sys.executable, '-c', KILLED, str(tmp_path / 'g'), moment, change, str(table(5, 8)), str(tmp_path / 'crops')]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    query = EmbeddingTable.from_columns({'tracklet': ['q']}, rows(0, 1).embedding, 'm1')
    (tmp_path / 'g/.gallery.json.1.partial').write_text('{')
    assert set(found(gallery, query, 9)[0]) == expected and gallery.info()['unfinished_change']
    with gallery._change():  # whatever change comes next clears up
        pass
    assert set(found(gallery, query, 9)[0]) == expected and not gallery.info()['unfinished_change']
    assert {p.name for p in (tmp_path / 'g/crops').iterdir()} == expected and not list((tmp_path / 'g').glob('*.partial'))
    assert len(list((tmp_path / 'g/segments').iterdir())) == len(gallery.state.segments) == 1
    if change == 'delete':
        assert not holds(tmp_path / 'g', b'crop of t1.')
        assert not holds(tmp_path / 'g', segments.unit(rows(1, 2).embedding).tobytes())


def test_readers_during_changes_see_states_before_or_after(tmp_path, table):
    tables = [table(i, i + 4) for i in range(0, 20, 4)]
    gallery = make(tmp_path / 'g')
    gallery.add(tables[0])
    query = EmbeddingTable.from_columns({'tracklet': ['q']}, rows(0, 1).embedding, 'm1')
    stop, seen, errors = threading.Event(), set(), []

    def read():
        while not stop.is_set():
            try:
                seen.add(frozenset(found(Gallery(tmp_path / 'g'), query, 40)[0]))
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for path in tables[1:]:
        gallery.add(path)
        gallery.delete([json.loads(json.dumps(f't{int(path.stem[4:].split("-")[0])}'))])
    stop.set()
    reader.join()
    assert not errors
    states, names = set(), set()
    for start in range(0, 20, 4):
        names = names | {f't{i}' for i in range(start, start + 4)}
        states.add(frozenset(names))
        if start:
            names = names - {f't{start}'}
            states.add(frozenset(names))
    assert len(seen) > 1 and seen <= states


def test_a_second_writer_is_refused(tmp_path, table):
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 5))
    with gallery._change(), pytest.raises(UserError, match=r'Another process .* is changing'):
        Gallery(tmp_path / 'g').add(table(5, 6))
    assert Gallery(tmp_path / 'g').add(table(5, 6)).added == 1


@pytest.mark.parametrize('change', ['add', 'delete'])
def test_a_full_disk_loses_nothing(change, tmp_path, table, monkeypatch):
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 5))
    before = {p: p.read_bytes() for p in (tmp_path / 'g').rglob('*') if p.is_file() and p.name != '.lock'}

    def full(path):
        raise OSError(28, 'No space left on device', str(path))

    monkeypatch.setattr(segments, 'sync', full)
    with pytest.raises(UserError, match=r'No space left.*it is as it was'):
        gallery.add(table(5, 9)) if change == 'add' else gallery.delete(['t1'])
    assert {p: p.read_bytes() for p in (tmp_path / 'g').rglob('*') if p.is_file() and p.name != '.lock'} == before


def test_other_models_and_sizes_are_refused(tmp_path, table):
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 5))
    write_table(tmp_path / 'other.parquet', rows(7, 9, fingerprint='m2'))
    vectors = rows(7, 9).embedding
    write_table(tmp_path / 'short.parquet', EmbeddingTable.from_columns({'tracklet': ['x', 'y']}, vectors[:, :4], 'm1'))
    write_embeddings(tmp_path / 'e.npz', Embeddings(embedding=vectors, person_id=np.array([1, 2]), camera_id=np.array([1, 2]),
                                                    tracklet=np.array(['n1', 'n2'])))
    for name, says in (('other.parquet', 'of the model m2'), ('short.parquet', '4 numbers'), ('e.npz', 'nothing says which model')):
        with pytest.raises(UserError, match=says):
            gallery.add(tmp_path / name)
    assert gallery.add(tmp_path / 'e.npz', fingerprint='m1').added == 2
    for queries, says in ((rows(0, 1, fingerprint='m2'), 'of the model m2'), (rows(0, 1, fingerprint=''), 'nothing says')):
        with pytest.raises(UserError, match=says):
            gallery.search(queries)


def test_no_gallery_and_damaged_ones(tmp_path, table):
    with pytest.raises(UserError, match='is not a gallery'):
        Gallery(tmp_path / 'nowhere')
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 5))
    with pytest.raises(UserError, match='is a gallery already'):
        make(tmp_path / 'g')
    with pytest.raises(UserError, match='not empty'):
        make(tmp_path)
    segment = next((tmp_path / 'g/segments').iterdir())
    whole = (segment / 'vectors.f32').read_bytes()
    (segment / 'vectors.f32').write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r'is damaged.*bytes instead of'):
        gallery.search(rows(0, 1))
    (segment / 'vectors.f32').write_bytes(whole)
    (segment / 'tracklets.arrow').write_bytes(b'x' * 100)
    with pytest.raises(UserError, match='is damaged'):
        gallery.search(rows(0, 1))
    shutil.rmtree(segment)
    with pytest.raises(UserError, match=r'is damaged.*not there'):
        gallery.search(rows(0, 1))
    for text, says in (('{"format"', 'is damaged'), ('{}', 'is damaged'), ('{"format": 99}', 'format version 99')):
        (tmp_path / 'g/gallery.json').write_text(text)
        with pytest.raises(UserError, match=says):
            Gallery(tmp_path / 'g')


def test_ivfpq_rescores_exactly_forgets_what_is_deleted_and_finds_nearly_all(tmp_path, monkeypatch):
    from pvlad_jax.gallery import faiss_index
    monkeypatch.setattr(faiss_index, 'MIN_ROWS', 500)
    rng = np.random.default_rng(0)
    people = rng.standard_normal((60, 16))
    vectors = (np.repeat(people, 11, axis=0) + 0.3 * rng.standard_normal((660, 16))).astype(np.float32)
    names = [f't{i}' for i in range(660)]
    cameras = [str(i % 4) for i in range(660)]
    gallery = make(tmp_path / 'g', 'faiss', kind='ivfpq')
    for start, end in ((0, 300), (300, 600), (600, 660)):  # below the size of an index; trained; added to
        write_table(tmp_path / 't.parquet', EmbeddingTable.from_columns(
            {'tracklet': names[start:end], 'camera': cameras[start:end]}, vectors[start:end], 'm1'))
        gallery.add(tmp_path / 't.parquet')
        assert bool(gallery.state.index) == (end > 500)
    stored = EmbeddingTable.from_columns({'tracklet': names, 'camera': cameras}, vectors, 'm1')
    queries = EmbeddingTable.from_columns({'tracklet': [f'q{i}' for i in range(60)], 'camera': ['1'] * 60},
                                          people.astype(np.float32), 'm1')
    filters = Filters(other_camera=True)
    expected = sorted_by_cosine(stored, queries, 5, lambda q, r: r['camera'] != '1')
    answers = gallery.search(queries, 5, filters, probes=8, candidates=100)
    hits = [[hit['tracklet'] for hit in answer.hits] for answer in answers]
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(hits, expected)]) > 0.95
    unit = dict(zip(names, segments.unit(vectors).astype(np.float64)))
    for answer, query in zip(answers, segments.unit(queries.embedding).astype(np.float64)):
        for hit in answer.hits:
            assert abs(hit['distance'] - (1 - unit[hit['tracklet']] @ query)) < 1e-12
    gallery.delete(names[:11])
    index = faiss_index.read(gallery.folder, gallery.state.index)
    assert index.ntotal == 649 and len(list((tmp_path / 'g/index').iterdir())) == 1
    for i in range(11):
        assert not holds(tmp_path / 'g', segments.unit(vectors[i:i + 1]).tobytes())


def test_times_are_seconds_or_dates():
    assert seconds('12.5') == 12.5 and seconds('1970-01-02') == 86400 and seconds('1970-01-01T01:00+01:00') == 0
    with pytest.raises(ValueError):
        seconds('yesterday')
    with pytest.raises(UserError, match='No time'):
        Filters(after=5, before=4)


def test_a_state_reads_as_it_was_written(tmp_path):
    state = manifest.State('exact', 'm', 4, 3, 10, (manifest.Segment('1', 5),), {'a': 1}, {})
    manifest.commit(tmp_path, state)
    assert manifest.read_state(tmp_path) == state
