"""python -m pvlad_jax embed: a track's embedding is that of its crops; stopped in any way it resumes; nothing that is
wrong is silent."""

import datetime
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import pvlad_jax
from pvlad_jax.commands import embed_journal
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.core.errors import UserError
from tests.helpers.flat_frames import write_frames
from tests.helpers.pictures import deep
from tests.helpers.small_models import write_workdir
from tests.helpers.small_videos import frame, mot_lines, walking, write_video

tables = pytest.importorskip('pvlad_jax.gallery.table_file', reason='tables need pyarrow', exc_type=Exception)

TRACKS = {'4': walking(0, 9, 3.0), '17': walking(2, 6, top=20), '900': walking(5, 11, 1.0, top=15), '2': walking(7, 7)}


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def model(workdir):
    return pvlad_jax.load(workdir)


@pytest.fixture
def video(tmp_path) -> Path:
    """A folder with walk.mkv, 12 frames, and its tracks, walk.txt."""
    write_video(tmp_path / 'walk.mkv')
    (tmp_path / 'walk.txt').write_text(mot_lines(TRACKS))
    return tmp_path


def embed(workdir, folder, *more, input='walk.mkv', tracks='walk.txt', output='out.parquet') -> int:
    arguments = [f'--model={workdir}', f'--input={folder / input}', f'--output={folder / output}', *more]
    return main(['embed', *arguments, *([f'--tracks={folder / tracks}'] if tracks else [])])


def table(path: Path) -> tuple[list[dict], np.ndarray]:
    found = tables.read_table(path)
    return found.metadata.to_pylist(), found.embedding


def test_a_tracks_embedding_is_that_of_its_crops(video, workdir, model, capsys):
    assert embed(workdir, video, '--camera=north', '--margin=0.25') == 0
    rows, embedding = table(video / 'out.parquet')
    assert [row['tracklet'] for row in rows] == ['walk_4', 'walk_17', 'walk_900', 'walk_2']
    assert {(row['source'], row['camera']) for row in rows} == {('walk.mkv', 'north')}
    assert tables.read_table(video / 'out.parquet').fingerprint == model.fingerprint
    for row, vector, boxes in zip(rows, embedding, TRACKS.values()):
        crops = [
            frame(f)[max(0, round(y - 6)) : round(y + 30), max(0, round(x - 3)) : min(64, round(x + 15))]
            for f, x, y, _, _ in boxes
        ]
        np.testing.assert_allclose(vector, model.embed(crops), atol=2e-6)
        assert (row['first_frame'], row['last_frame'], row['frames']) == (boxes[0][0], boxes[-1][0], len(boxes))
        assert row['start_seconds'] == pytest.approx(boxes[0][0] / 10, abs=2e-3) and row[
            'end_seconds'
        ] == pytest.approx(boxes[-1][0] / 10, abs=2e-3)
    told = capsys.readouterr()
    assert '4 tracklets' in told.out and not told.err  # no progress where there is no terminal
    assert not list(video.glob('.*journal'))


class Kill(BaseException):
    """What no handler in the program expects: the process ends here."""


def test_times_count_from_1970_where_the_beginning_is_known(video, workdir):
    assert embed(workdir, video) == 0
    assert embed(workdir, video, '--began=2026-11-25T14:30+01:00', output='dated.parquet') == 0
    began = datetime.datetime(2026, 11, 25, 13, 30, tzinfo=datetime.UTC).timestamp()
    for plain, dated in zip(table(video / 'out.parquet')[0], table(video / 'dated.parquet')[0], strict=True):
        for column in ('start_seconds', 'end_seconds'):
            assert dated.pop(column) == began + plain.pop(column)
        assert plain == dated


def stopping(monkeypatch, after: int, how):
    """`how()` is called once `after` tracklets are finished."""
    add = embed_journal.Journal.add

    def stop(self, row):
        add(self, row)
        if len(self.rows) == after:
            how()

    monkeypatch.setattr(embed_journal.Journal, 'add', stop)


