"""Printing that never ends a program: no terminal, encoding or closed pipe comes between a computation and the files it
writes.

`say` and `complain` print a line to standard output and standard error, `console` gives a rich console for tables and
progress. A character that the stream cannot encode is escaped. A stream that cannot be written any more (its reader has
gone, as with `| head -1`, or it is closed) is given up silently: results are in files. What is in no file is printed by
`say_result`, which does not pass over its loss.
"""

import io
import os
import re
import sys
from typing import Any

from pvlad_jax.core.errors import UserError

# Control characters, except line breaks and tabs, and the marks that reverse the direction of text: a name must not
# steer a terminal.
_CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]')


def say(text: str = '') -> bool:
    """Prints a line to standard output, and flushes it. Returns whether it was written."""
    return _write(sys.stdout, printable(text) + '\n') is None


def say_result(result: Any, instead: str = '') -> None:
    """Prints what is kept nowhere else.

    Args:
      result: a text, or what rich prints, such as a table.
      instead: what to do where it is lost.

    Raises:
      UserError: it could not be printed. A reader that has left (`| head -1`) has had what it wanted: no error.
    """
    if isinstance(result, str):
        stream = SafeStream('stdout')
        stream.write(printable(result) + '\n')
    else:
        out = console()
        out.print(result)
        stream = out.file
    if stream.error is not None and not isinstance(stream.error, BrokenPipeError):
        reason = getattr(stream.error, 'strerror', None) or stream.error
        instead = instead or 'Give the command again with a standard output that can be written.'
        raise UserError(
            f'The result could not be printed ({reason}) and is in no file: it is lost. {instead}'
        ) from stream.error


def complain(text: str) -> bool:
    """Prints a line to standard error. Returns whether it was written."""
    return _write(sys.stderr, printable(text) + '\n') is None


def printable(text: object) -> str:
    """The text with its control characters escaped, except line breaks and tabs."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], str(text))


def console(stream: str = 'stdout', **options) -> Any:
    """A rich console that takes names as they are: no markup, no emoji codes, no highlighting.

    Args:
      stream: 'stdout' or 'stderr'.
      options: of rich.console.Console, such as `width`.
    """
    from rich.console import Console

    return Console(file=SafeStream(stream), markup=False, emoji=False, highlight=False, **options)


class SafeStream(io.TextIOBase):
    """The standard stream of this name, whatever it is at the moment, for others to write to. No method raises."""

    def __init__(self, name: str):
        self._name = name
        self.error: Exception | None = None  # of the first text that was not written

    @property
    def written(self) -> bool:
        """Whether everything so far was."""
        return self.error is None

    @property
    def encoding(self) -> str:
        """Rich draws boxes with ASCII where this is not a Unicode encoding."""
        return getattr(getattr(sys, self._name), 'encoding', None) or 'utf-8'

    def write(self, text: str) -> int:
        error = _write(getattr(sys, self._name), text)
        self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        """Every write is flushed."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        try:
            return getattr(sys, self._name).isatty()
        except (AttributeError, ValueError):  # none, or closed
            return False


def _write(stream: Any, text: str) -> Exception | None:
    """Returns why it was not written, None where it was."""
    if stream is None:  # closed before the program began
        return ValueError('the stream is closed')
    try:
        stream.write(_encodable(text, stream))
        stream.flush()
    except BlockingIOError as error:  # a slow reader of a pipe that does not wait: the next line may go through
        return error
    except (OSError, ValueError) as error:  # ValueError: closed by the program
        _give_up(stream)
        return error
    return None


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    try:
        text.encode(encoding, getattr(stream, 'errors', None) or 'strict')
    except UnicodeEncodeError:
        return text.encode(encoding, 'backslashreplace').decode(encoding)
    return text


def _give_up(stream: Any) -> None:
    """What was not written goes nowhere; otherwise Python would try once more when it ends, complain, and leave with
    120.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
    except (OSError, ValueError, AttributeError):  # no file lies behind it
        pass
