"""The type checks of the tests: jaxtyping's import hook (conftest.py) has every function and dataclass of both packages
checked by beartype.
"""

import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

CHECKED = ['pvlad_jax', 'data_prep']

# An int serves as a float, as PEP 484 says and as type checkers read it.
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_jaxtyped = jaxtyping.jaxtyped
_waiting: dict[int, Callable] = {}  # by id: what makes the check of a function of a module that was not called yet
unchecked: set[str] = set()  # functions with an annotation whose name only a type checker imports


def install() -> None:
    """To be called before anything imports the packages."""
    hook = sys.modules[install_import_hook.__module__]
    hook.cache_from_source = _bytecode
    # What the hook writes above each definition. jaxtyping's own makes two checked functions of each when it is
    # defined, which is half of the time of importing the packages, and calls both around the third.
    jaxtyping.jaxtyped = _decorator
    install_import_hook(CHECKED, None)


def make_all() -> None:
    """Makes the checks of all functions that were defined and not called yet: an annotation that cannot be checked is
    an error.
    """
    for make in list(_waiting.values()):
        make()


def _decorator(*, typechecker: None) -> Callable:
    return _checked


def _checked(defined):
    """The function with its annotations checked, from its first call on; a dataclass, with those of its fields."""
    if inspect.isclass(defined):
        written_out = not hasattr(defined.__init__, '__wrapped__')  # one that is written has its own check
        if dataclasses.is_dataclass(defined) and written_out and not getattr(defined, '__no_type_check__', False):
            defined.__init__ = _checked(defined.__init__)
        return defined
    if not defined.__annotations__:
        return defined
    checked = None

    def make() -> None:
        nonlocal checked
        _waiting.pop(id(make), None)
        _forget_unknown_names(defined)
        if inspect.isgeneratorfunction(defined):  # what it returns is checked, not each value
            checked = _jaxtyped(defined, typechecker=_beartype)
        elif _has_shapes(defined):  # a call is a scope of the letters of shapes
            checked = _jaxtyped(_beartype(defined), typechecker=None)
        else:
            checked = _beartype(defined)

    @functools.wraps(defined)
    def call(*arguments, **named):
        if checked is None:
            make()
        return checked(*arguments, **named)

    if '<locals>' not in defined.__qualname__:
        _waiting[id(make)] = make
    return call


def _forget_unknown_names(function: Callable) -> None:
    """Leaves out annotations of names that only a type checker imports, such as classes of an optional package. A name
    that is misspelled looks alike: tests/test_annotations.py lists those that may be left out.
    """
    for name, hint in list(function.__annotations__.items()):
        if isinstance(hint, str):
            try:
                eval(hint, function.__globals__)
            except NameError:
                del function.__annotations__[name]
                unchecked.add(f'{function.__module__}.{function.__qualname__}')


def _has_shapes(function: Callable) -> bool:
    hints = typing.get_type_hints(function)
    return any(inspect.isclass(part) and part.__module__.startswith('jaxtyping') for part in _parts(hints.values()))


def _parts(hints) -> Iterator[Any]:
    for hint in hints:
        yield hint
        yield from _parts(hint if isinstance(hint, list) else typing.get_args(hint))


def _bytecode(path, debug_override=None, *, optimization=None) -> str:
    """Where Python finds a module's bytecode.

    The hook names it after the type checker for as long as a module of ours is executed, and so for all that this
    module imports: JAX, Orbax and a thousand modules more would be compiled from their sources in every session, or
    have a second bytecode.
    """
    ours = Path(path).parts[: len(_ROOT.parts) + 1] in _FOLDERS
    return cache_from_source(path, debug_override, optimization=optimization if ours else '')


_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = {(*_ROOT.parts, name) for name in CHECKED}
