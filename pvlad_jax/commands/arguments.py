"""Arguments of subcommands: mistakes in one sentence, and the types that several of them share."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from pvlad_jax.core import terminal
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.paths import user_path


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps the lines of its description, and whose error is one sentence and exit code 2."""

    def __init__(self, **options: Any):
        super().__init__(**{'allow_abbrev': False, 'formatter_class': argparse.RawDescriptionHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        terminal.complain(f'Error: {message.rstrip(".")}. {self.prog} --help describes the arguments.')
        raise SystemExit(EXIT_USER_ERROR)

    def _print_message(self, message: str, file: Any = None) -> None:
        terminal.say(message.rstrip('\n'))


def disk_path(text: str) -> Path:
    """For `add_argument(type=...)`: an absolute path on a disk; '~' is the home folder."""
    try:
        return user_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """For `add_argument(type=...)`: a whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 1')
    return number
