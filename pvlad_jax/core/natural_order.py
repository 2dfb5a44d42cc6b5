"""Names in the order in which people count: frame 9 before frame 10."""

import re

_DIGITS = re.compile(r'(\d+)')


def natural_key(name: str) -> tuple:
    """For `sorted(key=...)`: runs of digits compare as numbers, all else as text. Names that differ have different
    keys.

    This is an order of any names; which of several numbers in a name is the frame's, it does not ask.
    """
    parts = _DIGITS.split(name)
    return tuple((int(part), '') if i % 2 else (-1, part) for i, part in enumerate(parts)), name
