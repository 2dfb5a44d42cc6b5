"""What a field of a configuration may be, by its metadata (`core.settings.setting`): checked, and in words."""

import math
from collections.abc import Mapping
from typing import Any

from pvlad_jax.core.errors import UserError


def check_allowed(value: Any, metadata: Mapping[str, Any], path: str) -> None:
    """UserError where a value is none of its choices, out of its bounds, or no finite number."""
    if metadata['renamed_choices'] and value in metadata['renamed_choices']:
        raise UserError(f'config.{path} = {value!r} is now called {metadata["renamed_choices"][value]!r}.')
    if metadata['choices'] and value not in metadata['choices']:
        raise UserError(f'config.{path} = {value!r} is not one of {", ".join(map(repr, metadata["choices"]))}.')
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f'config.{path} = {value} is not a {"finite " if math.isinf(value) else ""}number.')
    low, above, high, below = (metadata[name] for name in ('at_least', 'above', 'at_most', 'below'))
    inside = (
        (low is None or value >= low)
        and (above is None or value > above)
        and (high is None or value <= high)
        and (below is None or value < below)
    )
    if not inside:
        shown = f'{value:g}' if isinstance(value, float) else repr(value)
        raise UserError(f'config.{path} = {shown} must {_bounds(metadata)}.')


def _bounds(metadata: Mapping[str, Any]) -> str:
    low, above, high, below = (metadata[name] for name in ('at_least', 'above', 'at_most', 'below'))
    if (low is None and above is None) or (high is None and below is None):
        if low == 0:
            return 'not be negative'
        return (
            f'be at least {low}'
            if low is not None
            else f'be above {above}'
            if above is not None
            else (f'be at most {high}' if high is not None else f'be below {below}')
        )
    opening, closing = '[' if above is None else '(', ']' if below is None else ')'
    return f'lie in {opening}{above if low is None else low}, {below if high is None else high}{closing}'


def allowed(metadata: Mapping[str, Any]) -> str:
    """'one of 3d, 2d', 'at least 1', 'in [0, 1)', or '' where anything of the type goes."""
    if metadata['choices']:
        return 'one of ' + ', '.join(repr(c) if c == '' else str(c) for c in metadata['choices'])
    if all(metadata[name] is None for name in ('at_least', 'above', 'at_most', 'below')):
        return ''
    return {'not be negative': 'at least 0'}.get(
        _bounds(metadata), _bounds(metadata).removeprefix('be ').removeprefix('lie ')
    )
