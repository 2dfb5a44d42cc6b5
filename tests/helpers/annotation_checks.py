"""The type checker of the tests: beartype, which jaxtyping's import hook (conftest.py) applies to every function and
dataclass.
"""

import sys
from importlib.util import cache_from_source
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

TYPECHECKER = f'{__name__}.check'
CHECKED = ['pvlad_jax', 'data_prep']

# An int serves as a float, as PEP 484 says and as type checkers read it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """To be called before anything imports the packages."""
    sys.modules[install_import_hook.__module__].cache_from_source = _bytecode
    install_import_hook(CHECKED, TYPECHECKER)


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
