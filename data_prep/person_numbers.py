"""Numbers for the people and cameras of a data set whose folders have arbitrary names."""

import re
from collections.abc import Iterable

from pvlad_jax.errors import UserError

UNKNOWN_CAMERA = -1
_UNKNOWN = re.compile(r'(c|cam|camera)?[_-]?0+|unknown|none', re.IGNORECASE)
_NUMBERED = re.compile(r'[a-z]*[_-]?(\d+)', re.IGNORECASE)
_LETTERED = re.compile(r'(?:c|cam|camera)[_-]?([a-z])|([a-z])', re.IGNORECASE)
_LARGEST = 2**31 - 1  # of the int32 in a record


def number_people(names: Iterable[str]) -> dict[str, int]:
    """Returns name -> number from 1. '0042' and '42' keep 42 where no other name claims it; other names follow in sorted order."""
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    others = []
    for name in sorted(set(names)):
        number = int(name) if name.isascii() and name.isdigit() else 0
        if 1 <= number <= _LARGEST - 1_000_000 and number not in taken:
            numbers[name] = number
            taken.add(number)
        else:
            others.append(name)
    following = max(numbers.values(), default=0) + 1
    return numbers | {name: following + i for i, name in enumerate(others)}


def number_cameras(names: Iterable[str]) -> dict[str, int]:
    """Returns name -> number: 'c1', 'cam_1', '1' -> 1; 'cam_a' -> 1; 'c0', 'unknown', 'none' -> -1; others follow in sorted order.

    Raises UserError where two names claim one number.
    """
    numbers: dict[str, int] = {}
    others = []
    for name in sorted(set(names)):
        if _UNKNOWN.fullmatch(name):
            numbers[name] = UNKNOWN_CAMERA
        elif match := _NUMBERED.fullmatch(name):
            numbers[name] = int(match[1])
        elif match := _LETTERED.fullmatch(name):
            numbers[name] = ord((match[1] or match[2]).lower()) - ord('a') + 1
        else:
            others.append(name)
    claimed: dict[int, str] = {}
    for name, number in numbers.items():
        if number == UNKNOWN_CAMERA:
            continue
        if number in claimed:
            raise UserError(f'Camera folders {claimed[number]!r} and {name!r} both read as camera {number}. Rename one of them.')
        if number > _LARGEST - 1_000_000:
            raise UserError(f'The number of camera folder {name!r} is too large. Rename it.')
        claimed[number] = name
    following = max(claimed, default=0) + 1
    return numbers | {name: following + i for i, name in enumerate(others)}
