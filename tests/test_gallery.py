"""Galleries: changes are atomic, also when killed; readers see whole states; what does not fit is refused."""

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('pyarrow')
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, write_embeddings
from pvlad_jax.gallery import local_store, manifest, segments
from pvlad_jax.gallery.change import change as changing
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.gallery import Gallery
from pvlad_jax.gallery.table_file import TableReader, write_table
from tests.helpers.small_galleries import found, holds, make, rows, sorted_by_cosine, write_rows

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def table(tmp_path):
    return lambda *args, **options: write_rows(tmp_path, *args, **options)


def test_many_small_additions_are_merged(tmp_path, table, monkeypatch):
    monkeypatch.setattr(local_store, '_MAX_SMALL', 3)
    gallery = make(tmp_path / 'g')
    for i in range(0, 14, 2):
        gallery.add(table(i, i + 2))
    assert len(gallery.state.segments) <= 3 and len(list((tmp_path / 'g/segments').iterdir())) <= 3
    assert found(gallery, rows(0, 3)) == sorted_by_cosine(rows(0, 14), rows(0, 3), 5)


def test_what_a_change_writes_grows_with_the_change(tmp_path, table, monkeypatch):
    """Segments have a largest size, and those that a change does not concern stay as they are, however many."""
    monkeypatch.setattr(segments, 'MAX_ROWS', 8)
    monkeypatch.setattr(local_store, '_SMALL', 4)
    monkeypatch.setattr(local_store, '_MAX_SMALL', 2)
    monkeypatch.setattr(TableReader, 'pieces', functools.partialmethod(TableReader.pieces, 3))
    gallery = make(tmp_path / 'g')
    gallery.add(table(0, 30))
    large = gallery.state.segments
    assert [segment.rows for segment in large] == [6] * 5
    for i in (30, 31):
        gallery.add(table(i, i + 1))
    assert gallery.state.segments[:5] == large and len(gallery.state.segments) == 7
    assert gallery.add(table(28, 33)).already_there == 4  # a third small one: they become one
    assert gallery.state.segments[:5] == large and [s.rows for s in gallery.state.segments[5:]] == [3]
    gallery.delete(['t7'])
    assert set(large) - set(gallery.state.segments) == {large[1]}
    expected = [[name for name in row if name != 't7'] for row in sorted_by_cosine(rows(0, 33), rows(0, 3), 40)]
    assert found(gallery, rows(0, 3), 40) == expected


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


@pytest.mark.parametrize(
    ('change', 'moment', 'left'),
    [
        ('add', 'commit', range(5)),  # all is written, and no state names it
        ('delete', 'commit', range(5)),
        ('delete', 'finish', (0, 2, 3, 4)),  # the new state stands, and the old files still lie there
    ],
)
def test_killed_during_a_change_is_the_old_state_or_the_new(change, moment, left, tmp_path, table):
    for i in range(8):
        (tmp_path / f'crops/t{i}').mkdir(parents=True)
        (tmp_path / f'crops/t{i}/1.png').write_bytes(f'crop of t{i}.'.encode())
    gallery, expected = make(tmp_path / 'g'), {f't{i}' for i in left}
    gallery.add(table(0, 5), tmp_path / 'crops')
    command = [
        sys.executable,
        '-c',
        KILLED,
        str(tmp_path / 'g'),
        moment,
        change,
        str(table(5, 8)),
        str(tmp_path / 'crops'),
    ]
    killed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True
    )
    assert killed.returncode == 9, killed.stderr
    query = EmbeddingTable.from_columns({'tracklet': ['q']}, rows(0, 1).embedding, 'm1')
    for name in ('gallery', 'unfinished'):
        (tmp_path / f'g/.{name}.json.1.partial').write_text('{')
    assert set(found(gallery, query, 9)[0]) == expected and gallery.info()['unfinished_change']
    with changing(gallery.folder, gallery.store):  # whatever change comes next clears up
        pass
    assert set(found(gallery, query, 9)[0]) == expected and not gallery.info()['unfinished_change']
    assert {p.name for p in (tmp_path / 'g/crops').iterdir()} == expected
    assert not list((tmp_path / 'g').glob('*.partial'))
    assert len(list((tmp_path / 'g/segments').iterdir())) == len(gallery.state.segments) == 1
    if 1 not in left:
        assert not holds(tmp_path / 'g', b'crop of t1.')
        assert not holds(tmp_path / 'g', segments.unit(rows(1, 2).embedding).tobytes())


