"""Other programs that are run: where one fails, the reason that it gave itself."""

import re
import subprocess
from collections.abc import Sequence

from pvlad_jax.core.errors import UserError

_MAX_CHARACTERS = 600
_COLOURS = re.compile(r'\x1b\[[0-9;]*[A-Za-z]')
# What says that something failed, but not why: frames around the output of a program's own subprocess, pointers to
# other lines, notices.
_NO_REASON = re.compile(
    r'hint:|note:|\[notice\]|\[end of output\]|see above|-{3,}|error: subprocess-exited-with-error|'
    r'error: metadata-generation-failed|For simplicity, JAX has removed|^[\s│╰─>×]*$',
    re.IGNORECASE,
)
_FAULT = re.compile(
    r'\berror\b|\w+(Error|Exception)\b|\bfatal\b|\bfailed\b|did not run|No module named|connection broken',
    re.IGNORECASE,
)


def stated_reason(output: str, lines: int = 3) -> str:
    """The last `lines` lines of a program's error output that say what went wrong, in one line; its last lines where
    none does.
    """
    told = [line.strip(' │╰─>×') for line in _COLOURS.sub('', output).splitlines() if not _NO_REASON.search(line)]
    faults = [line for line in told if _FAULT.search(line)]
    chosen = list(dict.fromkeys(faults or told))[-lines:]
    return '; '.join(chosen)[-_MAX_CHARACTERS:] or 'it gave no reason'


def run_program(command: Sequence[str], what: str, **options) -> subprocess.CompletedProcess[str]:
    """Runs a program and returns its output as text; `options` are those of `subprocess.run`.

    UserError, which begins with `what` (the name that a user knows the program by), where it cannot be started or
    fails.
    """
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors='replace', check=False, **options)
    except OSError as error:
        raise UserError(f'{what} cannot be started ({error}).') from error
    if ended.returncode:
        raise UserError(
            f'{what} failed with exit code {ended.returncode}: {stated_reason(ended.stderr or ended.stdout)}'
        )
    return ended
