"""Times of tracklets: seconds since their source began, or since 1970."""

import datetime
import math

# Smaller numbers are seconds since a source began, of which none lasts three years; the others count from 1970.
LEAST_DATE = 1e8


def seconds(text: str) -> float:
    """A time as the tables count it: a number of seconds, or a date such as 2026-11-25T14:30, as seconds since 1970.

    A date without a time zone is UTC. ValueError where it is neither, or a date before 1973, which cannot be told from
    seconds since a source began.
    """
    try:
        number = float(text)
    except ValueError:
        return date(text)
    if not math.isfinite(number):
        raise ValueError(f'{text} is no time')
    return number


def date(text: str) -> float:
    """As `seconds`, of a date alone."""
    moment = datetime.datetime.fromisoformat(text)
    since_1970 = (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    if since_1970 < LEAST_DATE:
        raise ValueError(f'{text} is before 1973')
    return since_1970


def shown(since: float) -> str:
    """A time of a table for people to read: '12.5 s' since a source began, or a date in UTC."""
    if since < LEAST_DATE:
        return f'{since:.1f} s'
    try:
        return f'{datetime.datetime.fromtimestamp(since, datetime.UTC):%Y-%m-%d %H:%M:%S}'
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return f'{since:.1f} s'
