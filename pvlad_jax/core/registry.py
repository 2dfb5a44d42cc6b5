"""Tables of names that a user may choose from."""

from collections.abc import Mapping
from typing import Any

from pvlad_jax.core.errors import UserError


class Registry(dict[str, Any]):
    """Names and what they stand for, in the order in which they are shown.

    Looking up an unknown name raises a UserError that lists the known ones.

    Args:
      field: what the user sets, as messages name it, such as 'config.model.pooling' or '--dataset'.
      entries: a name each.
    """

    def __init__(self, field: str, entries: Mapping[str, Any]):
        super().__init__(entries)
        self.field = field

    def __missing__(self, name: str) -> Any:
        raise UserError(f'{self.field} = {name!r} is unknown; choose one of: {", ".join(self)}.')
