"""What operating systems and tools leave in folders and archives, and how a build says that it passed it over."""

import functools
from collections import Counter
from collections.abc import Iterable

# In lower case: Windows, macOS, Synology, QNAP, Linux.
_NAMES = frozenset([
    'thumbs.db', 'ehthumbs.db', 'ehthumbs_vista.db', 'desktop.ini', '$recycle.bin', 'system volume information',
    '__macosx', 'icon\r', '@eadir', '#recycle', '#snapshot', '@tmp', '@recycle', '@__thumb', 'lost+found',
])  # fmt: skip
_KINDS_SHOWN = 8


def is_system_file(path: str) -> bool:
    """Whether a path is hidden, a backup, or left behind by an operating system."""
    folder, _, name = path.rpartition('/')
    return _is_system_name(name) or (folder != '' and _in_system_folder(folder))


def skipped_files_note(paths: Iterable[str]) -> list[str]:
    """A sentence that counts what was skipped, by kind: system files by name, others by suffix; or none."""
    kinds = Counter(_kind(p) for p in paths)
    if not kinds:
        return []
    shown = [kind if n == 1 else f'{kind} ({n:,})' for kind, n in kinds.most_common(_KINDS_SHOWN)]
    more = len(kinds) - len(shown)
    return [f'Passed over, as no frames: {", ".join(shown)}{f" and {more:,} other kinds" if more else ""}.']


@functools.lru_cache(1 << 12)  # files of a folder follow each other
def _in_system_folder(folder: str) -> bool:
    return any(_is_system_name(part) for part in folder.split('/'))


def _is_system_name(part: str) -> bool:
    return (
        part.lower() in _NAMES
        or part.endswith('~')
        or part.startswith('~$')
        or (part.startswith('.') and part not in ('.', '..'))
    )


def _kind(path: str) -> str:
    parts = path.split('/')
    name = next((part for part in parts if _is_system_name(part)), None)
    if name is not None:
        return '._*' if name.startswith('._') else repr(name) if not name.isprintable() else name
    head, dot, tail = parts[-1].rpartition('.')
    return f'*.{tail}' if dot and head else parts[-1]
