"""From the `ConfigDict` of a command line to a `Config`: typed, frozen and checked. Here ConfigDicts end."""

import re

from ml_collections import ConfigDict

from pvlad_jax.config.combinations import check_combinations
from pvlad_jax.config.fields.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.settings import freeze_section, renamed_fields, short_names


def freeze(config: ConfigDict) -> Config:
    """UserError that names the field: unknown, missing, of a wrong type, out of its range, or in conflict with
    another.
    """
    frozen = freeze_section(Config, config)
    for name in ('erase_area', 'occlusion_area'):
        area = getattr(frozen.augment, name)
        if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
            raise UserError(
                f'config.augment.{name} = {area!r} must be two shares of the picture, the least and the most, '
                'such as (0.02, 0.25).'
            )
    if not re.fullmatch(r'all|(even|every|first):[1-9][0-9]*', frozen.evaluation.frames):
        raise UserError(
            f"config.evaluation.frames = {frozen.evaluation.frames!r} is not 'all', 'even:N', 'every:N' or 'first:N' "
            'with N at least 1.'
        )
    if frozen.profile:
        profiled_steps(frozen.profile)
    check_combinations(frozen)
    return frozen


def profiled_steps(profile: str) -> range:
    """'3:5' -> the steps 3, 4 and 5, counted from 1."""
    first, colon, last = profile.partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f"config.profile = {profile!r} is not 'FIRST:LAST', two step numbers from 1.")
    return range(int(first), int(last) + 1)


def apply_arguments(config: ConfigDict, arguments: str) -> ConfigDict:
    """Sets the fields named in 'pooling=average,parts=0' by their short names.

    ValueError for an unknown name, with the known ones, and for a value that is not of the field's type.
    """
    names = short_names(Config)
    former = {
        old.rpartition('.')[2]: new.rpartition('.')[2]
        for old, new in renamed_fields(Config).items()
        if new in names.values()
    }
    for argument in filter(None, arguments.split(',')):
        name, equals, value = argument.partition('=')
        if name in former:
            raise ValueError(f'Config argument {argument!r}: {name} is now called {former[name]}.')
        if not equals or name not in names:
            raise ValueError(
                f'Config argument {argument!r} is not NAME=VALUE with NAME one of: {", ".join(sorted(names))}.'
            )
        *path, leaf = names[name].split('.')
        node = config
        for part in path:
            node = node[part]
        try:
            node[leaf] = _parsed(value, type(node[leaf]))
        except ValueError as error:
            raise ValueError(
                f'Config argument {argument!r}: config.{names[name]} must be {_KINDS[type(node[leaf])]}.'
            ) from error
    return config


_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number'}


def _parsed(text: str, kind: type) -> bool | int | float | str:
    if kind is not bool:
        return kind(text)
    if text.lower() not in ('1', 'true', 'yes', '0', 'false', 'no'):
        raise ValueError(text)
    return text.lower() in ('1', 'true', 'yes')
