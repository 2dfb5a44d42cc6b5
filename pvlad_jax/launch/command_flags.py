"""Flags of a command without a configuration: mistakes in one sentence, and an end that tells help from a mistake."""

import sys
from collections.abc import Callable, Sequence

from absl import flags

from pvlad_jax.core.errors import EXIT_USER_ERROR
from pvlad_jax.core.terminal import complain


def parse_command_flags(required: Sequence[str] = ()) -> Callable[[list[str]], list[str]]:
    """A parser for `absl.app.run`. It ends the program with a sentence and exit code 2 where the flags are wrong, and
    with 0 after --help; that of absl ends with 1 in both cases.

    Args:
      required: flags that must be given.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = known_flags(argv)
            refuse_missing(required)
            return rest
        except flags.Error as error:
            complain(f'Error: {one_line(error)} --help describes the flags.')
            sys.exit(EXIT_USER_ERROR)

    return parse


def known_flags(argv: list[str], after_help: Callable[[], None] = lambda: None) -> list[str]:
    """Gives the flags their values; what is left is the program's name. After --help, `after_help` and exit code 0.

    Raises flags.Error for an unknown flag, a value that it does not take, and an argument that is no flag.
    """
    try:
        rest = flags.FLAGS(argv)
    except SystemExit:  # absl has printed --help
        after_help()
        sys.exit(0)
    if len(rest) > 1:
        raise flags.Error(f'Unknown argument {rest[1]!r}; flags begin with --.')
    return rest


def refuse_missing(required: Sequence[str]) -> None:
    """flags.Error where one of them has no value."""
    missing = [f'--{name}=...' for name in required if flags.FLAGS[name].value in (None, '')]
    if missing:
        raise flags.Error(f'{" and ".join(missing)} must be given.')


def one_line(error: Exception) -> str:
    """What absl says of a mistake, ending with a full stop."""
    text = ' '.join(line.strip() for line in str(error).splitlines() if line.strip())
    return text if text.endswith(('.', '?')) else f'{text}.'
