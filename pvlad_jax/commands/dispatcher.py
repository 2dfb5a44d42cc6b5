"""Which subcommands there are, and how each begins and ends.

A subcommand is a module with two functions, imported only when it is asked for:

    def add_arguments(parser: Parser) -> None     description, example and arguments; imports nothing slow
    def run(options: argparse.Namespace) -> None  calls the library; UserError for a user's mistake
"""

import argparse
import errno
import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from pvlad_jax.commands.arguments import Parser
from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError
from pvlad_jax.core.files import disk_full_reason
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.core.terminal import complain, say

PROGRAM = 'python -m pvlad_jax'
# Name: (module, what it does). A new subcommand is a line here.
COMMANDS: dict[str, tuple[str, str]] = {
    'embed': ('pvlad_jax.commands.embed', 'own tracklets, or a video and its tracks -> a table of embeddings'),
    'export_onnx': ('pvlad_jax.commands.export_onnx', 'a trained network -> a file for ONNX Runtime'),
    'gallery': ('pvlad_jax.commands.gallery', 'store embeddings, and search among them'),
    'calibrate': ('pvlad_jax.commands.calibrate', 'find the distance up to which two tracklets are the same person'),
}
# Libraries that only some subcommands need.
EXTRAS = {
    'pyarrow': 'requirements-use.txt',
    'av': 'requirements-video.txt',
    'onnx': 'requirements-onnx.txt',
    'onnxruntime': 'requirements-onnx.txt',
}
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit code: 0; 2 for a user's mistake; 69 for what the machine refuses; 130 for
    Ctrl-C. An exception that is none of these keeps its traceback.

    Args:
      arguments: the subcommand and its arguments; those of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ('-h', '--help', 'help'):
        say(overview())
        return 0 if given else EXIT_USER_ERROR
    name, *rest = given
    if name not in COMMANDS:
        complain(
            f'Error: there is no command {name!r}; choose one of: {", ".join(COMMANDS)}. {PROGRAM} --help '
            'describes them.'
        )
        return EXIT_USER_ERROR
    module = importlib.import_module(COMMANDS[name][0])
    try:
        options = parser_of(name, module).parse_args(rest)
    except SystemExit as left:  # argparse: 0 after --help, 2 after a message
        return int(left.code or 0)
    quiet_libraries()
    return exit_code(lambda: module.run(options))


def overview() -> str:
    """The text of --help."""
    width = max(map(len, COMMANDS), default=0)
    lines = [f'usage: {PROGRAM} COMMAND ...', '']
    lines += [f'  {name:{width}}  {summary}' for name, (_, summary) in COMMANDS.items()]
    return '\n'.join([*lines, '', f'{PROGRAM} COMMAND --help describes a command, with an example.'])


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of a subcommand's arguments."""
    parser = Parser(prog=f'{PROGRAM} {name}')
    module.add_arguments(parser)
    return parser


def exit_code(job: Callable[[], None]) -> int:
    """Does the job and returns the exit code; mistakes and refusals are one message, not a traceback."""
    try:
        job()
    except UserError as error:
        complain(f'Error: {error}')
        return EXIT_ENVIRONMENT if _is_refusal(error.__cause__) else EXIT_USER_ERROR
    except SystemExit as left:  # the subcommand has said how it ended
        return int(left.code or 0)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        complain(f'Error: this needs {error.name}, which is not installed: pip install -r {EXTRAS[error.name]}')
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        complain('Interrupted.')
        return EXIT_INTERRUPTED
    except Exception as error:
        if not (reason := environment_error(error)):
            raise
        complain(f'Error: {reason}')
        return EXIT_ENVIRONMENT
    return 0


def _is_refusal(cause: BaseException | None) -> bool:
    """Whether the machine refused what a message is about: a full disk, no permission."""
    return cause is not None and (disk_full_reason(cause) is not None or getattr(cause, 'errno', None) in _REFUSALS)
