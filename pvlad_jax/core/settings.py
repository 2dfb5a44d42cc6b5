"""Configurations as frozen dataclasses whose fields say what they mean and what they may be.

    @dataclass(frozen=True)
    class ClipsConfig:
        frames: int = setting(8, 'T: frames of a clip', at_least=1)

    @dataclass(frozen=True)
    class Config:
        clips: ClipsConfig = section(ClipsConfig)

Everything else is derived from that: the `ConfigDict` that command lines change (`to_config_dict`), its typed and
checked form (`freeze_section`), short names on the command line (`short_names`), what a resumed run may change
(`differences`), and the text of --help and of the documentation (`describe`).
"""

import dataclasses
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

from ml_collections import ConfigDict

from pvlad_jax.core.allowed_values import allowed, check_allowed
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.renaming_config_dict import config_dict_type


def setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    short: str = '',
    resumable: bool = False,
    grows: bool = False,
    renamed_from: str = '',
    former_works: bool = False,
    renamed_choices: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:
    """A field of a configuration.

    A field that is added later needs a default at which nothing changes: runs that were begun without it resume at that
    value.

    Args:
      default: of the type that the field is annotated with; tuples hold numbers; {} for mappings.
      meaning: one clause with unit and source.
      choices: the values it may have; () = any.
      at_least, above, at_most, below: bounds of numbers.
      short: its name as an argument after a configuration file's, such as 'pooling'.
      resumable: whether it may differ when a run is resumed: it says how the run is carried out, not what it computes.
      grows: whether it may be larger when a run is resumed, though never smaller.
      renamed_from: its former path, such as 'training.head_steps': refused in new configurations, read in saved ones.
      former_works: the former path, of the same section, still sets the field in configuration files and on the command
        line, because many of them hold it.
      renamed_choices: {former value: present one}, likewise.
    """
    metadata = {
        'meaning': meaning,
        'choices': choices,
        'at_least': at_least,
        'above': above,
        'at_most': at_most,
        'below': below,
        'short': short,
        'resumable': resumable,
        'grows': grows,
        'renamed_from': renamed_from,
        'former_works': former_works,
        'renamed_choices': renamed_choices,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: types.MappingProxyType(dict(default)), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(kind: type, meaning: str = '', *, resumable: bool = False) -> Any:
    """A field that holds the section `kind`, a dataclass of settings. resumable: holds for all of it."""
    return dataclasses.field(default_factory=kind, metadata={'meaning': meaning, 'resumable': resumable})


class Description(NamedTuple):
    """One field: 'clips.frames', int, 8, 'T: frames of a clip', 'at least 1', '', False, False, ''."""

    path: str
    type: type
    default: Any
    meaning: str
    allowed: str
    short: str
    resumable: bool
    grows: bool
    former: str  # a former path that still works


def describe(kind: type, prefix: str = '', resumable: bool = False) -> Iterator[Description]:
    """Every field of a dataclass of settings and of its sections, in order."""
    for field, hint in _fields(kind):
        path, free = prefix + field.name, resumable or field.metadata['resumable']
        if dataclasses.is_dataclass(hint):
            yield from describe(hint, f'{path}.', free)
        else:
            default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
            yield Description(
                path,
                hint,
                default,
                field.metadata['meaning'],
                allowed(field.metadata),
                field.metadata['short'],
                free,
                field.metadata['grows'],
                field.metadata['renamed_from'] if field.metadata['former_works'] else '',
            )


def short_names(kind: type) -> dict[str, str]:
    """{'pooling': 'model.pooling', ...}: names of arguments after a configuration file's."""
    return {d.short: d.path for d in describe(kind) if d.short}


def to_config_dict(settings: Any) -> ConfigDict:
    """The values of a dataclass of settings as a ConfigDict, whose fields are also reached by those former names that
    still work.
    """
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return config_dict_type(type(settings))(
        {
            name: to_config_dict(value)
            if dataclasses.is_dataclass(value)
            else ConfigDict(dict(value))
            if isinstance(value, Mapping)
            else value
            for name, value in values.items()
        }
    )


def freeze_section(kind: type, node: ConfigDict | Mapping[str, Any], path: str = '') -> Any:
    """A `kind` with the values of a ConfigDict.

    UserError that names the field: unknown, missing, of a wrong type, out of its range.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(kind):
        former = field.metadata.get('renamed_from', '')
        if former and former.removeprefix(path) in node:
            raise UserError(f'config.{former} is now called config.{path}{field.name}.')
    for what, wrong in (('unknown', set(node) - names), ('missing', names - set(node))):
        if wrong:
            raise UserError(
                f'Config: {what} field {", ".join(sorted(path + name for name in wrong))}. '
                f'Fields of config.{path.rstrip(".") or "*"}: {", ".join(sorted(names))}.'
            )
    values = {}
    for field, hint in _fields(kind):
        name, value = field.name, node[field.name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, ConfigDict | Mapping):
                raise UserError(
                    f'config.{path}{name} = {value!r} is a value where fields are needed, such as config.{path}{name}.'
                    f'{dataclasses.fields(hint)[0].name}.'
                )
            values[name] = freeze_section(hint, value, f'{path}{name}.')
        else:
            values[name] = _typed(value, hint, path + name)
            check_allowed(values[name], field.metadata, path + name)
    return kind(**values)


def renamed_fields(kind: type) -> dict[str, str]:
    """{'training.head_steps': 'training.frozen_backbone_steps', ...}: former and present paths."""
    return {metadata['renamed_from']: path for path, metadata in _settings(kind) if metadata['renamed_from']}


def working_former_names(kind: type) -> dict[str, str]:
    """{'batch.people': 'batch.identities', ...}: those former paths that still set a field, and the present ones."""
    return {metadata['renamed_from']: path for path, metadata in _settings(kind) if metadata['former_works']}


def with_first_names(kind: type, flat: Mapping[str, Any]) -> dict[str, Any]:
    """What `flatten` gives, under the names that fields had in the first version: the same in all versions."""
    first = {present: former for former, present in renamed_fields(kind).items()}
    return {first.get(path, path): value for path, value in flat.items()}


def with_present_names(kind: type, saved: Mapping[str, Any]) -> dict[str, Any]:
    """What `flatten` gave in an earlier version, under the names that fields and their choices have now."""
    paths = renamed_fields(kind)
    present = {paths.get(path, path): value for path, value in saved.items()}
    for path, metadata in _settings(kind):
        if metadata['renamed_choices'] and isinstance(present.get(path), str):
            present[path] = metadata['renamed_choices'].get(present[path], present[path])
    return present


def _settings(kind: type, prefix: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, metadata) of every field of a dataclass of settings and of its sections."""
    for field, hint in _fields(kind):
        if dataclasses.is_dataclass(hint):
            yield from _settings(hint, f'{prefix}{field.name}.')
        else:
            yield prefix + field.name, field.metadata


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
    """{'model.parts': 8, ...}, JSON-able."""
    flat = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f'{prefix}{field.name}.')
        elif isinstance(value, Mapping):
            flat[prefix + field.name] = dict(value)
        else:
            flat[prefix + field.name] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(saved: Mapping[str, Any], settings: Any) -> list[str]:
    """'model.parts: 8 before, 4 now' for each field that must not differ between a run and its continuation.

    Args:
      saved: what `flatten` gave when the run was begun; a field that did not exist then counts as its default.
      settings: as they are now.
    """
    known = list(describe(type(settings)))
    free, grow = ({d.path for d in known if getattr(d, which)} for which in ('resumable', 'grows'))
    other = {
        path: values
        for path, values in changes(saved, settings).items()
        if not any(path == f or path.startswith(f'{f}.') for f in free) and not (path in grow and values[0] < values[1])
    }
    return [
        f'{path}: {before!r} before, {now!r} now{" (it may only grow)" if path in grow else ""}'
        for path, (before, now) in other.items()
    ]


def changes(saved: Mapping[str, Any], settings: Any) -> dict[str, tuple[Any, Any]]:
    """{path: (before, now)} of all fields that differ, by path; None = no such field."""
    now, defaults = (
        _as_saved(flatten(settings)),
        _as_saved({d.path: _plain(d.default) for d in describe(type(settings))}),
    )
    before = {**defaults, **saved}
    return {p: (before.get(p), now.get(p)) for p in sorted(set(now) | set(before)) if before.get(p) != now.get(p)}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _as_saved(flat: dict[str, Any]) -> dict[str, Any]:
    """As it looks after a trip through a file."""
    return json.loads(json.dumps(flat))


def _fields(kind: type) -> list[tuple[dataclasses.Field, type]]:
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _typed(value: Any, hint: type, path: str) -> Any:
    if hint is Mapping:
        return types.MappingProxyType(value.to_dict() if isinstance(value, ConfigDict) else dict(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is tuple:
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
            raise UserError(f'config.{path} = {tuple(value)!r} must hold numbers only.')
        return tuple(value)
    if type(value) is not hint:
        raise UserError(f'config.{path} = {value!r} is of type {type(value).__name__}, not {hint.__name__}.')
    return value
