"""Programs with flags end with exit code 2 and a sentence where flags are wrong, and with 0 where help was asked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD, IMPORT = ('data_prep/build_tfds.py',), ('data_prep/import_weights.py',)
SHEET = ('-m', 'data_prep.synthetic_walkers.contact_sheet')


def ended(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        ((*BUILD, '--datset=mars'), "Unknown command line flag 'datset'. Did you mean: dataset ?"),
        ((*BUILD, '--dataset=synthetic', '--people=0'), 'flag --people=0: 0 is not integer >= 2.'),
        ((*BUILD, '--dataset=synthetic', 'twins'), "Unknown argument 'twins'; flags begin with --."),
        ((*IMPORT, '--sorce=c3d'), "Unknown command line flag 'sorce'. Did you mean: source ?"),
        ((*IMPORT, '--source=c4d', '--output=x'), 'flag --source=c4d: value should be one of <i3d-kinetics|'),
        ((*IMPORT, '--file=x'), '--source=... and --output=... must be given.'),
        ((*IMPORT, '--source=c3d', '--output=x', 'y'), "Unknown argument 'y'; flags begin with --."),
        ((*SHEET, '--people=0', '--output=x'), 'flag --people=0: 0 is not a positive integer.'),
        (SHEET, '--output=... must be given.'),
        (('benchmarks/backbone_table.py', '--temporal=4d'), 'flag --temporal=4d: value should be one of <3d|2d>.'),
        (('benchmarks/embed.py', '--length=3'), "Unknown command line flag 'length'. Did you mean: lengths ?"),
    ],
)
def test_wrong_flags(arguments, says):
    said = ended(*arguments)
    assert said.returncode == 2 and said.stderr.startswith(f'Error: {says}') and said.stderr.count('\n') == 1
    assert said.stderr.endswith(' --help describes the flags.\n') and not said.stdout


@pytest.mark.parametrize('program', ['pooling_share', 'backward_memory'])
def test_wrong_flags_of_benchmarks_with_a_configuration(program):
    said = ended(f'benchmarks/{program}.py')
    assert said.returncode == 2 and said.stderr == 'Error: --config=... must be given.\n'


@pytest.mark.parametrize('program', [BUILD, IMPORT, SHEET, ('main.py',)], ids=lambda program: program[-1])
def test_help(program):
    said = ended(*program, '--help')
    assert said.returncode == 0 and not said.stderr and ('data_dir' if program == BUILD else 'output') in said.stdout
    # Commands stand in the lines of the program's beginning, also those that go on in the next one.
    assert max(map(len, said.stdout.partition('\nflags:')[0].splitlines())) <= 120
