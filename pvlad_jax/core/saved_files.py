"""Files that this program has written and reads again: whatever is wrong with one is said in a sentence.

with reading(path, 'Restore it from a copy.'):
    state = msgspec.convert(json_object(path.read_bytes()), State)

msgspec's errors are ValueErrors that name the place, such as `$.segments[0].rows`.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from pvlad_jax.core.errors import UserError, first_line

# Of fields that are computed with: JSON as Python reads it has integers of any size, NaN and infinities.
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


class Versioned(TypedDict):
    """What is read of a file first: a later version may have other fields."""

    format: Int64


class NoFile(UserError):
    """There is no such file."""


@contextlib.contextmanager
def reading(path: Any, remedy: str, fault: str = 'is damaged') -> Iterator[None]:
    """Around what reads a file: a ValueError in it means that the content is damaged.

    Args:
      remedy: what to do about it, a sentence.
      fault: what is then wrong with the file; the reason follows in brackets.

    Raises:
      NoFile: it is not there.
      UserError: it cannot be read, or is damaged.
    """
    try:
        yield
    except OSError as error:
        kind = NoFile if isinstance(error, FileNotFoundError | NotADirectoryError) else UserError
        raise kind(f'{path} cannot be read ({error.strerror or first_line(error)}). {remedy}') from error
    except ValueError as error:
        raise UserError(f'{path} {fault} ({first_line(error)}). {remedy}') from error


def json_object(content: bytes) -> dict[str, Any]:
    """The fields of an object in JSON. ValueError, with the reason, where it is damaged or no object."""
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f'byte {error.start} is no UTF-8') from error
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
    if not isinstance(value, dict):
        raise ValueError(f'it holds no fields, but a value of type {type(value).__name__}')
    return value
