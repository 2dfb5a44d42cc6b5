"""The dispatcher: every command explains itself, and every end has its exit code and one sentence."""

import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pvlad_jax.commands import dispatcher
from pvlad_jax.core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize('name', dispatcher.COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    assert dispatcher.main([name, '--help']) == 0
    text = capsys.readouterr().out
    assert f'python -m pvlad_jax {name} ' in text.partition('\n')[2] and dispatcher.COMMANDS[name][1]
    assert name in dispatcher.overview()


def test_no_command_and_unknown_commands_are_mistakes(capsys):
    assert dispatcher.main([]) == 2 and 'usage' in capsys.readouterr().out
    assert dispatcher.main(['--help']) == 0 and 'usage' in capsys.readouterr().out
    assert dispatcher.main(['serach']) == 2 and "no command 'serach'" in capsys.readouterr().err


def test_unknown_arguments_are_one_sentence(capsys):
    for name in dispatcher.COMMANDS:
        assert dispatcher.main([name, '--nonsense=1']) == 2
        error = capsys.readouterr().err
        assert error.startswith('Error: ') and error.count('\n') == 1


def cannot_write(number, path):
    try:
        raise OSError(number, os.strerror(number), str(path))
    except OSError as error:
        raise UserError(f'{path} cannot be written ({error}).') from error


def refuse(error):
    raise error


@pytest.mark.parametrize(
    ('job', 'code', 'says'),
    [
        (lambda: refuse(UserError('Not so.')), 2, 'Error: Not so.'),
        (lambda: refuse(PermissionError(13, 'Permission denied', 'x')), 69, 'Error: x cannot be used'),
        (lambda: cannot_write(errno.ENOSPC, 'x'), 69, 'Error: x cannot be written'),
        (lambda: cannot_write(errno.EROFS, 'x'), 69, 'Error: x cannot be written'),
        (lambda: cannot_write(errno.EACCES, 'x'), 69, 'Error: x cannot be written'),
        (lambda: cannot_write(errno.EPERM, 'x'), 69, 'Error: x cannot be written'),
        (lambda: cannot_write(errno.EISDIR, 'x'), 2, 'Error: x cannot be written'),
        (lambda: refuse(ModuleNotFoundError('', name='pyarrow')), 2, 'Error: this needs pyarrow'),
        (lambda: refuse(KeyboardInterrupt()), 130, 'Interrupted'),
        (lambda: None, 0, ''),
    ],
)
def test_every_end_has_its_exit_code_and_one_sentence(job, code, says, capsys):
    assert dispatcher.exit_code(job) == code
    error = capsys.readouterr().err
    assert error.startswith(says) and error.count('\n') <= 1


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        dispatcher.exit_code(lambda: 1 // 0)


def test_help_imports_no_jax():
    code = (
        'import sys; from pvlad_jax.commands import dispatcher\n'
        'for name in dispatcher.COMMANDS: dispatcher.main([name, "--help"])\n'
        'sys.exit("jax" in sys.modules or "pyarrow" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True).returncode == 0


def test_commands_are_modules():
    for module, _ in dispatcher.COMMANDS.values():
        assert {'add_arguments', 'run'} <= set(dir(importlib.import_module(module)))
