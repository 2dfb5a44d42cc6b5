"""Every backend does what a plain list does, and the index of FAISS finds nearly all."""

import os
import uuid

import numpy as np
import pytest

pa = pytest.importorskip('pyarrow')
from pvlad_jax.core.errors import UserError  # noqa: E402
from pvlad_jax.gallery import manifest, milvus_collection, segments  # noqa: E402
from pvlad_jax.gallery.embedding_table import EmbeddingTable  # noqa: E402
from pvlad_jax.gallery.filters import Filters  # noqa: E402
from pvlad_jax.gallery.milvus_store import MilvusStore  # noqa: E402
from pvlad_jax.gallery.table_file import write_table  # noqa: E402
from tests.helpers.small_galleries import found, holds, make, rows, sorted_by_cosine, write_rows  # noqa: E402

BACKENDS = [
    pytest.param({'backend': 'exact'}, id='exact'),
    pytest.param({'backend': 'faiss', 'kind': 'flat'}, id='faiss'),
    pytest.param({'backend': 'milvus'}, id='milvus'),
    pytest.param(
        {'backend': 'milvus', 'uri': os.environ.get('MILVUS_TEST_URI')},
        id='milvus_server',
        marks=pytest.mark.skipif(
            'MILVUS_TEST_URI' not in os.environ, reason='needs a Milvus server: set MILVUS_TEST_URI=http://HOST:PORT'
        ),
    ),
]
FILTERS = [
    (Filters(), lambda q, r: True),
    (Filters(cameras=('a', '')), lambda q, r: r['camera'] in ('a', '')),
    (Filters(sources=('video1', '" or 1 == 1')), lambda q, r: r['source'] == 'video1'),
    # The first one ends at this very moment, the last one begins at it.
    (Filters(after=5.9, before=12.0), lambda q, r: r['end_seconds'] >= 5.9 and r['start_seconds'] <= 12),
    # A date is none of these times, which count from the beginning of a source.
    (Filters(before=1.7e9), lambda q, r: False),
    (Filters(after=1.7e9), lambda q, r: False),
    (Filters(other_camera=True), lambda q, r: r['camera'] != q['camera'] or not r['camera']),
    (Filters(other_source=True, cameras=('b',)), lambda q, r: r['camera'] == 'b' and r['source'] != q['source']),
    (Filters(cameras=('nowhere',)), lambda q, r: False),
]


@pytest.fixture
def table(tmp_path):
    return lambda *args, **options: write_rows(tmp_path, *args, **options)


@pytest.mark.parametrize('backend', ['exact', 'flat', 'ivfpq', 'milvus'])
def test_more_results_than_there_are_rows_take_no_more_memory(backend, tmp_path, table, monkeypatch):
    many = 10**12  # numbers that no machine has room for
    if faiss := backend in ('flat', 'ivfpq'):
        pytest.importorskip('faiss')
        from pvlad_jax.gallery import faiss_index

        monkeypatch.setattr(faiss_index, 'MIN_ROWS', 30)
    gallery = make(tmp_path / 'g', 'faiss' if faiss else backend, **({'kind': backend} if faiss else {}))
    gallery.add(table(0, 300 if backend == 'ivfpq' else 20))
    stored = rows(0, 300 if backend == 'ivfpq' else 20)
    queries = rows(5, 8)
    effort = {'candidates': many, 'probes': 1000} if backend == 'ivfpq' else {}
    answers = gallery.search(queries, many, **effort)
    assert [[hit['tracklet'] for hit in a.hits] for a in answers] == sorted_by_cosine(stored, queries, 300)
    assert found(gallery, queries, many, Filters(cameras=('nowhere',))) == [[], [], []]
    gallery.delete(stored.names)
    with pytest.raises(UserError, match='is empty'):
        gallery.search(queries, many)


