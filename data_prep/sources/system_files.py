"""What operating systems and tools leave in folders and archives, and how a build says that it passed it over."""

import functools
from collections import Counter
from collections.abc import Iterable

from pvlad_jax.core.system_names import is_system_name

_KINDS_SHOWN = 8


def is_system_file(path: str) -> bool:
    """Whether a path is hidden, a backup, or left behind by an operating system."""
    folder, _, name = path.rpartition('/')
    return is_system_name(name) or (folder != '' and _in_system_folder(folder))


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
    return any(is_system_name(part) for part in folder.split('/'))


def _kind(path: str) -> str:
    parts = path.split('/')
    name = next((part for part in parts if is_system_name(part)), None)
    if name is not None:
        return '._*' if name.startswith('._') else repr(name) if not name.isprintable() else name
    head, dot, tail = parts[-1].rpartition('.')
    return f'*.{tail}' if dot and head else parts[-1]
