"""Every command of the README is run by .ci/run, or said there why not."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def ci() -> ModuleType:
    spec = importlib.util.spec_from_file_location('readme_commands', ROOT / '.ci' / 'readme_commands.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


def test_every_command_is_run_or_has_a_reason_not_to(ci):
    commands = ci.readme_commands((ROOT / 'README.md').read_text(encoding='utf-8'))
    assert len(commands) > 10
    assert set(commands) == set(ci.COMMANDS), 'README.md and COMMANDS of .ci/readme_commands.py differ'
    assert all(how.reason for how in ci.COMMANDS.values() if isinstance(how, ci.Skip))
    run = [command for command, how in ci.COMMANDS.items() if isinstance(how, ci.Run)]
    assert 'make demo' in run and any('import_weights' in command for command in run)
    assert 'readme_commands.py' in (ROOT / '.ci' / 'run').read_text()


def test_what_make_stands_for_is_in_the_makefile(ci):
    makefile = (
        (ROOT / 'Makefile')
        .read_text()
        .replace('$(VENV)', '.venv')
        .replace('$(PYTHON)', 'python3')
        .replace(' --quiet', '')
    )
    for command, how in ci.COMMANDS.items():
        if 'line of the Makefile' in getattr(how, 'reason', ''):
            assert f'\t{command}\n' in makefile, command


def test_commands_are_found_in_blocks_and_inline(ci):
    text = (
        'Do `python a.py --x` or `--y`, not `x = 1`.\n\n    make demo      # four minutes\n    pip install b\n    '
        'result = 3\n\nand `make demo` again.\n'
    )
    assert ci.readme_commands(text) == ['python a.py --x', 'make demo', 'pip install b']


def test_a_command_is_run_as_it_stands_with_what_is_added(ci):
    how = ci.Run('--steps=4', (('FOLDER', 'my_frames'),))
    assert ci.command_line('python a.py --source=FOLDER', how, '/v') == [
        '/v/bin/python',
        'a.py',
        '--source=my_frames',
        '--steps=4',
    ]
    assert ci.command_line('make demo', ci.Run(), '/v') == ['make', 'demo', 'VENV=/v']


def test_a_command_that_fails_ends_the_run(tmp_path):
    """There are no embeddings in an empty folder."""
    command = [
        sys.executable,
        ROOT / '.ci' / 'readme_commands.py',
        f'--venv={sys.prefix}',
        '--only=pvlad_jax.evaluation',
    ]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1 and 'ended with exit code' in ended.stderr


def test_pages_that_the_code_names_are_there():
    named = {
        (path.relative_to(ROOT), page)
        for folder in ('pvlad_jax', 'data_prep', 'configs', 'benchmarks')
        for path in (ROOT / folder).rglob('*.py')
        for page in re.findall(r'\b[\w/]+\.md\b', path.read_text(encoding='utf-8'))
    }
    named -= {(path, page) for path, page in named if page == 'MODEL_CARD.md'}  # which an export writes
    absent = sorted(
        f'{path}: {page}'
        for path, page in named
        if not (ROOT / page).is_file() and not (ROOT / 'docs' / page).is_file()
    )
    assert len(named) > 10 and not absent


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', *(ROOT / 'docs').rglob('*.md')]
    absent = [
        f'{page.relative_to(ROOT)}: {link}'
        for page in pages
        for link in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text(encoding='utf-8'))
        if not (page.parent / link).exists()
    ]
    assert not absent
