"""Arguments of subcommands: mistakes in one sentence, and the types that several of them share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pvlad_jax.core import terminal, times
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.paths import user_path

_DATE = 'a date such as 2026-11-25T14:30 (from 1973 on; UTC where it names no time zone)'


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
    if not text:  # an unset variable of a shell; as a path it would be the current folder
        raise argparse.ArgumentTypeError('the path is empty')
    try:
        return user_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """For `add_argument(type=...)`: where a file is to be written, judged before the work that it is for begins.

    Args:
      suffixes: those that the name may have; none = any.
    """

    def path(text: str) -> Path:
        given = disk_path(text)
        if suffixes and given.suffix not in suffixes:
            raise argparse.ArgumentTypeError(f'{text} must end in {" or ".join(suffixes)}')
        if given.is_dir():
            raise argparse.ArgumentTypeError(f'{text} is a folder; give a file')
        return given

    return path


def plain_text(text: str) -> str:
    """For `add_argument(type=...)`: a name or label that can be stored, not bytes of another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f'{text!a} has bytes that are not UTF-8. Give it in a terminal whose encoding is UTF-8'
        ) from None
    return text


def time(text: str) -> float:
    """For `add_argument(type=...)`: seconds, or a date as seconds since 1970 (`core.times.seconds`)."""
    try:
        return times.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is neither seconds nor {_DATE}') from error


def date(text: str) -> float:
    """For `add_argument(type=...)`: a date as seconds since 1970 (`core.times.date`)."""
    try:
        return times.date(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!r} is not {_DATE}') from error


def positive(text: str) -> int:
    """For `add_argument(type=...)`: a whole number from 1."""
    return _whole_number(text, 1)


def natural(text: str) -> int:
    """For `add_argument(type=...)`: a whole number from 0."""
    return _whole_number(text, 0)


def _whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from {least}')
    return number
