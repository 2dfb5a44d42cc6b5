"""Symbolic links in archives: what they lead to stands under their names too, as in the folder that was packed."""

import stat
import zipfile
from bisect import bisect_left
from collections.abc import Mapping
from posixpath import dirname, join, normpath

_UNIX = 3  # create_system of zip


def is_link(member: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is a symbolic link; its content is what it leads to."""
    return member.create_system == _UNIX and stat.S_ISLNK(member.external_attr >> 16)


def follow_links(members: dict[str, tuple], links: Mapping[str, str]) -> dict[str, str]:
    """Adds to the members what links to files and folders of the archive lead to, and returns the other links.

    Arguments:
      members: Name of a file -> where its bytes are.
      links: Name of a link -> what it leads to, from its own folder.
    """
    left = dict(links)
    while True:
        names, waiting = sorted(members), sorted(left)
        for link in waiting:
            target = normpath(join(dirname(link), links[link]))
            if target in members:
                members[link] = members[target]
                del left[link]
            elif not _below(waiting, target):  # else when those are followed
                below = _below(names, target)
                members |= {link + name[len(target) :]: members[name] for name in below}
                if below:
                    del left[link]
        if len(left) == len(waiting):
            return left


def _below(names: list[str], folder: str) -> list[str]:
    """Those of sorted names that lie below a folder."""
    return names[bisect_left(names, f'{folder}/') : bisect_left(names, f'{folder}0')]  # '0' follows '/'
