"""Mistakes in the commands of galleries and thresholds: one sentence, exit code 2, and nothing changed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip('pyarrow')
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.evaluation import Embeddings, read_embeddings, write_embeddings
from pvlad_jax.evaluation.calibration import calibrate
from pvlad_jax.evaluation.threshold import read_calibration
from pvlad_jax.gallery.caption_font import caption_font, drawable
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.gallery import Gallery
from pvlad_jax.gallery.result_sheet import draw_sheet
from pvlad_jax.gallery.table_file import write_table
from tests.helpers.broken_stream import Broken
from tests.helpers.pictures import deep, exif, saved
from tests.helpers.small_galleries import make, rows, write_rows

ROOT = Path(__file__).resolve().parents[1]
MODEL = '1f' * 32  # a fingerprint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a gallery `g` of t0 to t19, queries `q.parquet` and labelled embeddings `e.npz`."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'g').add(write_rows(tmp_path, 0, 20))
    write_rows(tmp_path, 30, 32).rename('q.parquet')
    people = np.arange(40) // 2 + 1
    write_embeddings(
        tmp_path / 'e.npz',
        Embeddings(
            embedding=np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32),
            person_id=people,
            camera_id=np.arange(40) % 2,
            tracklet=np.array([f'e{i}' for i in range(40)]),
        ),
    )
    (tmp_path / 'folder.json').mkdir()
    (tmp_path / 'text.json').write_text('no')
    return tmp_path


SEARCH = 'gallery search --gallery=g --input=q.parquet'
CALIBRATE = 'calibrate --query=e.npz --gallery=e.npz --false_accept_rate=0.1 --resamples=5 --output=t.json'


@pytest.mark.parametrize(
    ('command', 'says'),
    [
        ('gallery', 'create|add|search|delete|info|verify'),
        ('gallery create --gallery=new --model=demoo', 'There is no folder demoo, and it is no fingerprint'),
        (f'gallery create --gallery=new --model={MODEL[1:]}', 'no fingerprint (64 hexadecimal digits'),
        (f'gallery create --gallery=new --model={MODEL.upper()}', 'no fingerprint (64 hexadecimal digits'),
        ('gallery create --gallery=new --model=~nobody-of-this-name', 'there is no home folder of that name'),
        ('gallery add --gallery=g --input=q.parquet --model=demoo', 'There is no folder demoo'),
        ('gallery search --gallery=g --input=q.parquet --model=m1', 'There is no folder m1'),
        (f'{CALIBRATE} --model=nonsense', 'There is no folder nonsense'),
        ('calibrate --query=e.npz --gallery=e.npz --model=~nobody-of-this-name', 'no home folder of that name'),
        ('calibrate --query=e.npz --gallery=e.npz --model=gs://bucket/run', 'Say where to write it'),
        ('gallery verify --gallery=nowhere', 'is not a gallery'),
        ('gallery info --gallery=', 'the path is empty'),
        ('gallery info --gallery=nowhere', 'is not a gallery'),
        ('gallery info --gallery=q.parquet', 'is not a gallery'),
        ('gallery add --gallery=g --input=none.parquet', 'There is no file'),
        ('gallery add --gallery=g --input=text.json', 'not a readable Parquet file'),
        ('gallery add --gallery=g --input=folder.json', 'There is no file'),
        ('gallery add --gallery=g --input=q.parquet --crops=nowhere', 'no folder'),
        (f'{SEARCH} --probes=8', 'has no probes. Leave --probes out'),
        (f'{SEARCH} --candidates=8', 'has no candidates. Leave --candidates out'),
        (f'{SEARCH} --k=0', 'not a whole number from 1'),
        (f'{SEARCH} --after=nan', 'neither seconds nor a date'),
        (f'{SEARCH} --after=2026-13-01', 'neither seconds nor a date'),
        (f'{SEARCH} --after=5 --before=4', 'No time'),
        (f'{SEARCH} --after=5 --before=2026-11-25', 'Give two dates'),
        (f'{SEARCH} --after=1970-01-02', 'from 1973 on'),
        (f'{SEARCH} --threshold=none.json', 'There is no file'),
        (f'{SEARCH} --threshold=folder.json', 'There is no file'),
        (f'{SEARCH} --threshold=text.json', 'is not a threshold'),
        (f'{SEARCH} --output=r.txt', 'must end in .json or .png'),
        (f'{SEARCH} --output=folder.json', 'is a folder'),
        (f'{SEARCH} --output=text.json/r.json', 'cannot be written'),
        (f'{SEARCH} --output=r.png --query_crops=nowhere', 'There is no folder'),
        (f'{SEARCH} --query_crops=.', 'give --output=FILE.png too'),
        ('gallery create --gallery=new --uri=m.db', 'Give --backend=milvus'),
        ('gallery create --gallery=new --backend=milvus --kind=flat', 'Give --backend=faiss'),
        ('gallery delete --gallery=g', 'Say what to delete'),
        ('gallery delete --gallery=g --tracklet=x', 'no tracklet'),
        ('gallery delete --gallery=g --source=', 'source is unknown'),
        ('gallery delete --gallery=g --source=a\udcff', r"'a\udcff' has bytes that are not UTF-8"),
        ('gallery delete --gallery=g --tracklet=a\udcff', 'bytes that are not UTF-8'),
        (f'{SEARCH} --camera=a\udcff', 'bytes that are not UTF-8'),
        (f'{SEARCH} --source=a\udcff', 'bytes that are not UTF-8'),
        (f'{CALIBRATE} --false_accept_rate=-1', 'Rates are'),
        (f'{CALIBRATE} --seed=-1', 'not a whole number from 0'),
        (f'{CALIBRATE} --output=folder.json', 'is a folder'),
        (f'{CALIBRATE} --curves=c.txt', 'must end in .png'),
        (f'{CALIBRATE} --query=q.parquet', 'q.parquet is a Parquet table, not an .npz file. Labelled embeddings'),
    ],
)
def test_a_mistake_is_one_sentence(folder, command, says, capsys):
    before = {p: p.read_bytes() for p in folder.rglob('*') if p.is_file() and p.name != '.lock'}
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith('Error: ') and says in error and error.count('\n') == 1
    assert {p: p.read_bytes() for p in folder.rglob('*') if p.is_file() and p.name != '.lock'} == before


CONDITIONS = {
    '--camera=a': {'cameras': ('a',)},
    '--source=video1': {'sources': ('video1',)},
    '--after=5': {'after': 5.0},
    '--before=5': {'before': 5.0},
    '--other_camera': {'other_camera': True},
    '--other_source': {'other_source': True},
}


@pytest.mark.parametrize(('option', 'fields'), CONDITIONS.items())
def test_each_condition_reaches_the_search(folder, option, fields):
    write_table('q.parquet', rows(0, 3))
    assert main([*SEARCH.split(), option, '--k=20', '--output=r.json']) == 0
    answers = Gallery(folder / 'g').search(rows(0, 3), 20, Filters(**fields))
    assert [answer['hits'] for answer in json.loads((folder / 'r.json').read_text())] == [
        [{'decision': '', **hit} for hit in answer.hits] for answer in answers
    ]


def test_a_sheet_says_rank_distance_and_camera(folder, monkeypatch):
    drawn, text = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, 'text', lambda self, xy, line, **style: (drawn.append(line), text(self, xy, line, **style))
    )
    assert main([*SEARCH.split(), '--k=2', '--output=r.png']) == 0
    expected = []
    for answer in Gallery(folder / 'g').search(rows(30, 32), 2):
        expected += [answer.query, '']
        for rank, hit in enumerate(answer.hits, start=1):
            camera = f'camera {hit["camera"]}' if hit['camera'] else ''
            expected += [f'{rank}: {hit["tracklet"]}', f'{hit["distance"]:.3f}', camera]
    assert drawn == expected


def test_a_sheet_tells_names_of_any_script_apart():
    font = caption_font(10)
    for name in ('ü b', 'Ä', 'straße', 'søren', 'łódź', 'Пётр'):
        assert drawable(name, font) == name and bytes(font.getmask('ü')) != bytes(font.getmask('ö'))
    assert drawable('李 1', font) == '\\u674e 1'


def test_a_sheet_shows_pictures_as_all_commands_read_them(tmp_path):
    upright = np.zeros((96, 48, 3), np.uint8)
    upright[:48], upright[48:] = (255, 0, 0), (0, 0, 255)
    grey = np.repeat(np.linspace(0, 65535, 96).astype(np.uint16)[:, None], 48, 1)
    contents = {
        'turned': saved('jpeg', Image.fromarray(np.rot90(upright)), exif=exif(6)),
        'deep': deep('png', grey),
        'cut': saved('jpeg')[:-40],
    }
    for name, content in contents.items():
        (tmp_path / f'{name}.jpg').write_bytes(content)
    row = {'query': 'q', 'decision': '', 'hits': []}
    draw_sheet(tmp_path / 's.png', [row], list, lambda name: [tmp_path / f'{name}.jpg' for name in contents])
    shown = np.asarray(Image.open(tmp_path / 's.png')).astype(int)[13 : 13 + 96, 13 : 13 + 3 * 48]
    assert np.abs(shown[:, :48] - upright).max() < 20
    assert np.abs(shown[:, 48:96, 0] - (grey >> 8)).max() < 3
    assert (shown[:, 96:] == 215).all()  # the damaged one is left out


def test_the_table_on_the_terminal_has_the_nearest_first(folder, capsys):
    assert main([*SEARCH.split(), '--k=2']) == 0
    said = capsys.readouterr().out
    for answer in Gallery(folder / 'g').search(rows(30, 32), 2):
        for rank, hit in enumerate(answer.hits, start=1):
            assert re.search(rf'\b{rank}\W+{hit["tracklet"]}\W+{hit["distance"]:.4f}', said)


@pytest.mark.parametrize(
    ('option', 'fields'),
    [
        ('--nobody_miss_rate=0.3', {'nobody_miss_rate': 0.3}),
        ('--false_accept_rate=0.2', {'false_accept_rate': 0.2}),
        ('--per=search --false_accept_rate=0.2', {'per': 'search', 'false_accept_rate': 0.2}),
        ('--resamples=6', {'resamples': 6}),
        ('--seed=1', {'seed': 1}),
    ],
)
def test_each_option_of_calibrate_reaches_the_threshold(folder, option, fields):
    assert main([*CALIBRATE.split(), *option.split()]) == 0
    embeddings = read_embeddings(folder / 'e.npz')
    plain = {'false_accept_rate': 0.1, 'resamples': 5}
    expected, other = (calibrate(embeddings, embeddings, **{**plain, **more}) for more in (fields, {}))
    assert read_calibration(folder / 't.json') == expected != other


@pytest.mark.parametrize(('model', 'noted'), [('', True), (f'--model={MODEL}', False)])
def test_a_threshold_of_an_unknown_model_is_said(folder, capsys, model, noted):
    make(folder / 'other', fingerprint=MODEL).add(write_rows(folder, 0, 20, fingerprint=MODEL))
    write_rows(folder, 30, 32, fingerprint=MODEL).rename('other.parquet')
    search = SEARCH.replace('=g', '=other').replace('=q', '=other')
    assert main([*CALIBRATE.split(), *model.split()]) == 0
    assert main([*search.split(), '--threshold=t.json', '--output=r.json']) == 0
    assert ('nothing says whether the threshold is of the model' in capsys.readouterr().err) == noted


def test_a_camera_that_is_not_there_is_said(folder, capsys):
    assert main([*SEARCH.split(), '--camera=dor', '--output=r.json']) == 0
    assert 'no stored tracklet meets these conditions' in capsys.readouterr().err
    assert [answer['hits'] for answer in json.loads((folder / 'r.json').read_text())] == [[], []]


@pytest.mark.parametrize(
    ('library', 'file', 'command'),
    [
        ('pyarrow', 'use', 'gallery info --gallery=g'),
        ('matplotlib', 'use', f'{CALIBRATE} --curves=c.png'),
        ('faiss', 'search', 'gallery create --gallery=new --backend=faiss'),
        ('pymilvus', 'search', 'gallery create --gallery=new --backend=milvus --uri=m.db'),
    ],
)
def test_a_missing_library_is_one_sentence_before_any_work(folder, library, file, command):
    code = (
        f'import sys; sys.modules[{library!r}] = None; from pvlad_jax.commands.dispatcher import main; '
        f'sys.exit(main({command.split()}))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True, capture_output=True
    )
    assert done.returncode == 2 and f'requirements-{file}.txt' in done.stderr and done.stderr.count('\n') == 1
    assert not (folder / 't.json').exists() and not (folder / 'new').exists()


def test_a_reader_that_leaves_does_not_end_the_command(folder):
    command = f'{sys.executable} -m pvlad_jax {SEARCH} --k=20 | head -1'
    done = subprocess.run(
        ['bash', '-c', f'set -o pipefail; {command}'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize('command', [f'{SEARCH} --k=1', 'gallery info --gallery=g', 'gallery verify --gallery=g'])
@pytest.mark.parametrize(
    ('error', 'code'),
    [(OSError(28, 'No space left on device'), 69), (ValueError('I/O operation on closed file'), 2)],
    ids=['full', 'closed'],
)
def test_a_result_that_could_not_be_printed_is_said_to_be_lost(folder, capsys, monkeypatch, command, error, code):
    monkeypatch.setattr(sys, 'stdout', Broken(error))
    assert main(command.split()) == code
    assert 'could not be printed' in capsys.readouterr().err
    monkeypatch.setattr(sys, 'stdout', None)
    assert main(command.split()) == 2
    monkeypatch.setattr(sys, 'stdout', Broken(BrokenPipeError()))  # its reader has had what it wanted
    assert main(command.split()) == 0


@pytest.mark.parametrize('command', [f'{SEARCH} --output=r.json', f'{SEARCH} --output=r.png', CALIBRATE])
def test_a_result_in_a_file_is_not_lost(folder, monkeypatch, command):
    monkeypatch.setattr(sys, 'stdout', Broken(OSError(28, 'No space left on device')))
    assert main(command.split()) == 0
