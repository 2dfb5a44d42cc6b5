"""Arguments of searches and deletions: lists of names, numbers of results, dates and times since a video began."""

import time

import numpy as np
import pytest

pytest.importorskip('pyarrow')
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.core import times
from pvlad_jax.core.errors import UserError
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.table_file import write_table
from tests.helpers.small_galleries import SIZE, found, make, rows

NOON = times.date('2026-11-25T12:00')


def timed() -> EmbeddingTable:
    """Seconds 0 to 9 of a video whose beginning is unknown, noon to nine seconds past it, and no time at all."""
    of_video, of_day = [float(i) for i in range(10)], [NOON + i for i in range(10)]
    start = [*of_video, *of_day, None]
    names = [*(f'video {i}' for i in range(10)), *(f'day {i}' for i in range(10)), 'unknown']
    vectors = np.random.default_rng(0).standard_normal((len(start), SIZE)).astype(np.float32)
    end = [None if s is None else s + 0.5 for s in start]
    return EmbeddingTable.from_columns({'tracklet': names, 'start_seconds': start, 'end_seconds': end}, vectors, 'm1')


@pytest.mark.parametrize('backend', ['exact', 'faiss', 'milvus'])
@pytest.mark.parametrize(
    ('filters', 'expected'),
    [
        ({'before': 2.0}, {'video 0', 'video 1', 'video 2'}),
        ({'after': 8.0}, {'video 8', 'video 9'}),
        ({'after': 3.0, 'before': 4.0}, {'video 3', 'video 4'}),
        ({'before': NOON + 1}, {'day 0', 'day 1'}),
        ({'after': NOON + 9}, {'day 9'}),
        ({'after': NOON - 60, 'before': NOON + 0.1}, {'day 0'}),
    ],
)
def test_times_since_a_video_began_and_since_1970_are_told_apart(backend, filters, expected, tmp_path):
    gallery = make(tmp_path / 'g', backend)
    write_table(tmp_path / 'timed.parquet', timed())
    gallery.add(tmp_path / 'timed.parquet')
    (names,) = found(gallery, rows(0, 1), 50, Filters(**filters))
    assert set(names) == expected


def test_times_of_two_kinds_in_one_search_are_refused():
    with pytest.raises(UserError, match='counts from the beginning of a source'):
        Filters(after=5.0, before=NOON)


def test_a_date_is_seconds_since_1970(monkeypatch):
    monkeypatch.setenv('TZ', 'JST-9')  # a date is UTC wherever the program runs
    time.tzset()
    assert times.seconds('2026-01-01T00:00:12.5') == times.date('2026-01-01') + 12.5 == 1_767_225_612.5
    assert times.seconds('2026-11-25T13:00+01:00') == NOON == times.seconds(str(NOON)) and times.seconds('3.5') == 3.5
    monkeypatch.undo()
    time.tzset()
    for text in ('1970-01-02', 'noon', 'nan', '2026-13-01'):
        with pytest.raises(ValueError, match=r'.'):
            times.seconds(text)


def test_results_show_the_kind_of_time(tmp_path, capsys):
    gallery = make(tmp_path / 'g')
    write_table(tmp_path / 'timed.parquet', timed())
    gallery.add(tmp_path / 'timed.parquet')
    write_table(tmp_path / 'q.parquet', rows(0, 1))
    assert (
        main(['gallery', 'search', f'--gallery={tmp_path / "g"}', f'--input={tmp_path / "q.parquet"}', '--k=21']) == 0
    )
    said = capsys.readouterr().out
    assert '3.0 s' in said and '2026-11-25 12:00:03' in said
    assert times.shown(1e300) == f'{1e300:.1f} s'


def test_a_single_name_is_not_a_list_of_letters(tmp_path):
    gallery = make(tmp_path / 'g')
    vectors = rows(0, 3).embedding
    write_table(
        tmp_path / 't.parquet',
        EmbeddingTable.from_columns({'tracklet': ['1', '2', '12'], 'source': ['a', 'b', 'ab']}, vectors, 'm1'),
    )
    gallery.add(tmp_path / 't.parquet')
    for wrong in ({'tracklets': '12'}, {'sources': 'ab'}):
        with pytest.raises(UserError, match='is a single name'):
            gallery.delete(**wrong)
    for field in ('cameras', 'sources'):
        with pytest.raises(UserError, match=rf"{field} = '12' is a single name.*\['12'\]"):
            Filters(**{field: '12'})
    with pytest.raises(UserError, match="tracklet is one value, 'ab'"):
        EmbeddingTable.from_columns({'tracklet': 'ab'}, vectors[:2])
    assert len(gallery) == 3
    assert gallery.delete(iter(['12'])) == 1 and found(gallery, rows(5, 6), 5, Filters(sources=['a'])) == [['1']]


@pytest.mark.parametrize('k', [0, -5])
def test_the_number_of_results_is_a_whole_number_from_1(tmp_path, k):
    gallery = make(tmp_path / 'g')
    write_table(tmp_path / 't.parquet', rows(0, 3))
    gallery.add(tmp_path / 't.parquet')
    with pytest.raises(UserError, match='whole number from 1'):
        gallery.search(rows(5, 6), k)
    assert len(gallery.search(rows(5, 6), np.int64(2))[0].hits) == 2


def test_whole_numbers_in_a_table_are_not_cut():
    vectors = rows(0, 1).embedding
    for wrong in ({'frames': [2.7]}, {'first_frame': [1.9]}):
        with pytest.raises(UserError, match=f'The column {next(iter(wrong))} is int'):
            EmbeddingTable.from_columns({'tracklet': ['a'], **wrong}, vectors)
    table = EmbeddingTable.from_columns({'tracklet': ['a'], 'frames': np.array([3.0]), 'first_frame': [2]}, vectors)
    assert table.metadata.to_pylist()[0]['frames'] == 3


def test_another_model_is_told_to_make_another_gallery(tmp_path):
    gallery = make(tmp_path / 'g')
    write_table(tmp_path / 't.parquet', rows(0, 3, fingerprint='m2'))
    with pytest.raises(UserError, match='make another gallery for this one'):
        gallery.add(tmp_path / 't.parquet')
