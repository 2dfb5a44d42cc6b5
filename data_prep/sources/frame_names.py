"""The numbers in the name of a frame: its fields, its template, and the points in time that fields make together."""

import datetime
import functools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

# A sign counts where no digit or letter precedes it: '-3', 'frame_-3', but not '12-30' or 'frame-3'.
# A decimal is one dot between digits; '2023.05.01' is three whole numbers.
NUMBER = re.compile(r'(?:(?<![^_ (,=])-)?(?:(?<![\d.])\d+\.\d+(?![\d.])|\d+)')
_LABEL = re.compile(r'([^\W\d_]+)[_\-. :=(]*$')
_LETTERS = re.compile(r'[^\W\d_]+')
_BARE_FOLLOWED = re.compile(r'[ _-]?\(?\d+\)?')
_MICROSECONDS = 1_000_000
_DAY = 86_400 * _MICROSECONDS
_SEPARATOR = re.compile(r'[-_:., ]?|h|m|min|s|\. ')
_MAX_JOINT = 4  # letters between date and time: 'T', '_', ' at '
_FRACTION_DIGITS = (3, 6, 9)  # milliseconds, microseconds, nanoseconds
_YEARS = (1970, 2100)


class Field(NamedTuple):
    """One number of a name: its text, and the text between it and the number before."""

    text: str
    before: str

    @property
    def label(self) -> str:
        """The letters directly before the number, in lower case: 'frame' of 'cam_Frame_0012'; '' for none."""
        word = _LABEL.search(self.before)
        return word[1].lower() if word else ''

    @property
    def value(self) -> int | Fraction:
        return _value(self.text)


@functools.lru_cache(1 << 16)
def _value(text: str) -> int | Fraction:
    return Fraction(text) if '.' in text else int(text)


def fields(stem: str) -> tuple[Field, ...]:
    """The numbers of a name without its extension, from left to right."""
    found, end = [], 0
    for match in NUMBER.finditer(stem):
        found.append(Field(match[0], stem[end : match.start()]))
        end = match.end()
    return tuple(found)


def template(stem: str) -> str:
    """The name with '#' for each number and 'a' for each run of letters: 'anna_0012-x7' -> 'a_#-a#'."""
    return _LETTERS.sub('a', NUMBER.sub('#', stem))


def bare_name(stems: Sequence[str]) -> str | None:
    """The name to which all others add a number, if any: 'im' of im, im2, im3; 'f' of f, f (1), f (2)."""
    shortest = min(stems, key=len)
    others = [s for s in stems if s != shortest]
    same = all(s.startswith(shortest) and _BARE_FOLLOWED.fullmatch(s[len(shortest) :]) for s in others)
    return shortest if others and same and not shortest[-1:].isdecimal() else None


class TimeFields(NamedTuple):
    """Fields `first` to before `last` that are a date, a time of day and a fraction of a second together."""

    first: int
    last: int
    date: tuple[int, ...]  # digits of each field
    time: tuple[int, ...]
    fraction: int  # fields of it: 0 or 1


_DATES = ((4, 2, 2), (2, 2, 4), (8,), ())
_TIMES = ((2, 2, 2), (6,), (2, 2))


def time_fields(names: Sequence[tuple[Field, ...]], first: int) -> TimeFields | None:
    """The longest point in time that begins at this field and is valid in every name; None where there is none."""
    for date in _DATES:
        for time in _TIMES:
            for fraction in (1, 0):
                last = first + len(date) + len(time) + fraction
                shape = TimeFields(first, last, date, time, fraction)
                if len(date) + len(time) + fraction == 1 or last > len(names[0]):  # one number alone orders as it is
                    continue
                if _joined(names[0], shape) and all(time_value(n, shape) is not None for n in names):
                    return shape
    if all(_stamp(n[first].text) is not None for n in names):  # YYYYMMDDHHMMSS, with or without a fraction
        return TimeFields(first, first + 1, (), (14,), 0)
    return None


