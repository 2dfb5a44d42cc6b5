"""Embedding files and the command that scores them: what is written, and one clear message for every mistake."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, read_embeddings, score, write_embeddings
from pvlad_jax.evaluation import embeddings as embedding_file
from pvlad_jax.evaluation.__main__ import main


def walkers(first=1):
    rng = np.random.default_rng(first)
    person = np.repeat(np.arange(first, first + 8), 6)
    embedding = rng.standard_normal((9, 10))[person - first] + rng.standard_normal((48, 10))
    return Embeddings(
        embedding=embedding.astype(np.float32),
        person_id=person,
        camera_id=np.tile([0, 1, 2], 16),
        tracklet=np.array([f'{p:04d}/é{i}' for i, p in enumerate(person)]),
    )


@pytest.fixture
def files(tmp_path):
    """Paths of query, gallery and training embeddings."""
    tables = {'query': walkers().select(slice(0, 48, 5)), 'gallery': walkers(), 'train': walkers(20)}
    for name, table in tables.items():
        write_embeddings(tmp_path / f'{name}.npz', table)
    return {name: tmp_path / f'{name}.npz' for name in tables}


def flags(files, *names):
    return [f'--{name}={files[name]}' for name in names]


def columns(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_embeddings_come_back_as_they_were(files):
    table, again = walkers(), read_embeddings(files['gallery'])
    np.testing.assert_array_equal(again.embedding, table.embedding)
    assert again.embedding.dtype == np.float32
    assert again.tracklet.tolist() == table.tracklet.tolist()
    assert again.person_id.tolist() == table.person_id.tolist() and again.camera_id.tolist() == table.camera_id.tolist()
    assert set(columns(files['gallery'])) == {'embedding', 'person_id', 'camera_id', 'tracklet'}


def test_other_codes_dtypes_are_read(tmp_path):
    table = walkers()
    np.savez(
        tmp_path / 'other.npz',
        embedding=table.embedding.astype(np.float64),
        person_id=table.person_id.astype(np.uint16),
        camera_id=table.camera_id.astype(np.int8),
        tracklet=np.char.encode(table.tracklet, 'utf-8'),
    )
    again = read_embeddings(tmp_path / 'other.npz')
    np.testing.assert_array_equal(again.embedding, table.embedding)
    assert again.tracklet.tolist() == table.tracklet.tolist()


def test_the_command_writes_the_result_and_prints_the_table(files, tmp_path, capsys):
    output = tmp_path / 'deep' / 'result.json'
    said = [
        '--dataset=walkers',
        '--split=test',
        '--step=7',
        '--frames=even:8',
        '--convention=first half is test',
        '--partial',
    ]
    assert main([*flags(files, 'query', 'gallery'), f'--output={output}', *said]) == 0
    result = json.loads(output.read_text())
    tables = (read_embeddings(files[role]) for role in ('query', 'gallery'))
    about = {'dataset': 'walkers', 'split': 'test', 'step': 7, 'frames': 'even:8', 'convention': 'first half is test'}
    assert result == score(*tables, **about, partial=True).to_json()
    first = 'dataset split protocol step n_query n_query_valid n_gallery n_junk frames distance rerank mAP'
    assert list(result)[:15] == [*first.split(), 'mAP_trapezoidal', 'mINP', 'rank_1']
    assert result['n_query'] == 10 and result['n_gallery'] == 48 and 0 <= result['mAP'] <= 1
    assert 'pessimistic' in result['tie_rule']
    printed = capsys.readouterr().out
    assert f'{100 * result["mAP"]:.2f}' in printed and 'PARTIAL DATA' in printed and 'mars_official' in printed
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    'options',
    [
        ['--distance=euclidean'],
        ['--distance=xqda', 'train'],
        ['--distance=kissme', 'train', '--rerank'],
        ['--protocol=gallery_only'],
        ['--protocol=cross_camera'],
    ],
)
def test_every_choice_runs(files, tmp_path, options):
    arguments = [
        *flags(files, 'query', 'gallery', *(o for o in options if o == 'train')),
        *(o for o in options if o != 'train'),
    ]
    assert main([*arguments, f'--output={tmp_path / "r.json"}']) == 0
    result = json.loads((tmp_path / 'r.json').read_text())
    assert result['rank_20'] > 0.5 and result['rerank'] == ('--rerank' in options)


def test_as_a_module(files, tmp_path):
    command = [
        sys.executable,
        '-m',
        'pvlad_jax.evaluation',
        *flags(files, 'query'),
        f'--gallery={tmp_path / "none.npz"}',
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    assert done.returncode == 2
    assert done.stderr.startswith('error: There is no file') and done.stderr.count('\n') == 1 and done.stdout == ''


def spoil(path, **changes):
    """Writes the file with fields replaced, or dropped where the change is None."""
    table = {**columns(path), **changes}
    np.savez(path, **{k: v for k, v in table.items() if v is not None})


def with_nan(x):
    x = x.copy()
    x[3, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda c: {'camera_id': None}, 'lacks camera_id'),
        (lambda c: {'embedding': with_nan(c['embedding'])}, "NaN or Inf, first in row 3 (tracklet '0001/é3')"),
        (
            lambda c: {'embedding': c['embedding'].astype(np.float64) * 1e60},
            'a number beyond the range of float32, first in row 0',
        ),
        (lambda c: {'embedding': c['embedding'].astype(np.int32)}, 'must be a matrix of floats'),
        (lambda c: {'embedding': c['embedding'][:, 0]}, 'must be a matrix of floats'),
        (lambda c: {'embedding': c['embedding'][:, :0]}, 'must be a matrix of floats'),
        (lambda c: {'person_id': c['person_id'].astype(np.float32)}, 'person_id must be one integer a tracklet'),
        (lambda c: {'person_id': c['person_id'] - 4}, 'person_id holds -3 to 4'),
        (lambda c: {'camera_id': c['camera_id'] - 7}, 'camera_id holds -7 to -5'),
        (lambda c: {'camera_id': np.repeat(c['camera_id'], 9)}, 'embedding 48'),
        (lambda c: {'tracklet': c['tracklet'].astype(object)}, 'fixed-width text'),
        (lambda c: {'tracklet': np.arange(48)}, 'tracklet must be one name'),
        (
            lambda c: {'tracklet': np.where(np.arange(48) == 5, c['tracklet'][4], c['tracklet'])},
            "'0001/é4' occurs 2 times",
        ),
        (lambda c: {k: v[:0] for k, v in c.items()}, 'is empty'),
        (lambda c: {'embedding': np.repeat(c['embedding'], 2, axis=1)}, 'must come from the same network'),
        (lambda c: {'person_id': c['person_id'] + 1}, 'out of step'),
    ],
)
def test_a_spoilt_file_is_named_with_what_is_wrong(files, capsys, change, says):
    spoil(files['gallery'], **change(columns(files['gallery'])))
    assert main(flags(files, 'query', 'gallery')) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1
    assert says in error


def test_files_of_other_kinds_are_refused(files, tmp_path):
    (tmp_path / 'text.npz').write_text('not an archive')
    np.save(tmp_path / 'one.npy', np.zeros(3))
    whole = files['gallery'].read_bytes()
    (tmp_path / 'cut.npz').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'empty.npz').write_bytes(b'')
    (tmp_path / 'table.npz').write_bytes(b'PAR1' + bytes(50) + b'PAR1')
    np.save(tmp_path / 'objects.npy', np.array([{}, 3]))
    with zipfile.ZipFile(tmp_path / 'other.zip', 'w') as archive:
        archive.writestr('readme.txt', 'x')
    with zipfile.ZipFile(tmp_path / 'text.zip', 'w') as archive:
        for field in columns(files['gallery']):
            archive.writestr(f'{field}.npy', 'no array')
    spoil(files['train'], tracklet=walkers(20).tracklet.astype(object))
    shutil.copy(files['train'], tmp_path / 'objects.npz')
    for name, says in (
        ('text.npz', 'is not an .npz file of plain arrays'),
        ('table.npz', 'is a Parquet table, not an .npz file'),
        ('one.npy', 'is a single array'),
        ('objects.npy', 'is a single array'),
        ('cut.npz', 'is a zip archive that is cut or damaged'),
        ('other.zip', 'lacks embedding, person_id, camera_id, tracklet'),
        ('text.zip', 'holds what is no plain array in embedding'),
        ('objects.npz', 'holds what is no plain array in tracklet'),
        ('empty.npz', 'is empty'),
        ('', 'cannot be read: Is a directory'),
    ):
        with pytest.raises(UserError, match=says) as error:
            read_embeddings(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name)) and 'pickle' not in str(error.value)


def test_unknown_choices_leave_with_2(files):
    for flag in ('--protocol=mars', '--distance=l1', '--nonsense=1'):
        with pytest.raises(SystemExit) as left:
            main([*flags(files, 'query', 'gallery'), flag])
        assert left.value.code == 2


def test_no_place_for_the_result(files, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert main([*flags(files, 'query', 'gallery'), f'--output={tmp_path / "file" / "r.json"}']) == 2
    captured = capsys.readouterr()
    assert 'cannot be written' in captured.err and 'rank-1' in captured.out  # at least printed


@pytest.mark.parametrize('stream', [None, io.TextIOWrapper(io.BytesIO(), encoding='ascii')], ids=['closed', 'ascii'])
def test_the_result_is_written_whatever_becomes_of_the_terminal(files, tmp_path, monkeypatch, capsys, stream):
    monkeypatch.setattr(sys, 'stdout', stream)
    arguments = [*flags(files, 'query', 'gallery'), '--dataset=é[/bold]']
    assert main([*arguments, f'--output={tmp_path / "r.json"}']) == 0
    assert json.loads((tmp_path / 'r.json').read_text())['dataset'] == 'é[/bold]'
    assert main(arguments) == (0 if stream else 2)  # without a file and without a terminal it is lost, and said to be
    assert stream or 'could not be printed' in capsys.readouterr().err


def test_without_cameras_the_command_chooses_the_protocol_and_names_it(files, tmp_path):
    for name in ('query', 'gallery'):
        spoil(files[name], camera_id=np.full(len(columns(files[name])['camera_id']), -1))
    command = [*flags(files, 'query', 'gallery'), f'--output={tmp_path / "r.json"}']
    assert main(command) == 0
    assert json.loads((tmp_path / 'r.json').read_text())['protocol'] == 'all_but_query'
    assert main([*command, '--unknown_cameras=other']) == 0
    assert json.loads((tmp_path / 'r.json').read_text())['protocol'] == 'mars_official'
    assert main([*command, '--protocol=mars_official']) == 2


def test_a_write_that_fails_leaves_the_old_file(files, monkeypatch):
    before = files['gallery'].read_bytes()

    def full(file, **columns):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(embedding_file.np, 'savez', full)
    with pytest.raises(UserError, match='No space left'):
        write_embeddings(files['gallery'], walkers(3))
    assert files['gallery'].read_bytes() == before
    assert not [p for p in files['gallery'].parent.iterdir() if 'partial' in p.name]
