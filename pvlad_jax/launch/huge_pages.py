"""Whether the memory of a process on CPUs comes in huge pages: with glibc an environment variable decides, before the
process starts.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SETTING = 'glibc.malloc.hugetlb=1'
KERNEL = Path('/sys/kernel/mm/transparent_hugepage/enabled')


def advice(environment: Mapping[str, str] = os.environ, kernel: Path = KERNEL) -> str | None:
    """How to get huge pages, as a sentence for users; None where they come without asking, or cannot be had by asking.

    A training step of OSNet took 1.4 times as long without them (docs/performance.md).

    Args:
      kernel: the file in which Linux says who gets them; the one word in brackets holds.
    """
    if 'glibc.malloc.hugetlb=' in environment.get('GLIBC_TUNABLES', '') or _glibc() < (2, 35):
        return None  # chosen already; or a C library without the setting
    try:
        asked_for = '[madvise]' in kernel.read_text()
    except OSError:
        return None
    if not asked_for:
        return None
    return f'Steps on this CPU are faster with memory in huge pages: export GLIBC_TUNABLES={SETTING}'


def _glibc() -> tuple[int, ...]:
    """Its version; (0,) where the C library is another."""
    try:
        _, version = os.confstr('CS_GNU_LIBC_VERSION').split()
        return tuple(map(int, version.split('.')))
    except (ValueError, OSError, AttributeError):
        return (0,)
