"""Numbers for the cameras of a data set whose folders have arbitrary names."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from data_prep.issues import shortened
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import UNKNOWN_CAMERA

MAX_NUMBER = 2**31 - 1_000_001  # of the int32 in a record, with room for names that are numbered behind
_UNKNOWN = re.compile(r'(?:c|cam|camera)?[_-]?-1|unknown|unk|none|null|nan|n[._-]?a|no[ _-]?cam(?:era)?', re.IGNORECASE)
_NUMBERED = re.compile(r'([^\W\d_]*)[ _-]?(\d+)')
_CAMERA_WORDS = frozenset(['', 'c', 'cam', 'camera'])
_LETTERED = re.compile(r'(?:c|cam|camera)[ _-]?([a-z])|([a-z])', re.IGNORECASE)


@dataclass(frozen=True)
class CameraNumbers:
    """`numbers`: folder name -> camera number, -1 = unknown. `assumed`: a sentence where '0' was ambiguous, else ''."""

    numbers: dict[str, int]
    assumed: str = ''


def number_cameras(
    names: Iterable[str], in_test: Collection[str] = (), given: Mapping[str, int] | None = None
) -> CameraNumbers:
    """Numbers camera folders by their names alone, so that the same folders always get the same numbers.

    'c1', 'cam_1', 'Camera-1' and '1' are 1; any other word before the number does as well where all names have it
    ('view1', 'view2'). 'cam_a' and 'a' are 1, 'b' 2, where no other name has these numbers. 'unknown', 'none' and
    '-1' are unknown. All other names follow in sorted order. Zero ('0', 'c0', 'cam_0') is unknown where it is the
    only number, and where it is in the training set alone, next to cameras that are all in the test set, as in MARS
    ('c0': next to any); else cameras count from 0.

    Arguments:
      names: The folders.
      in_test: Those of them that hold queries or gallery.
      given: Numbers that the user gives, -1 = unknown; several names may have the same.
    Raises UserError where two names read as the same number, and for a given name that does not exist.
    """
    names, given = sorted(set(names)), dict(given or {})
    if absent := sorted(given.keys() - set(names)):
        raise UserError(f'--camera_numbers names {shortened(absent)}, but the camera folders are {shortened(names)}.')
    free = [n for n in names if n not in given]
    numbers = {n: given.get(n, UNKNOWN_CAMERA) for n in names if n in given or _UNKNOWN.fullmatch(n)}
    read = _read_numbers([n for n in free if n not in numbers])
    zeros = [n for n, number in read.items() if number == 0]
    assumed = ''
    if zeros:
        unknown = _zero_is_unknown(read, zeros, in_test)
        assumed = _assumption(zeros, unknown)
        if unknown:
            numbers |= {n: UNKNOWN_CAMERA for n in zeros}
    numbers |= {n: number for n, number in read.items() if n not in numbers}
    _refuse_shared(numbers, given)
    claimed = set(numbers.values())
    lettered = {n: number for n in free if n not in numbers if (number := _letter(n)) is not None}
    if claimed.isdisjoint(lettered.values()) and len(set(lettered.values())) == len(lettered):
        numbers |= lettered
    following = max(numbers.values(), default=0)
    others = [n for n in names if n not in numbers]
    numbers |= {n: max(following, 0) + i for i, n in enumerate(others, 1)}
    return CameraNumbers({n: numbers[n] for n in names}, assumed)


def given_numbers(text: str) -> dict[str, int]:
    """Reads 'c0=unknown,entrance=3' into {'c0': -1, 'entrance': 3}. Raises UserError."""
    numbers = {}
    for part in filter(None, (p.strip() for p in text.split(','))):
        name, equals, value = (x.strip() for x in part.rpartition('='))
        known = value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= MAX_NUMBER
        if not name or not equals or not (known or value.lower() in ('unknown', '-1')):
            raise UserError(
                f'--camera_numbers: {part!r} is not FOLDER=NUMBER or FOLDER=unknown, such as '
                "--camera_numbers='c0=unknown,entrance=3'."
            )
        if name in numbers:
            raise UserError(f'--camera_numbers names {name!r} twice.')
        numbers[name] = int(value) if known else UNKNOWN_CAMERA
    return numbers


def camera_notes(cameras: CameraNumbers) -> Iterable[str]:
    """How each folder name was understood."""
    known = {n: i for n, i in cameras.numbers.items() if i != UNKNOWN_CAMERA}
    unknown = [n for n, i in cameras.numbers.items() if i == UNKNOWN_CAMERA]
    listed = ', '.join(f'{n} = {i}' for n, i in sorted(known.items(), key=lambda item: (item[1], item[0])))
    parts = [listed, f'{", ".join(unknown)} = unknown' if unknown else '']
    yield f'Cameras: {"; ".join(filter(None, parts))}.{" No camera is known." if not known else ""}'
    if cameras.assumed:
        yield cameras.assumed


def _read_numbers(names: list[str]) -> dict[str, int]:
    matches = {n: m for n in names if (m := _NUMBERED.fullmatch(n)) and int(m[2]) <= MAX_NUMBER}
    words = {m[1].lower() for m in matches.values()}
    one_word = len(words - _CAMERA_WORDS) == 1 and not words & _CAMERA_WORDS
    return {n: int(m[2]) for n, m in matches.items() if one_word or m[1].lower() in _CAMERA_WORDS}


def _zero_is_unknown(read: dict[str, int], zeros: list[str], in_test: Collection[str]) -> bool:
    others = {n for n in read if n not in zeros}
    if not others:
        return True
    if any(z in in_test for z in zeros):
        return False
    # In training only. As in MARS: every other camera is in the test set too, so that zero is what the others are not.
    return others <= set(in_test) or all(re.fullmatch(r'c0+', z, re.IGNORECASE) for z in zeros)


def _assumption(zeros: list[str], unknown: bool) -> str:
    zero = zeros[0]
    if unknown:
        return f'{zero!r} is taken as an unknown camera. If it is a camera: --camera_numbers={zero}=0'
    return f'{zero!r} is taken as a camera: cameras count from 0. If it means unknown: --camera_numbers={zero}=unknown'


def _letter(name: str) -> int | None:
    match = _LETTERED.fullmatch(name)
    return ord((match[1] or match[2]).lower()) - ord('a') + 1 if match else None


def _refuse_shared(numbers: Mapping[str, int], given: Mapping[str, int]) -> None:
    claimed: dict[int, str] = {}
    for name, number in numbers.items():
        other = claimed.setdefault(number, name)
        if number == UNKNOWN_CAMERA or other == name or (name in given and other in given):
            continue
        raise UserError(
            f'Camera folders {other!r} and {name!r} both read as camera {number}. If they are one camera: '
            f'--camera_numbers={other}={number},{name}={number}; if they are two, give them two numbers there, '
            'or rename one.'
        )
