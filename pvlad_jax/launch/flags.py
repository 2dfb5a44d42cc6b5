"""Mistakes on the command line, told in one message: unknown flags and fields, wrong types, configuration files that do not load."""

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import flags
from ml_collections import ConfigDict

from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.terminal import complain


def parse_flags(required: Sequence[str], fields: ConfigDict) -> Callable[[list[str]], list[str]]:
    """A parser for `absl.app.run`. It ends the program with a message where the flags are wrong; --help is absl's own.

    `fields`: a configuration with all fields there are, for advice.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            argv = [_expanded_config(a) for a in argv]
            rest = flags.FLAGS(argv)
            if any(flags.FLAGS[name].value for name in ('help', 'helpfull', 'helpshort') if name in flags.FLAGS):
                return rest
            if len(rest) > 1:
                raise flags.Error(f'Unknown argument {rest[1]!r}; flags begin with --.')
            missing = [f'--{name}=...' for name in required if flags.FLAGS[name].value is None]
            if missing:
                raise flags.Error(f'{" and ".join(missing)} must be given.')
            flags.FLAGS.config.items()  # a file that did not load speaks up only when it is looked at
            return rest
        except (flags.Error, AttributeError, KeyError, OSError, UserError) as error:
            complain(f'Error: {_explain(error, argv, fields)}')
            sys.exit(EXIT_USER_ERROR)

    return parse


def given_fields(argv: Sequence[str], short_names: Mapping[str, str]) -> list[str]:
    """The fields that a command line sets, by path: by --config.PATH=VALUE, or by NAME=VALUE after the configuration's name."""
    fields = []
    for argument in argv:
        flag, _, value = argument.lstrip('-').partition('=')
        if flag == 'config':
            names = (a.partition('=')[0] for a in value.partition(':')[2].split(','))
            fields += [short_names[name] for name in names if name in short_names]
        elif argument.startswith('-') and flag.startswith('config.'):
            fields.append(flag[len('config.'):])
    return fields


def _expanded_config(argument: str) -> str:
    """--config=~/mine.py:twins with the home folder in full, as for every other path."""
    flag, equals, path = argument.partition('=')
    return f'{flag}={user_path(path)}' if flag == '--config' and equals and path.startswith('~') else argument


def _explain(error: Exception, argv: Sequence[str], fields: ConfigDict) -> str:
    text = str(error)
    if isinstance(error, AttributeError | KeyError):  # from ml_collections: the last part of an unknown field's path
        return _unknown_field(re.search(r'\w+', text)[0], argv, fields)
    if 'Failed loading config file' in text or 'No such file' in text:
        files = [a.partition('=')[2] for a in argv if a.startswith('--config=')]
        return f'The configuration {files[-1] if files else ""} cannot be loaded: there is no such file. See configs/.'
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if 'Traceback' in text:  # an exception inside a configuration file: its own words
        return lines[-1].partition(': ')[2] or lines[-1]
    return ' '.join(lines)


def _unknown_field(name: str, argv: Sequence[str], fields: ConfigDict) -> str:
    given = [a.partition('=')[0][len('--config.'):] for a in argv if a.startswith('--config.')]
    field = next((g for g in given if name in g.split('.')), name)
    known = list(_fields(fields, ''))
    near = difflib.get_close_matches(field, known, n=3) or [k for k in known if k.rpartition('.')[2] == field.rpartition('.')[2]]
    meant = f' Did you mean {" or ".join(near)}?' if near else ''
    return f'Unknown config field {field!r}.{meant} configs/default.py lists all fields with their meaning.'


def _fields(node: ConfigDict, prefix: str) -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f'{prefix}{name}.')
        else:
            yield prefix + name
