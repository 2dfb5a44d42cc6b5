"""What a number in the names of frames could be: its order of the frames, and how much it looks like a frame number.

A frame number is unique in its tracklet, rises in even steps and is early in the name; scores, boxes and positions
repeat, jump and come after it. Each of these rules has exceptions, so costs are added (`Candidate.cost`) over all
tracklets whose names are built alike. The costs are set by hand: tests/test_frame_order.py lists the kinds of names
that they order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from statistics import median
from typing import NamedTuple

from data_prep.sources.frame_names import Field, TimeFields, is_marked, time_fields, time_value

Names = Sequence[tuple[Field, ...]]  # of one tracklet
_FRAME_LABELS = frozenset(
    'f fr frm fn fno frame frames frameno frameid frameidx framenum framenumber img image im '
    'time timestamp ts ms msec pts dji dsc out'.split()
)
_OTHER_LABELS = frozenset(
    'conf confidence score scr prob p sim iou quality q x y w h l cx cy left top right bottom width height '
    'id pid tid track trackid tracklet person cam camera c s box bbox det detection d b of rank view'.split()
)
# Seconds to nanoseconds since 1970.
_EPOCHS = tuple((10**9 * unit, 5 * 10**9 * unit) for unit in (1, 10**3, 10**6, 10**9))
_EVEN = 0.25  # steps within this share of the median step count as even
MARGIN = 2.0  # of cost: another candidate this much worse is no rival
_MAX_REPEATS = 0.3  # share of repeated values up to which a number could be a frame number
_MAX_NUMBERS = 12  # numbers of a name that are looked at
_BLOCK = 4  # frames on average that share the first number of a pair, such as part and frame within the part


class Side(NamedTuple):
    """The digits on one side of the point of a field: of 'shot1.10' those before it, 1, or after it, 10."""

    field: int
    after: bool


Part = int | TimeFields | Side  # int: a field, counted from the left or, where negative, from the right


def part_value(name: tuple[Field, ...], part: Part) -> int | Fraction:
    if isinstance(part, TimeFields):
        value = time_value(name, part)
        if value is None:
            raise ValueError('not a time')
        return value
    if isinstance(part, Side):
        return int(_side(name, part))
    return name[part].value


def _side(name: tuple[Field, ...], part: Side) -> str:
    before, _, after = name[part.field].text.partition('.')
    return after if part.after else before


@dataclass(frozen=True)
class Candidate:
    """Parts of a name by which frames can be sorted, and what they cost.

    Attributes:
      parts: One, or several where the first repeats (part and frame within the part).
      cost: Lower = more like a frame number.
      repeats: Share of frames (0-1) that have the value of another frame of their tracklet.
      uneven: Share of steps (0-1) that differ from the usual step of their tracklet.
      plausible: False for what is named or looks like a score, position or id.
    """

    parts: tuple[Part, ...]
    cost: float
    repeats: float
    uneven: float
    plausible: bool

    def key(self, name: tuple[Field, ...]) -> tuple[int | Fraction, ...]:
        return tuple(part_value(name, p) for p in self.parts)

    @property
    def is_time(self) -> bool:
        return any(isinstance(p, TimeFields) for p in self.parts)

    def fields(self, count: int) -> set[int]:
        """The fields it takes, of a name with `count` of them."""
        return {i for i, _ in self.digits(count)}

    def digits(self, count: int) -> set[tuple[int, bool]]:
        """The same as (field, whether after its point)."""
        taken = set()
        for p in self.parts:
            if isinstance(p, Side):
                taken.add((p.field, p.after))
            else:
                first, last = (p.first, p.last) if isinstance(p, TimeFields) else (p, p + 1)
                taken |= {(i % count, after) for i in range(first, last) for after in (False, True)}
        return taken


def candidates(tracklets: Sequence[Names], aligned: bool) -> list[Candidate]:
    """All that vary within tracklets, best first.

    Arguments:
      tracklets: The fields of each name, by tracklet; only tracklets of two frames and more.
      aligned: Whether all names have the same fields; else they are counted from the left and from the right.
    """
    names = [name for t in tracklets for name in t]
    count = min(min(len(n) for n in names), _MAX_NUMBERS)
    places = list(range(count)) if aligned else [*range(count), *range(-count, 0)]
    varying = [i for i in places if any(len({n[i].value for n in t}) > 1 for t in tracklets)]
    found = []
    for place, first in enumerate(varying):
        singles: list[Part] = [first]
        if aligned and all('.' in n[first].text for n in names):
            singles += [Side(first, after=False), Side(first, after=True)]
        found += [_candidate(tracklets, names, (single,), place, aligned) for single in singles]
        if aligned and _repeated(tracklets, (first,)) and (pair := _in_blocks(tracklets, first, varying[place + 1 :])):
            found.append(_candidate(tracklets, names, pair, place))
    for time in _times(names, count if aligned else 0, varying):
        parts: tuple[Part, ...] = (time,)
        for more in (i for i in varying if i >= time.last):
            if not _repeated(tracklets, parts):
                break
            parts = (*parts, more)
        place = sum(i < time.first for i in varying)
        found.append(_candidate(tracklets, names, parts, place))
    return sorted(found, key=lambda c: c.cost)


def is_rival(other: Candidate, chosen: Candidate, tracklets: Sequence[Names]) -> bool:
    """Whether `other` could be the frame number in place of `chosen` and would give another order.

    A part of a time is none, such as the seconds alone, where the time is written as one or is the more even.
    """
    count = len(tracklets[0][0])
    if other.cost - chosen.cost >= MARGIN or other.repeats > _MAX_REPEATS:
        return False
    if other.digits(count) <= chosen.digits(count):
        names = [n for t in tracklets for n in t]
        weak_time = any(isinstance(p, TimeFields) and not is_marked(names, p) for p in chosen.parts)
        decimal = any(isinstance(p, Side) for p in other.parts)
        if not (weak_time or decimal) or other.uneven > chosen.uneven:
            return False
    return not all(same_order(t, chosen, other) for t in tracklets)


def same_order(names: Names, a: Candidate, b: Candidate) -> bool:
    """Whether b never falls where a rises."""
    ordered = sorted(names, key=a.key)
    return all(b.key(p) <= b.key(q) for p, q in pairwise(ordered))


def _times(names: Names, count: int, varying: Sequence[int]) -> Iterator[TimeFields]:
    taken = -1
    for first in range(count):
        if first < taken:
            continue
        time = time_fields(names, first)
        if time is not None and any(time.first <= i < time.last for i in varying):
            taken = time.last
            yield time


def _repeated(tracklets: Sequence[Names], parts: tuple[Part, ...]) -> float:
    lost = sum(len(t) - len({tuple(part_value(n, p) for p in parts) for n in t}) for t in tracklets)
    return lost / max(1, sum(len(t) - 1 for t in tracklets))


def _in_blocks(tracklets: Sequence[Names], first: int, later: Sequence[int]) -> tuple[Part, ...] | None:
    """(first, second) where the second restarts in each long block of the first: part and frame within the part."""
    blocks = sum(len({n[first].value for n in t}) for t in tracklets)
    if sum(len(t) for t in tracklets) < _BLOCK * blocks:
        return None
    return next(
        ((first, i) for i in later if not _repeated(tracklets, (first, i)) and _repeated(tracklets, (i,))), None
    )


def _candidate(
    tracklets: Sequence[Names], names: Names, parts: tuple[Part, ...], place: int, aligned: bool = True
) -> Candidate:
    steps = [s for t in tracklets if (s := _steps(t, parts))]
    uneven = median(_uneven(s) for s in steps) if steps else 0.3
    repeats = _repeated(tracklets, parts)
    head = parts[0]
    cost = 6 * repeats + 2 * uneven + 0.75 * min(place, 2)
    plausible = True
    if isinstance(head, TimeFields):
        cost -= 1.5 if is_marked(names, head) else 0.5 * (uneven <= _EVEN)
    else:
        texts = whole = [n[head.field if isinstance(head, Side) else head] for n in names]
        if isinstance(head, Side):
            texts = [f._replace(text=_side(n, head)) for f, n in zip(whole, names)]
        # Among varying text a letter or two between digits are no label: the f of a hash.
        labels = {f.label if aligned or not f.before.isalpha() or len(f.label) > 2 else '' for f in texts}
        if labels <= _FRAME_LABELS:
            cost -= 4 if labels <= {'f', 'frame', 'frames'} else 3
        elif labels <= _OTHER_LABELS:
            cost, plausible = cost + 3, False
        if all('.' in f.text and 0 <= f.value <= 1 for f in whole):
            cost, plausible = cost + 3, False
        cost -= _padding(texts) + (1.5 if _is_epoch(texts) else 0)
        cost += 0.5 * any(f.text.startswith('-') for f in texts)
    every = [s for tracklet_steps in steps for s in tracklet_steps]
    cost -= sum(s == 1 for s in every) > 0.8 * len(every)
    cost += 1.5 * (len(parts) > 1 and not isinstance(head, TimeFields))
    return Candidate(parts, cost, repeats, uneven, plausible)


def _steps(names: Names, parts: tuple[Part, ...]) -> list[int | Fraction]:
    """Steps above 0 of the last part, within equal parts before it."""
    keys = sorted({tuple(part_value(n, p) for p in parts) for n in names})
    steps = []
    for _, block in groupby(keys, key=lambda k: k[:-1]):
        steps += [b[-1] - a[-1] for a, b in pairwise(block)]
    return steps


def _uneven(steps: Sequence[int | Fraction]) -> float:
    if len(steps) < 2:
        return 0.3
    usual = median(steps)
    return sum(abs(s - usual) > _EVEN * usual for s in steps) / len(steps)


def _padding(texts: Sequence[Field]) -> float:
    digits = [f.text.lstrip('-') for f in texts]
    widths = {len(d) for d in digits}
    if len(widths) > 1 or not any(d.startswith('0') and len(d) > 1 for d in digits) or any('.' in d for d in digits):
        return 0.0
    return 1.5 if widths.pop() >= 4 else 0.75


def _is_epoch(texts: Sequence[Field]) -> bool:
    return any(all(low <= f.value < high for f in texts) for low, high in _EPOCHS)
