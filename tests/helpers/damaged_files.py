"""A JSON file damaged in every way, for tests of what reads it."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pvlad_jax.core.errors import UserError

VALUES = (None, -1, 10**400, float('inf'), 'x', [], ['x'], {'x': 3})
TEXTS = {
    'empty': b'',
    'zeros': bytes(64),
    'a list': b'[]',
    'a number': b'3',
    'null': b'null',
    'nested': b'[' * 100_000,
    'nested fields': b'{"a":' * 100_000,
    'many digits': b'{"a": ' + b'9' * 5000 + b'}',
    'UTF-16': '{"a": 3}'.encode('utf-16'),
}


def altered(content: Any) -> Iterator[tuple[str, Any]]:
    """(where and what, the content with one value replaced or left out); of a list, its first element."""
    places = content.items() if isinstance(content, dict) else enumerate(content[:1])
    for key, value in list(places):
        if isinstance(content, dict):
            yield f'no {key}', {name: one for name, one in content.items() if name != key}
        for other in VALUES:
            changed = copy.copy(content)
            changed[key] = other
            yield f'{key}: {other!r:.30}', changed
        if isinstance(value, dict | list):
            for what, inner in altered(value):
                changed = copy.copy(content)
                changed[key] = inner
                yield f'{key}.{what}', changed


def damages(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield from TEXTS.items()
    yield 'cut', whole[: len(whole) // 2]
    yield 'no UTF-8', whole[:10] + b'\xff' + whole[10:]
    for what, content in altered(json.loads(whole)):
        yield what, json.dumps(content).encode()


def told_or_read(path: Path, read: Callable[[], Any], unreadable: str | None, told_of: Any = None) -> None:
    """Whatever the damage, `read` ends well or in a UserError that names the file, or has `told_of`.

    unreadable: what it says, in one line, where the file is none at all; None = nothing: the program can do without.
    """
    whole = path.read_bytes()
    read()
    for what, content in damages(whole):
        path.write_bytes(content)
        try:
            read()
        except UserError as error:
            assert path.name in str(error) or str(told_of) in str(error), (what, error)
            if what in TEXTS or what in ('cut', 'no UTF-8'):
                assert unreadable and re.search(unreadable, str(error)) and '\n' not in str(error), (what, error)
        except Exception as error:
            raise AssertionError(f'{path.name}, {what}: {error!r}') from error
        else:
            assert not unreadable or what not in TEXTS, what
    path.write_bytes(whole)
    read()
