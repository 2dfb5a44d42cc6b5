r"""The order of the frames of each tracklet, from the numbers in their names.

Which number is the frame number is decided once for all tracklets whose names are built alike (frame_candidates.py).
Where another number would give another order and could be meant as well, a note says which one was taken; a pattern
chooses it (`--frame_pattern='frame_(?P<frame>\d+)'`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

from data_prep.sources.frame_candidates import Candidate, Names, candidates, is_rival
from data_prep.sources.frame_names import NUMBER, Field, bare_name, fields, template
from data_prep.sources.frame_order_notes import order_notes, ordinal, shown
from data_prep.sources.frame_suffixes import stem
from pvlad_jax.core.errors import UserError

Key = TypeVar('Key')
Parsed = dict[Key, dict[str, tuple[Field, ...]]]  # tracklet -> path -> the numbers of its name
_MAX_UNEVEN = 0.5  # share of uneven steps up to which a number among varying text still counts as a frame number
_SAMPLE = 10_000  # names that are looked at to choose a number, in whole tracklets; it is then applied to all
_MAX_NUMBER = 2**31 - 1  # of the int32 in a record
_MARKET = re.compile(r'(?:.*_)?c\d+s\d+_(?P<frame>\d+)_\d+')  # Market-1501: 0001_c1s1_000451_03, frame, then box


@dataclass
class FrameOrder:
    """The frames of each tracklet in order.

    Attributes:
      order: Tracklet -> its (number, path) pairs. Numbers are those of the names, or 0, 1, 2 ... for times of day,
        decimals and what int32 cannot hold.
      notes: Sentences for the user: what was taken where that is not certain.
      issues: Names without a frame number, and two frames of a tracklet with the same.
      rules: What was taken as the frame number, one a kind of name.
      taken: The same with an example, of names that hold several numbers and have no note.
    """

    order: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


def frame_pattern(text: str) -> re.Pattern:
    """Compiles a user's pattern. Raises UserError where it is no regular expression with one group `frame`."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f'--frame_pattern={text!r} is not a regular expression: {error}.') from error
    if 'frame' not in pattern.groupindex:
        example = r"'frame_(?P<frame>\d+)'"
        raise UserError(
            f'--frame_pattern={text!r} has no group named frame. Mark the frame number with it, such as {example}.'
        )
    return pattern


def order_frames(tracklets: Mapping[Key, Sequence[str]], pattern: re.Pattern | None = None) -> FrameOrder:
    """Orders the frames of all tracklets.

    Arguments:
      tracklets: Tracklet -> paths of its frames.
      pattern: Searched in each file name; its group `frame` holds the frame number, or the numbers of a time from the
        largest unit to the smallest.
    """
    result = FrameOrder()
    if pattern is not None:
        for key, paths in tracklets.items():
            _put(result, key, _by_pattern(paths, pattern, result.issues))
        result.rules.append(pattern.pattern)
        return result
    groups: dict[str, list[Key]] = {}
    for key, paths in tracklets.items():
        groups.setdefault(_kind([stem(p) for p in paths]), []).append(key)
    for kind, keys in sorted(groups.items()):
        _order_group(kind, {k: tracklets[k] for k in keys}, result)
    return result


def _kind(stems: Sequence[str]) -> str:
    """What names that are built alike share; '~' comes first where the text between numbers varies in the tracklet."""
    if len(stems) == 1:
        return template(stems[0])
    bare = bare_name(stems)
    stems = [s for s in stems if s != bare]
    if len({NUMBER.sub('#', s) for s in stems}) == 1:
        return template(stems[0])
    kinds = {template(s) for s in stems}
    return '~' + (kinds.pop() if len(kinds) == 1 else '')


