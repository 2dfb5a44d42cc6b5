"""A program asks for huge pages once, and where that can matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pvlad_jax.jobs.huge_pages import environment_with_huge_pages

ASKED = {'PATH': '/bin', 'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}


@pytest.mark.parametrize(
    ('environment', 'allowed', 'expected'),
    [
        ({'PATH': '/bin'}, 'always [madvise] never\n', ASKED),
        ({'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=0'}, 'always [madvise] never',
         {'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=0:glibc.malloc.hugetlb=1'}),
        ({'PATH': '/bin'}, '[always] madvise never', None),
        ({'PATH': '/bin'}, 'always madvise [never]', None),
        ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}, 'always [madvise] never', None),
        (ASKED, 'always [madvise] never', None),  # else it would start for ever
    ],
)
def test_the_environment_of_a_start(environment, allowed, expected):
    assert environment_with_huge_pages(environment, allowed) == expected


def test_a_program_keeps_its_arguments_and_its_process(tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(
        'import os, sys\n'
        'print(os.getpid(), flush=True)\n'
        'from pvlad_jax.jobs import huge_pages\n'
        f'huge_pages._ALLOWED = __import__("pathlib").Path({str(tmp_path / "allowed")!r})\n'
        'huge_pages.use_huge_pages()\n'
        'print(sys.argv[1:], sys.flags.optimize, os.environ["GLIBC_TUNABLES"])\n'
    )
    (tmp_path / 'allowed').write_text('always [madvise] never')
    environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'} | {'PYTHONPATH': str(Path(__file__).parents[1])}
    ended = subprocess.run([sys.executable, '-O', program, '--name=a b', ''], capture_output=True, text=True, check=True, env=environment)
    first, second, last = ended.stdout.splitlines()
    assert first == second
    assert last == "['--name=a b', ''] 1 glibc.malloc.hugetlb=1"