def die():
    raise Kill


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, as it does in a terminal; programs in the background of a script ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interruptible')
@pytest.mark.parametrize(('how', 'code'), [('kill', None), ('SIGTERM', 75), ('SIGINT', 130)])
def test_stopped_and_given_again_it_is_as_if_it_had_not_been(video, workdir, monkeypatch, capsys, how, code):
    more = ['--clips_per_step=1']
    assert embed(workdir, video, *more, output='whole.parquet') == 0
    with monkeypatch.context() as patch:
        if how == 'kill':
            stopping(patch, 2, die)
            with pytest.raises(Kill):
                embed(workdir, video, *more)
            with open(video / '.out.parquet.journal', 'ab') as file:
                file.write(b'{"order": 3, "trackl')  # a line that the kill cut short
        else:
            stopping(patch, 2, lambda: os.kill(os.getpid(), getattr(signal, how)))
            assert embed(workdir, video, *more) == code
            assert 'Stopped: 2 of 4 tracklets are kept. The same command resumes.' in capsys.readouterr().err
    assert not (video / 'out.parquet').exists()
    computed = []
    with monkeypatch.context() as patch:
        add = embed_journal.Journal.add
        patch.setattr(embed_journal.Journal, 'add', lambda self, row: (computed.append(row.tracklet), add(self, row)))
        assert embed(workdir, video, *more) == 0
    assert len(computed) == 2 and 'Resuming: 2 of 4' in capsys.readouterr().out
    rows, embedding = table(video / 'out.parquet')
    whole, expected = table(video / 'whole.parquet')
    assert rows == whole
    np.testing.assert_allclose(embedding, expected, atol=2e-6)


