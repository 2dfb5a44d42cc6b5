"""Files that this program has written and reads again: whatever is wrong with one is said in a sentence.

with reading(path, 'Restore it from a copy.'):
    state = typed(json_object(path.read_bytes()), State)
"""

import contextlib
import dataclasses
import itertools
import json
import reprlib
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from pvlad_jax.core.errors import UserError, first_line


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


def typed(value: Any, kind: Any, name: str = '') -> Any:
    """A value out of JSON as a type; numbers are finite, and integers fit 64 bits.

    Args:
      kind: bool, int, float (for which an integer may stand), str, None, Any, list[...], tuple[...], dict[str, ...],
        unions of these; {'field': kind, 'field?': kind} for objects, where ? marks fields that may be missing and
        others are let through; dataclasses, which are made.
      name: of the value, for the message.

    Raises:
      ValueError: it is of another type, such as "segments[0].rows is 'x'".
    """
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        *others, last = [one for one in inner if (one is types.NoneType) == (value is None)] or inner
        for one in others:
            with contextlib.suppress(ValueError):
                return typed(value, one, name)
        return typed(value, last, name)
    elif origin in (list, tuple) and isinstance(value, list):
        fixed = origin is tuple and ... not in inner
        if not fixed or len(value) == len(inner):
            kinds = inner if fixed else itertools.repeat(inner[0] if inner else Any)
            return origin(typed(one, of, f'{name}[{i}]') for i, (one, of) in enumerate(zip(value, kinds)))
    elif origin is dict and isinstance(value, dict):
        return {key: typed(one, inner[1] if inner else Any, _path(name, key)) for key, one in value.items()}
    elif isinstance(kind, dict) and isinstance(value, dict):
        return {**value, **_fields(value, kind, name)}
    elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
        of = typing.get_type_hints(kind)
        if unknown := sorted(value.keys() - of.keys()):
            raise ValueError(f'{_path(name, unknown[0])} is unknown')
        none = dataclasses.MISSING
        given = {f.name for f in dataclasses.fields(kind) if f.default is not none or f.default_factory is not none}
        return kind(**_fields(value, {f'{key}?' if key in given else key: of[key] for key in of}, name))
    elif kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    elif kind is int and type(value) is int and -(2**63) <= value < 2**63:
        return value
    elif kind is Any or (kind in (bool, str, types.NoneType) and type(value) is kind):
        return value
    raise ValueError(f'{name or "it"} is {reprlib.repr(value)}')


def _fields(value: dict[str, Any], kinds: dict[str, Any], name: str) -> dict[str, Any]:
    found = {}
    for marked, kind in kinds.items():
        key = marked.removesuffix('?')
        if key in value:
            found[key] = typed(value[key], kind, _path(name, key))
        elif key == marked:
            raise ValueError(f'{_path(name, key)} is missing')
    return found


def _path(name: str, key: str) -> str:
    return f'{name}.{key}' if name else key
