"""Numbers for the people of a data set whose folders have arbitrary names."""

import re
from collections.abc import Iterable, Mapping

from data_prep.issues import shortened
from data_prep.sources.camera_numbers import MAX_NUMBER
from pvlad_jax.core.labels import DISTRACTOR, JUNK

_JUNK = re.compile(r'0*-1')
_ZERO = re.compile(r'0+')


def number_people(people: Mapping[str, set[str]] | Iterable[str]) -> dict[str, int]:
    """Returns name -> number. '0042' and '42' keep 42 where no other name claims it; other names follow in sorted
    order.

    As in MARS, '-1' and '00-1' are junk (-1), and '0000' and '0' are distractors (0) where they are in the gallery
    alone; with queries or in training, people count from 0 and the folder is a person.

    Arguments:
      people: Name -> roles in which it occurs ('train', 'query', 'gallery'); names without roles are people.
    """
    roles = people if isinstance(people, Mapping) else {}
    numbers: dict[str, int] = {}
    taken: set[int] = set()
    others = []
    for name in sorted(set(people)):
        if name in roles and _JUNK.fullmatch(name):
            numbers[name] = JUNK
            continue
        if _ZERO.fullmatch(name) and roles.get(name) == {'gallery'}:
            numbers[name] = DISTRACTOR
            continue
        number = int(name) if name.isascii() and name.isdecimal() else 0
        if 1 <= number <= MAX_NUMBER and number not in taken:
            numbers[name] = number
            taken.add(number)
        else:
            others.append(name)
    following = max(taken, default=0) + 1
    return numbers | {name: following + i for i, name in enumerate(others)}


def person_notes(people: Mapping[str, int]) -> Iterable[str]:
    """How folder names were understood."""
    kept = [n for n, i in people.items() if n.isascii() and n.isdecimal() and int(n) == i and i > 0]
    given = [f'{n} = {i}' for n, i in people.items() if i > 0 and n not in set(kept)]
    parts = [f'{len(kept)} folders are named by numbers, which are kept ({shortened_few(kept)})'] if kept else []
    parts += [f'{len(given)} others were numbered ({shortened(given)})'] if given else []
    yield f'People: {"; ".join(parts)}.'
    if junk := [n for n, i in people.items() if i == JUNK]:
        yield f'Junk, as in MARS: {", ".join(junk)}. It is neither trained on nor a match nor a mistake.'
    if distractors := [n for n, i in people.items() if i == DISTRACTOR]:
        zero = distractors[0]
        yield (
            f'Distractors, as in MARS: {", ".join(distractors)} (in the gallery alone). They match no query. '
            f'If {zero!r} is one person, rename the folder.'
        )
    if zeros := [f'{n} = {i}' for n, i in people.items() if _ZERO.fullmatch(n) and i > 0]:
        yield f'{", ".join(zeros)}: taken as a person and not as distractors, since it is not in the gallery alone.'


def shortened_few(names: list[str]) -> str:
    """'a, b, ... z'."""
    return ', '.join(names) if len(names) <= 4 else f'{names[0]}, {names[1]}, ... {names[-1]}'