def test_what_another_job_has_left_is_not_taken(video, workdir, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stopping(patch, 2, die)
        with pytest.raises(Kill):
            embed(workdir, video, '--clips_per_step=1')
    journal = video / '.out.parquet.journal'
    left = journal.read_bytes()

    def refused(*_):
        raise UserError('enough')

    others = {'min_frames': '--min_frames=2', 'first_frame': '--first_frame=0', 'crops': '--min_width=9'}
    with monkeypatch.context() as patch:
        patch.setattr('pvlad_jax.commands.embed._embed', refused)
        for changed, option in {**others, 'save_crops': f'--save_crops={video / "crops"}'}.items():
            journal.write_bytes(left)
            assert embed(workdir, video, '--clips_per_step=1', option) == 2
            assert f'another job (changed: {changed})' in capsys.readouterr().out
        for path in (video / 'walk.mkv', video / 'walk.txt'):
            journal.write_bytes(left)
            before = path.read_bytes()
            path.write_bytes(before + b'\n')
            assert embed(workdir, video, '--clips_per_step=1') == 2
            assert f'another job (changed: {"video" if path.suffix == ".mkv" else "tracks"}' in capsys.readouterr().out
            path.write_bytes(before)
    journal.write_bytes(left)
    assert embed(workdir, video, '--clips_per_step=1', '--margin=0.1') == 0
    assert 'another job (changed: crops' in capsys.readouterr().out
    assert len(table(video / 'out.parquet')[0]) == 4


def test_a_full_disk_loses_nothing(video, workdir, monkeypatch, capsys):
    append, lines = embed_journal.Journal._append, []

    def full(self, content):
        lines.append(content)
        if len(lines) == 4:
            self._file.write(b'{"half a line')  # as the disk took it
            self._file.flush()
            raise OSError(errno.ENOSPC, 'No space left on device', str(self.path))
        append(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(embed_journal.Journal, '_append', full)
        assert embed(workdir, video, '--clips_per_step=1') == 69
    assert 'No space left' in capsys.readouterr().err
    assert embed(workdir, video, '--clips_per_step=1') == 0
    assert 'Resuming: 2 of 4' in capsys.readouterr().out and len(table(video / 'out.parquet')[0]) == 4


def test_a_second_writer_of_the_same_output_is_refused(video, workdir, capsys):
    with embed_journal.open_journal(video / 'out.parquet', {}):
        assert embed(workdir, video) == 2
    assert 'Another process is writing' in capsys.readouterr().err


def test_short_empty_and_outside_tracks_are_reported_and_counted(video, workdir, capsys):
    outside = [(f, 200.0, 10.0, 12.0, 24.0) for f in range(3)]
    (video / 'walk.txt').write_text(mot_lines({**TRACKS, '5': outside, '6': [(40, 1.0, 1.0, 12.0, 24.0)]}))
    assert embed(workdir, video, '--min_frames=7') == 0  # as many as walk_900 has
    told = capsys.readouterr().out
    assert 'Left out: walk_2, short: 1 frames of at least 7.' in told
    assert 'Left out: walk_5, empty: all its boxes are left out (3 outside the picture).' in told
    assert (
        '1 after the last frame of the video' in told
        and 'Left out in all: 4 of 6 tracklets (2 empty, 2 short).' in told
    )
    assert [row['tracklet'] for row in table(video / 'out.parquet')[0]] == ['walk_4', 'walk_900']


def test_a_truncated_video_keeps_what_came_before_and_says_so(video, workdir, capsys):
    path = write_video(video / 'walk.mkv', 60)
    (video / 'walk.txt').write_text(mot_lines({'1': walking(0, 9), '2': walking(5, 59, 0.5), '3': walking(50, 55)}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert embed(workdir, video) == 2
    told = capsys.readouterr()
    assert 'truncated or damaged' in told.err and told.err.count('\n') == 1 and 'Left out: walk_3, empty' in told.out
    assert 'walk_2: of 55 boxes are left out' in told.out
    assert [row['tracklet'] for row in table(video / 'out.parquet')[0]] == ['walk_1', 'walk_2']


def test_folders_of_frames(tmp_path, workdir, model, capsys):
    root = tmp_path / 'mine'
    expected = {
        'a/c1': write_frames(root / 'a' / 'c1', [f'f{i}.jpg' for i in range(8, 13)]),  # 9 comes before 10
        'a/c10': write_frames(root / 'a' / 'c10', ['1.jpeg']),
        'b <script>': write_frames(root / 'b <script>', ['x.JPG', 'y.jpg']),
    }
    write_frames(root / 'bad', ['1.jpg', '2.jpg', '3.jpg'])
    (root / 'bad' / '2.jpg').write_bytes((root / 'bad' / '2.jpg').read_bytes()[:300])
    write_frames(root / 'giant', ['1.jpg'])
    header = bytearray((root / 'giant' / '1.jpg').read_bytes())
    at = header.find(b'\xff\xc0') + 5
    header[at : at + 4] = b'\xff\xf0\xff\xf0'  # 65,520 x 65,520 pixels
    (root / 'giant' / '1.jpg').write_bytes(header)
    (root / 'empty').mkdir()
    (root / 'a' / 'notes.txt').write_text('mine')
    (root / '.cache').mkdir()
    assert embed(workdir, tmp_path, f'--save_crops={tmp_path / "crops"}', input='mine', tracks='') == 0
    rows, embedding = table(tmp_path / 'out.parquet')
    assert [row['tracklet'] for row in rows] == list(expected)
    for row, vector in zip(rows, embedding):
        np.testing.assert_allclose(vector, model.embed(expected[row['tracklet']]), atol=2e-6)
        assert (
            row['source'] == 'mine' and row['frames'] == len(expected[row['tracklet']]) and row['start_seconds'] is None
        )
    told = capsys.readouterr().out
    assert (
        'Left out: bad, broken: 2.jpg' in told
        and 'Left out: giant, broken: 1.jpg' in told
        and 'Left out: empty, empty' in told
    )
    assert 'Left out in all: 3 of 6 tracklets (2 broken, 1 empty).' in told and '1 files are no images' in told
    saved = sorted(p.relative_to(tmp_path / 'crops').as_posix() for p in (tmp_path / 'crops').rglob('*.jpg'))
    assert 'b%20%3Cscript%3E/000001.jpg' in saved and len([name for name in saved if name.startswith('a%2Fc1/')]) == 5


def test_folders_of_frames_of_12_bits(tmp_path, workdir, model, monkeypatch, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 20, 12, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        folder = tmp_path / 'mine' / f't{number // 3}'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{number}.png').write_bytes(deep('png', picture.astype(np.uint16) * 16))
    with monkeypatch.context() as patch:
        stopping(patch, 1, die)
        with pytest.raises(Kill):
            embed(workdir, tmp_path, '--clips_per_step=1', '--bit_depth=16', input='mine', tracks='')
    assert embed(workdir, tmp_path, input='mine', tracks='') == 0
    told = capsys.readouterr().out
    assert told.count('so 12 bits are in use') == 1 and 'another job (changed: bit_depth)' in told
    _, embedding = table(tmp_path / 'out.parquet')
    np.testing.assert_allclose(embedding, model.embed_many([pixels[:3], pixels[3:]]), atol=2e-6)
    assert embed(workdir, tmp_path, '--bit_depth=12', input='mine', tracks='', output='said.parquet') == 0
    assert 'Note' not in capsys.readouterr().out
    np.testing.assert_array_equal(table(tmp_path / 'said.parquet')[1], embedding)


def test_mistakes_are_one_sentence_before_anything_is_computed(video, workdir, capsys, monkeypatch):
    monkeypatch.setattr('pvlad_jax.embedding.interleaved._step', lambda *_: pytest.fail('something was computed'))
    write_frames(video / 'mine' / 'a', ['1.jpg'])
    write_frames(video.joinpath('deep', *(letter * 250 for letter in 'abcd')), ['1.jpg'])
    (video / 'long.csv').write_text(f'frame,track,left,top,width,height\n0,{"t" * 1001},1,1,9,18\n')
    cases = [
        ({'input': 'deep', 'tracks': ''}, (), f"{'a' * 60}'... has 1,003 characters; .parquet holds up to 1000"),
        ({'tracks': 'long.csv'}, (), f"'walk_{'t' * 55}'... has 1,006 characters"),
        ({'output': 'x.csv'}, (), 'must end in'),
        ({'tracks': ''}, (), 'give --tracks'),
        ({'input': 'none.mp4'}, (), 'no file or folder'),
        ({'input': '.'}, (), 'belongs to a video'),
        ({'input': '.', 'tracks': ''}, ('--began=2026-11-25',), '--began belongs to a video'),
        ({}, ('--began=noon',), 'not a date such as'),
        ({}, ('--began=12',), 'not a date such as'),
        ({'output': 'x.npz'}, ('--began=2026-11-25',), 'holds no times'),
        ({'input': '.', 'tracks': ''}, ('--min_height=9',), '--min_height belongs to a video'),
        ({}, ('--bit_depth=12',), '--bit_depth belongs to a folder'),
        ({'input': '.', 'tracks': ''}, ('--bit_depth=-1',), 'not a whole number from 0'),
        ({'tracks': 'none.txt'}, (), 'cannot be read'),
        ({'output': 'x.npz'}, ('--camera=north',), 'are numbers'),
        ({'output': 'x.npz'}, ('--camera=99999999999',), 'are numbers'),
        ({'output': 'walk.txt/x.parquet'}, (), 'a part of its path is a file'),
        ({'input': 'walk.txt'}, (), 'cannot be read as a video'),
        ({'input': 'mine', 'tracks': ''}, (f'--save_crops={video / "mine"}',), 'would write among the frames'),
        ({}, ('--margin=-1',), 'share'),
        ({}, ('--min_frames=0',), 'whole number from 1'),
    ]
    for where, more, says in cases:
        assert embed(workdir, video, *more, **where) == 2
        told = capsys.readouterr().err
        assert says in told and told.startswith('Error: ') and told.count('\n') == 1, told
    assert embed(video, video) == 2 and 'no working directory of a training' in capsys.readouterr().err
