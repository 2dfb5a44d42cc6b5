"""Mistakes on the command line, reported in one message: unknown flags and fields, wrong types, configuration files
that do not load.
"""

import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from absl import flags

from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.settings import describe, renamed_fields, short_names, working_former_names
from pvlad_jax.core.terminal import complain, say
from pvlad_jax.launch.command_flags import known_flags, refuse_missing


def parse_flags(
    required: Callable[[], Sequence[str]],
    settings: type,
    complete: Callable[[list[str]], list[str]] = lambda argv: argv,
) -> Callable[[list[str]], list[str]]:
    """A parser for `absl.app.run`. It ends the program with a message where the flags are wrong, and with exit code
    0 after --help, which lists the fields behind the flags.

    Args:
      required: which flags must be given; asked once the others have their values.
      settings: the dataclass that a configuration is frozen to.
      complete: adds arguments that follow from others.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            argv = complete([_expanded_config(a) for a in argv])
            rest = known_flags(argv, after_help=lambda: say(field_help(settings)))
            refuse_missing(required())
            flags.FLAGS.config.items()  # a file that did not load raises only when it is read
            for former, present in working_former_names(settings).items():
                if former in given_fields(argv):
                    complain(f'Note: config.{former} is now called config.{present}; its former name still works.')
            return rest
        except (flags.Error, AttributeError, KeyError, OSError, SyntaxError, UserError) as error:
            complain(f'Error: {_explain(error, argv, settings)}')
            sys.exit(EXIT_USER_ERROR)

    return parse


def given_value(argv: Sequence[str], name: str) -> str | None:
    """The value of a flag, from --NAME=VALUE or --NAME VALUE; the last of several, as absl takes it; None where it is
    not given.
    """
    value = None
    for argument, after in zip(argv, [*argv[1:], None]):
        if argument.startswith('-') and argument.lstrip('-').partition('=')[0] == name:
            value = argument.partition('=')[2] if '=' in argument else after
    return value


def field_help(settings: type) -> str:
    """The part of --help on the fields of a configuration: a line each with default, meaning and what is allowed."""
    lines = [
        'fields of the configuration, set by --config.FIELD=VALUE, or by NAME=VALUE after the file '
        '(--config=FILE:NAME=VALUE):',
        '',
    ]
    for d in describe(settings):
        notes = [d.allowed, f'NAME: {d.short}' if d.short else '']
        rest = f' ({"; ".join(filter(None, notes))})' if any(notes) else ''
        lines += [f'  --config.{d.path}={_shown(d.default)}', f'      {d.meaning}{rest}']
    return '\n'.join(lines)


def _shown(default: object) -> str:
    return str(dict(default)) if isinstance(default, Mapping) else str(default)


def given_fields(argv: Sequence[str], settings: type | None = None) -> list[str]:
    """The fields that a command line sets, by path: by --config.PATH=VALUE, or by NAME=VALUE after the configuration's
    name, if `settings` says which short names there are. Paths are the present ones then; otherwise as they are given.
    """
    shorts, present = (short_names(settings), working_former_names(settings)) if settings else ({}, {})
    arguments = (given_value(argv, 'config') or '').partition(':')[2].split(',')
    names = (argument.partition('=')[0] for argument in arguments)
    fields = [shorts[name] for name in names if name in shorts]
    for argument in argv:
        flag = argument.lstrip('-').partition('=')[0]
        if argument.startswith('-') and flag.startswith('config.'):
            fields.append(flag[len('config.') :])
    return [present.get(field, field) for field in fields]


def _expanded_config(argument: str) -> str:
    """--config=~/mine.py:twins with the home folder in full, as for every other path."""
    flag, equals, path = argument.partition('=')
    return f'{flag}={user_path(path)}' if flag == '--config' and equals and path.startswith('~') else argument


def _explain(error: Exception, argv: Sequence[str], settings: type) -> str:
    text = str(error).removeprefix('Configuration is not available because of an earlier failure to load: ')
    if isinstance(error, AttributeError | KeyError):  # from ml_collections: the last part of an unknown field's path
        return _unknown_field(re.search(r'\w+', text)[0], argv, settings)
    cannot_be_loaded = f'The configuration {given_value(argv, "config") or ""} cannot be loaded: '
    if 'Failed loading config file' in text or 'No such file' in text:
        return f'{cannot_be_loaded}there is no such file. See configs/.'
    if isinstance(error, SyntaxError):
        return f'{cannot_be_loaded}it is not Python: {text}. See configs/.'
    if isinstance(error, OSError):
        return f'{cannot_be_loaded}{error.__cause__ or text}.'
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if 'Traceback' in text:  # an exception inside a configuration file: its own words
        return lines[-1].partition(': ')[2] or lines[-1]
    return ' '.join(lines)


def _unknown_field(name: str, argv: Sequence[str], settings: type) -> str:
    given = [a.partition('=')[0][len('--config.') :] for a in argv if a.startswith('--config.')]
    field = next((g for g in given if name in g.split('.')), name)
    for former, present in renamed_fields(settings).items():
        if field in (former, former.rpartition('.')[2]):
            return f'Config field {former!r} is now called {present!r}.'
    known = [d.path for d in describe(settings)]
    near = difflib.get_close_matches(field, known, n=3) or [
        k for k in known if k.rpartition('.')[2] == field.rpartition('.')[2]
    ]
    meant = f' Did you mean {" or ".join(near)}?' if near else ''
    return (
        f'Unknown config field {field!r}.{meant} --help lists all fields with their meaning, as '
        'docs/configuration.md does.'
    )
