"""How many threads layouts for XLA:CPU are chosen for."""

import os

# Of XLA:CPU and YNNPACK.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

_planned: int | None = None


def planned_threads() -> int:
    """The number that `set_planned_threads` was given, or this process's own. Another number may choose another layout:
    the same function up to rounding, but another program."""
    return THREADS if _planned is None else _planned


def set_planned_threads(threads: int | None) -> None:
    """For processes of one run, whose machines need not be alike and whose programs must be the same.

    None: as many as there are.
    """
    global _planned
    _planned = threads