@pytest.mark.parametrize('options', BACKENDS)
def test_a_life(options, tmp_path, table):
    """Add, search, add again, delete: on every backend as in a plain list."""
    if 'uri' in options:
        options = {**options, 'collection': f'test_{uuid.uuid4().hex}'}
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
    assert 'uri' in options or holds(tmp_path, gone)  # the files of a server are its own
    assert gallery.delete(['t4'], ['video1']) == 11
    left = [*range(4), *range(5, 10), *range(20, 30)]
    names = {f't{i}' for i in left}
    assert {name for row in found(gallery, queries, 40) for name in row} == names
    for number in (4, 10, 19):
        assert not holds(tmp_path / 'g', segments.unit(rows(number, number + 1).embedding).tobytes())
    if options == {'backend': 'milvus'}:
        assert not holds(tmp_path / 'milvus.db', gone)
        assert holds(tmp_path / 'milvus.db', segments.unit(rows(5, 6).embedding).tobytes())
    assert gallery.add(table(4, 5)).added == 1  # the name is free again
    if options['backend'] == 'milvus':
        with pytest.raises(UserError, match='nothing to verify'):
            gallery.verify()
    else:
        assert not gallery.verify().without
    assert found(gallery, queries, 40) == [
        [name for name in row if name in names | {'t4'}] for row in sorted_by_cosine(rows(0, 30), queries, 40)
    ]


def test_milvus_counts_no_rows_of_a_killed_addition_and_serves_the_next_process(tmp_path, table, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    gallery = make(tmp_path / 'g', 'milvus')
    for start in (0, 20):  # into an empty collection, and into one that holds rows
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(manifest, 'commit', killed)
            patch.setattr(MilvusStore, 'recover', lambda *_: None)
            gallery.add(table(start, start + 15))
        added = gallery.add(table(start, start + 20))
        assert (added.added, added.already_there, len(gallery)) == (20, 0, start + 20)
    with milvus_collection.connected(gallery.state) as client:
        client.release_collection(milvus_collection.collection_of(gallery.state))  # as when its process has ended
    assert len(found(gallery, rows(0, 1), 50)[0]) == 39


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
        write_table(
            tmp_path / 't.parquet',
            EmbeddingTable.from_columns(
                {'tracklet': names[start:end], 'camera': cameras[start:end]}, vectors[start:end], 'm1'
            ),
        )
        gallery.add(tmp_path / 't.parquet')
        assert bool(gallery.state.index) == (end > 500)
    stored = EmbeddingTable.from_columns({'tracklet': names, 'camera': cameras}, vectors, 'm1')
    queries = EmbeddingTable.from_columns(
        {'tracklet': [f'q{i}' for i in range(60)], 'camera': ['1'] * 60}, people.astype(np.float32), 'm1'
    )
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
        assert not holds(tmp_path / 'g', segments.unit(vectors[i : i + 1]).tobytes())


def test_filters_of_ivfpq_hold_for_rows_that_were_added_later(tmp_path, table, monkeypatch):
    """FAISS reads no bit behind those that say which rows may be found: here all of them would allow a row."""
    from pvlad_jax.gallery import faiss_index

    pack = np.packbits

    def packed(*args, **options):
        bits = pack(*args, **options)
        return np.concatenate([bits, np.full(8 * len(bits), 255, np.uint8)])[: len(bits)]

    monkeypatch.setattr(faiss_index, 'MIN_ROWS', 300)
    gallery = make(tmp_path / 'g', 'faiss', kind='ivfpq')
    for start in (0, 150, 300):
        gallery.add(table(start, start + 150))
    monkeypatch.setattr(np, 'packbits', packed)
    stored, queries = rows(0, 450), rows(5, 8)
    for filters, keep in FILTERS:
        everything = gallery.search(queries, 500, filters, probes=1000, candidates=1000)
        names = [[hit['tracklet'] for hit in answer.hits] for answer in everything]
        assert names == sorted_by_cosine(stored, queries, 500, keep), filters