def is_marked(names: Sequence[tuple[Field, ...]], shape: TimeFields) -> bool:
    """Whether a time is written as programs do: with a date, all digits (09-05-07, not 9-5-7), ':' or 'h' and 'm'."""
    between = {f.before for f in names[0][shape.first + 1 : shape.first + len(shape.time)]}
    if shape.date or between <= {':', 'h', 'm'}:
        return True
    return all(len(f.text.partition('.')[0]) == d for n in names for f, d in zip(n[shape.first :], shape.time))


def _joined(name: tuple[Field, ...], shape: TimeFields) -> bool:
    """Whether the text between the fields is such as is written between parts of a time."""
    before = [f.before for f in name[shape.first : shape.last]]
    clock = len(shape.date)
    parts = before[1:clock] + before[clock + 1 :]
    return all(_SEPARATOR.fullmatch(b) for b in parts) and (not clock or len(before[clock]) <= _MAX_JOINT)


def time_value(name: tuple[Field, ...], shape: TimeFields) -> Fraction | int | None:
    """The point in time in microseconds from an arbitrary start; None where these fields cannot be one."""
    texts = [f.text for f in name[shape.first : shape.last]]
    if shape.time == (14,):
        return _stamp(texts[0])
    date, texts = texts[: len(shape.date)], texts[len(shape.date) :]
    clock, fraction = texts[: len(shape.time)], texts[len(shape.time) :]
    clock[-1], _, decimals = clock[-1].partition('.')
    whole_numbers = not any('.' in t for t in clock)
    if not _fit(clock, shape.time, strict=shape.time == (2, 2)) or (decimals and fraction) or not whole_numbers:
        return None
    days = _days(date, shape.date)
    seconds = _seconds(clock)
    if days is None or seconds is None or (fraction and len(fraction[0]) not in _FRACTION_DIGITS):
        return None
    digits = decimals or (fraction[0] if fraction else '')
    return None if digits and not digits.isdecimal() else _microseconds(days, seconds, digits)


def _stamp(text: str) -> int | Fraction | None:
    whole, _, decimals = text.partition('.')
    if len(whole) not in (14, 17, 20) or (decimals and len(whole) > 14):
        return None
    days, seconds, digits = _days([whole[:8]], (8,)), _seconds([whole[8:14]]), whole[14:] + decimals
    if days is None or seconds is None or not whole.isdecimal():
        return None
    return _microseconds(days, seconds, digits)


def _microseconds(days: int, seconds: int, decimals: str) -> int | Fraction:
    whole = days * _DAY + seconds * _MICROSECONDS
    return whole + Fraction(int(decimals), 10 ** len(decimals)) * _MICROSECONDS if decimals else whole


def _days(texts: Sequence[str], shape: tuple[int, ...]) -> int | None:
    if not shape:
        return 0
    if not _fit(texts, shape, strict=False) or not all(t.isdecimal() for t in texts):
        return None
    if shape == (8,):
        texts = (texts[0][:4], texts[0][4:6], texts[0][6:])
    elif shape == (2, 2, 4):  # day before month, unless that is no date
        texts = (texts[2], texts[1], texts[0]) if int(texts[1]) <= 12 else (texts[2], texts[0], texts[1])
    year, month, day = map(int, texts)
    if not _YEARS[0] <= year <= _YEARS[1]:
        return None
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return None


def _fit(texts: Sequence[str], digits: Sequence[int], strict: bool) -> bool:
    """Whether texts have these lengths; where not strict, two digits may be one, as in 9h05m07s."""
    allowed = [(d,) if strict or d != 2 else (1, 2) for d in digits]
    return len(texts) == len(digits) and all(len(t) in a for t, a in zip(texts, allowed))


def _seconds(clock: Sequence[str]) -> int | None:
    if not all(t.isdecimal() for t in clock):
        return None
    if len(clock) == 1:
        clock = (clock[0][:2], clock[0][2:4], clock[0][4:])
    *hours, minutes, seconds = map(int, clock)
    if minutes > 59 or seconds > 59 or (hours and hours[0] > 23):
        return None
    return (hours[0] * 3600 if hours else 0) + minutes * 60 + seconds
