"""Links to folders, in walks that follow them."""

import os
from pathlib import Path

from pvlad_jax.core.errors import UserError


def refuse_link_above(link: str, root: str) -> None:
    """UserError where `link`, below `root`, leads to a folder that the walk
    to it has come through, or to one above, so that it would never end.
    """
    target, folder = os.path.realpath(link), os.path.dirname(link)
    while True:
        if Path(os.path.realpath(folder)).is_relative_to(target):
            raise UserError(f'{link} is a link to a folder above it. Remove it.')
        if len(folder) <= len(root):
            return
        folder = os.path.dirname(folder)
