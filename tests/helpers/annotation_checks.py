"""The type checker of the tests: beartype, which jaxtyping's import hook (conftest.py) applies to every function and
dataclass.
"""

from beartype import BeartypeConf, beartype

TYPECHECKER = f'{__name__}.check'

# An int serves as a float, as PEP 484 says and as type checkers read it.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