def _order_group(kind: str, tracklets: dict[Key, Sequence[str]], result: FrameOrder) -> None:
    parsed = {key: _parse(paths, result.issues) for key, paths in tracklets.items()}
    if not kind.startswith('~'):
        _drop_constant_signs(parsed, result.notes)
    several = [list(names.values()) for names in parsed.values() if len(names) > 1]
    chosen = None
    if several:
        sample = several[:: -(-sum(map(len, several)) // _SAMPLE)]
        chosen = _choose(kind, sample, parsed, result)
        if chosen is None:
            return
    for key, names in parsed.items():
        _put(result, key, _sorted(names, chosen, tracklets[key], result.issues))


def _parse(paths: Sequence[str], issues: list[str]) -> dict[str, tuple[Field, ...]]:
    """Path -> the numbers of its name."""
    stems = {p: stem(p) for p in paths}
    names = {p: fields(s) for p, s in stems.items()}
    bare = bare_name(list(stems.values())) if len(paths) > 1 else None
    first = next((p for p, s in stems.items() if s == bare), None)
    if first is not None:  # im.jpg before im2.jpg: the number before the lowest one
        own = len(names[first])
        lowest = min(int(names[p][own].text) for p in paths if p != first)
        if lowest > 0:
            before = next(n[own].before for p, n in names.items() if p != first)
            names[first] = (*names[first], Field(str(lowest - 1), before))
    elif len(paths) > 1:
        for p in [p for p, n in names.items() if not n]:
            issues.append(f'{p} has no frame number')
            del names[p]
    if first is not None and len(names[first]) == 0:
        issues.append(f'{first} has no frame number, while others of its tracklet count from 0')
        del names[first]
    return names


def _drop_constant_signs(parsed: Parsed, notes: list[str]) -> None:
    """A '-' before every one of several numbers is punctuation, as in frame_-1, frame_-2."""
    every = [n for names in parsed.values() for n in names.values()]
    count = min((len(n) for n in every), default=0)
    signs = {i for i in range(count) if all(n[i].text.startswith('-') for n in every)}
    if not signs:
        return
    for names in parsed.values():
        for path, name in names.items():
            names[path] = tuple(f._replace(text=f.text[1:]) if i in signs else f for i, f in enumerate(name))
    if any(len({n[i].value for n in names.values()}) > 1 for names in parsed.values() for i in signs):
        example = next(p for names in parsed.values() for p in names)
        notes.append(
            f"The '-' before the frame number of names such as {_file(example)} is taken as punctuation. "
            r"If all numbers are negative: --frame_pattern='(?P<frame>-\d+)'."
        )


def _choose(kind: str, sample: list[Names], parsed: Parsed, result: FrameOrder) -> Candidate | None:
    """The candidate of the lowest cost; None, with issues, where nothing orders the frames."""
    aligned = not kind.startswith('~')
    paths = {id(n): p for names in parsed.values() for p, n in names.items()}
    found = candidates(sample, aligned)
    market = _market_field(parsed) if aligned else None
    if market is not None:
        found.sort(key=lambda c: c.parts != (market,))
        rivals: list[Candidate] = []
    if not found or (not aligned and (found[0].repeats or (found[0].uneven > _MAX_UNEVEN and found[0].cost > 0))):
        for names in parsed.values():
            if len(names) > 1:
                result.issues.append(
                    f'{_folder(next(iter(names)))}: no number in the names of its frames gives their order '
                    f'({", ".join(_file(p) for p in list(names)[:3])}, ...)'
                )
        return None
    chosen = found[0]
    if market is None:
        rivals = [c for c in found[1:] if is_rival(c, chosen, sample)]
    example = max((n for t in sample[:1] for n in t), key=lambda n: len(n))
    path = paths[id(example)]
    result.rules.append(f'{kind.lstrip("~") or "names of several kinds"}: {ordinal(chosen, example)}')
    notes = list(order_notes(chosen, rivals, sample, example, _file(path), uncertain=not aligned))
    if not notes and len(example) > 1:
        result.taken.append(f'{shown(chosen, example)} of names such as {_file(path)}')
    result.notes += notes
    return chosen


def _market_field(parsed: Parsed) -> int | None:
    """The field of the frame number where all names are Market's."""
    found = set()
    for names in parsed.values():
        for path in names:
            match = _MARKET.fullmatch(stem(path))
            if match is None:
                return None
            found.add(len(fields(stem(path)[: match.start('frame')])))
    return found.pop() if len(found) == 1 else None


def _sorted(
    names: dict[str, tuple[Field, ...]], chosen: Candidate | None, paths: Sequence[str], issues: list[str]
) -> list[tuple]:
    if len(paths) == 1:
        name = fields(stem(paths[0]))
        labelled = [f for f in name if f.label in ('f', 'frame')] or list(name)
        keys = [((labelled[-1].value,) if labelled else (0,), paths[0])]
    else:
        try:
            keys = sorted((chosen.key(name), path) for path, name in names.items())
        except (ValueError, IndexError):
            issues.append(
                f'{_folder(paths[0])}: its names are unlike those of other tracklets, so that their order is not known'
            )
            return []
    return _numbered(keys, issues, plain=chosen is None or not chosen.is_time)


def _by_pattern(paths: Sequence[str], pattern: re.Pattern, issues: list[str]) -> list[tuple]:
    keys = []
    for path in paths:
        match = pattern.search(_file(path))
        numbers = fields(match['frame']) if match and match['frame'] else ()
        if match is None:
            issues.append(f'{path} is not matched by --frame_pattern')
        elif not numbers:
            issues.append(f'{path} has no number in the group frame ({match["frame"]!r})')
        else:
            keys.append((tuple(f.value for f in numbers), path))
    return _numbered(sorted(keys), issues)


def _numbered(keys: list[tuple], issues: list[str], plain: bool = True) -> list[tuple]:
    """(number, path) pairs of sorted (key, path) pairs; issues for equal keys. Numbers are places where not `plain`."""
    for key, same in groupby(keys, key=lambda k: k[0]):
        first, *others = [path for _, path in same]
        number = '-'.join(str(k if isinstance(k, int) else float(k)) for k in key)
        issues += [f'{path} has the frame number {number}, as {_file(first)} has' for path in others]
    plain = plain and all(len(k) == 1 and isinstance(k[0], int) and abs(k[0]) <= _MAX_NUMBER for k, _ in keys)
    return [(int(k[0]) if plain else i, path) for i, (k, path) in enumerate(keys)]


def _put(result: FrameOrder, key: Key, frames: list[tuple]) -> None:
    if frames:
        result.order[key] = frames


def _file(path: str) -> str:
    return path.rpartition('/')[2]


def _folder(path: str) -> str:
    return path.rpartition('/')[0]