def test_a_change_is_on_the_disk_before_the_state_names_it(tmp_path, table, monkeypatch):
    gallery, events = make(tmp_path / 'g'), []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, 'fsync', lambda handle: (events.append(os.readlink(f'/proc/self/fd/{handle}')), fsync(handle))
    )
    monkeypatch.setattr(
        os, 'replace', lambda old, new: (events.append(('replaced', str(old), str(new))), replace(old, new))
    )
    gallery.add(table(0, 3))
    folder, (segment,) = str(tmp_path / 'g'), gallery.state.segments
    renamed = next(e for e in events if e[0] == 'replaced' and e[2] == f'{folder}/gallery.json')
    before, after = events[: events.index(renamed)], events[events.index(renamed) :]
    files = [str(path) for path in (tmp_path / 'g/segments' / segment.name).iterdir()]
    assert {*files, f'{folder}/segments/{segment.name}', f'{folder}/segments', renamed[1]} <= set(before)
    assert folder in after


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
        gallery.delete([f't{path.stem[4:].split("-")[0]}'])
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
    with changing(gallery.folder, gallery.store), pytest.raises(UserError, match=r'Another process .* is changing'):
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
    write_embeddings(
        tmp_path / 'e.npz',
        Embeddings(
            embedding=vectors, person_id=np.array([1, 2]), camera_id=np.array([1, 2]), tracklet=np.array(['n1', 'n2'])
        ),
    )
    for name, says in (
        ('other.parquet', 'of the model m2'),
        ('short.parquet', '4 numbers'),
        ('e.npz', 'nothing says which model'),
    ):
        with pytest.raises(UserError, match=says):
            gallery.add(tmp_path / name)
    assert gallery.add(tmp_path / 'e.npz', fingerprint='m1').added == 2
    for queries, says in (
        (rows(0, 1, fingerprint='m2'), 'of the model m2'),
        (rows(0, 1, fingerprint=''), 'nothing says'),
    ):
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
    arrow = (segment / 'tracklets.arrow').read_bytes()
    offsets = np.cumsum([0, *(len(name) for name in rows(0, 5).names)]).astype(np.int32).tobytes()
    assert offsets in arrow  # of the names; Arrow reads whatever they point at
    for damaged in (
        b'',
        b'x' * 100,
        arrow[:-5],
        arrow[:300] + b'\xff' * 600 + arrow[900:],
        arrow.replace(offsets, offsets[:8] + b'\xff\xff\xff\x7f' + offsets[12:]),
        arrow.replace(offsets, offsets[:8] + b'\0\0\0\x80' + offsets[12:]),
    ):
        (segment / 'tracklets.arrow').write_bytes(damaged)
        with pytest.raises(UserError, match=r'is damaged.*tracklets.arrow cannot be read'):
            gallery.search(rows(0, 1))
    shutil.rmtree(segment)
    with pytest.raises(UserError, match=r'is damaged.*not there'):
        gallery.search(rows(0, 1))
    state = json.loads((tmp_path / 'g/gallery.json').read_text())
    for text, says in (
        ('{"format"', 'is damaged'),
        ('{}', 'is damaged'),
        ('[]', 'is damaged'),
        ('{"format": 99}', 'format version 99'),
        (json.dumps({**state, 'version': 'x'}), r'is damaged .* got `str` - at `\$\.version`'),
        (json.dumps({**state, 'index': []}), r'is damaged .* got `array` - at `\$\.index`'),
    ):
        (tmp_path / 'g/gallery.json').write_text(text)
        with pytest.raises(UserError, match=says):
            Gallery(tmp_path / 'g')


def test_a_state_reads_as_it_was_written(tmp_path):
    state = manifest.State('exact', 'm', 4, 3, 10, (manifest.Segment('1', 5),), {'a': 1}, {})
    manifest.commit(tmp_path, state)
    assert manifest.read_state(tmp_path) == state
