"""What is printed never ends a program: any encoding, closed pipes and closed streams, and names that would steer a
terminal.
"""

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from configs import default
from pvlad_jax.config import freeze
from pvlad_jax.core import terminal
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, Result, print_table
from pvlad_jax.evaluation.mean_of_splits import mean_of_splits, print_mean
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.outputs import Scored, report
from tests.helpers.broken_stream import Broken

ROOT = Path(__file__).resolve().parents[1]


def stream(encoding: str, errors: str = 'strict') -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, newline='\n')


@pytest.mark.parametrize(
    ('encoding', 'errors', 'expected'),
    [
        ('ascii', 'strict', b'caf\\xe9 \\u4eba \\udcff\n'),
        ('latin-1', 'strict', b'caf\xe9 \\u4eba \\udcff\n'),
        ('ascii', 'replace', b'caf? ? ?\n'),
        ('utf-8', 'strict', 'café 人 \\udcff\n'.encode()),
    ],
)
def test_characters_that_the_stream_cannot_encode_are_escaped(monkeypatch, encoding, errors, expected):
    monkeypatch.setattr(sys, 'stdout', stream(encoding, errors))
    assert terminal.say('café 人 \udcff')
    assert sys.stdout.buffer.getvalue() == expected


@pytest.mark.parametrize(
    'error',
    [
        BrokenPipeError(),
        OSError(28, 'No space left on device'),
        ValueError('I/O operation on closed file'),
        BlockingIOError(),
    ],
)
def test_a_stream_that_cannot_be_written_is_given_up(monkeypatch, error):
    monkeypatch.setattr(sys, 'stdout', Broken(error))
    assert not terminal.say('text')
    console = terminal.console()
    console.print('text')
    assert not console.file.written


@pytest.mark.parametrize('closed', [None, io.StringIO()], ids=['never opened', 'closed'])
def test_closed_streams_are_passed_over(monkeypatch, closed):
    if closed:
        closed.close()
    for name in ('stdout', 'stderr'):
        monkeypatch.setattr(sys, name, closed)
    assert not terminal.say('text') and not terminal.complain('text')
    terminal.console().print(Table(title='text'))


def test_names_cannot_steer_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', io.StringIO())
    terminal.say('a\x1b[2Jb\rc\x07\u202ed\te\n')
    assert sys.stdout.getvalue() == 'a\\x1b[2Jb\\rc\\x07\\u202ed\te\n\n'


def result(**changes) -> Result:
    numbers = dict.fromkeys(('mAP', 'mAP_trapezoidal', 'mINP', 'rank_1', 'rank_5', 'rank_10', 'rank_20'), 0.5)
    said = {'dataset': '', 'split': 'test', 'protocol': 'all_but_query', 'frames': 'all', 'distance': 'cosine'}
    counts = {'step': 1, 'n_query': 1, 'n_query_valid': 1, 'n_gallery': 2, 'n_junk': 0}
    return Result(**{**counts, 'rerank': False, 'cmc': [0.5] * 50, **numbers, **said, **changes})


@pytest.mark.parametrize('encoding', ['ascii', 'utf-8'])
@pytest.mark.parametrize('name', ['[bold]', '[/bold]', ':smile:', 'é\x1b[31m', '[link=x'])
def test_a_table_shows_names_as_they_are(monkeypatch, encoding, name):
    monkeypatch.setattr(sys, 'stdout', stream(encoding))
    print_table(result(dataset=name, frames=name))
    printed = sys.stdout.buffer.getvalue().decode(encoding)
    shown = terminal.printable(name).encode(encoding, 'backslashreplace').decode(encoding)
    assert printed.count(shown) == 2 and '50.00' in printed and 'all_but_query' in printed and '\x1b' not in printed


def test_the_mean_of_the_splits_shows_names_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', stream('ascii'))
    print_mean(mean_of_splits({str(i): result(dataset='[é]', rank_1=i / 2).to_json() for i in range(2)}))
    assert '[\\xe9]' in (printed := sys.stdout.buffer.getvalue().decode()) and '25.00' in printed
    assert 'unknown cameras' not in printed


def test_the_mean_of_the_splits_says_what_became_of_unknown_cameras(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', stream('ascii'))
    print_mean(mean_of_splits({str(i): result(unknown_cameras='ignore').to_json() for i in range(2)}))
    assert 'unknown cameras: ignore' in ' '.join(sys.stdout.buffer.getvalue().decode().split())


@pytest.fixture
def scored():
    """(an experiment that is nothing but its configuration, without pictures; what was scored)."""
    config = default.get_config()
    config.evaluation.strips = 0
    experiment = Experiment.__new__(Experiment)
    object.__setattr__(experiment, 'config', freeze(config))
    table = Embeddings(
        embedding=np.ones((1, 2), np.float32),
        person_id=np.array([1]),
        camera_id=np.array([1]),
        tracklet=np.array(['a']),
    )
    return experiment, Scored(result(), table, table, None)


def test_a_run_writes_its_result_though_it_cannot_be_printed(tmp_path, monkeypatch, scored):
    monkeypatch.setattr(sys, 'stdout', Broken(BrokenPipeError()))
    report(scored[0], tmp_path, {}, scored[1], lambda text: None)
    assert json.loads((tmp_path / 'eval' / 'latest.json').read_text())['rank_1'] == 0.5
    assert (tmp_path / 'embeddings' / 'gallery.npz').exists()


def test_a_run_prints_its_result_though_it_cannot_be_written(tmp_path, capsys, scored):
    (tmp_path / 'eval').write_text('a file in the way')
    with pytest.raises(UserError, match='cannot be written'):
        report(scored[0], tmp_path, {}, scored[1], lambda text: None)
    assert '50.00' in capsys.readouterr().out


@pytest.mark.parametrize('folder', ['pvlad_jax', 'data_prep', 'main.py'])
def test_nothing_is_printed_by_another_way(folder):
    files = [ROOT / folder] if folder.endswith('.py') else sorted((ROOT / folder).rglob('*.py'))
    for file in (f for f in files if f.name != 'terminal.py'):
        calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        found = [f'{file.relative_to(ROOT)}:{f.lineno}' for f in calls if getattr(f, 'id', '') in ('print', 'Console')]
        assert not found, f'{found}: use pvlad_jax.core.terminal.say, complain or console'


CHILD = """
import sys
from pvlad_jax.core import terminal
for i in range(20_000):
    terminal.say(f'line {i} of a long story')
terminal.console().print('end')
terminal.complain('done')
open(sys.argv[1], 'w').write('written')
"""


@pytest.mark.parametrize('redirection', ['| head -1', '>&-', '>/dev/full'])
def test_a_program_outlives_its_reader_and_leaves_with_0(tmp_path, redirection):
    if 'full' in redirection and not os.path.exists('/dev/full'):
        pytest.skip('needs /dev/full')
    command = f'set -o pipefail; {sys.executable} -c "$CHILD" {tmp_path / "file"} {redirection}'
    ended = subprocess.run(
        ['bash', '-c', command], capture_output=True, text=True, cwd=ROOT, env={**os.environ, 'CHILD': CHILD}
    )
    assert (ended.returncode, ended.stderr) == (0, 'done\n')
    assert (tmp_path / 'file').read_text() == 'written'
