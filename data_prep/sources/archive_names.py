"""Names of the members of archives as relative posix paths, whatever program wrote them."""

import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pvlad_jax.core.errors import UserError

_UTF8_FLAG = 0x800  # of a zip member: its name is UTF-8, not CP437
_WINDOWS = 0  # create_system of zip: FAT and NTFS


def written_with_backslashes(names: Sequence[str]) -> bool:
    """Whether folders are separated by '\\' (PowerShell 5.1 and .NET): some name has one, and none has '/'."""
    return any('\\' in n for n in names) and not any('/' in n for n in names)


def posix_name(name: str, backslashes: bool) -> str:
    """'./a\\b.jpg' -> 'a/b.jpg'; backslashes stay where they do not separate folders."""
    return (name.replace('\\', '/') if backslashes else name).removeprefix('./')


def zip_names(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """The members' names; those of folders end in '/'.

    macOS writes UTF-8 without saying so; where the bytes are UTF-8, it is read as that.
    """
    everywhere = written_with_backslashes([m.filename for m in members])
    return [posix_name(_decoded(m), everywhere or m.create_system == _WINDOWS) for m in members]


def _decoded(member: zipfile.ZipInfo) -> str:
    if member.flag_bits & _UTF8_FLAG or member.filename.isascii():
        return member.filename
    try:
        return member.filename.encode('cp437').decode()
    except UnicodeError:
        return member.filename


def refuse_escapes(path: Path, members: Iterable[tuple[str, str | None]]) -> None:
    """Raises UserError where a (name, link or None) points outside the archive."""
    outside = [name for name, link in members if _escapes(name) or (link is not None and _escapes(link, name))]
    if outside:
        listed = ', '.join(outside[:20])
        raise UserError(
            f'{path} has members that point outside the archive: {listed}. It is refused; get it from its '
            'official source.'
        )


def refuse_undecodable(source: Path, names: Sequence[str]) -> None:
    """UserError where one of the names is not UTF-8, which Python writes with surrogates."""
    try:
        '/'.join(names).encode()
    except UnicodeEncodeError:
        name = next(n for n in names if any('\ud800' <= c <= '\udfff' for c in n))
        raise UserError(f'{source} has a file whose name is not UTF-8: {os.fsencode(name)!r}. Rename it.') from None


def _escapes(name: str, linked_from: str | None = None) -> bool:
    name = name.replace('\\', '/')
    if name.startswith('/') or name[1:2] == ':':
        return True
    # A symbolic link is relative to its own folder, a hard link to the archive's root: refuse what leaves by either
    # reading.
    depth = 0
    for part in name.split('/'):
        depth += {'..': -1, '.': 0, '': 0}.get(part, 1)
        if depth < (0 if linked_from is None else -linked_from.strip('./').count('/')):
            return True
    return False
