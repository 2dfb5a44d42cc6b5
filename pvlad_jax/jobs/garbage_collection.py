"""Python's garbage collector at the start of a job, when nearly all that is made is there to stay.

A full collection goes through all objects of all modules and traced programs and holds up every thread meanwhile: five of them took 1.2 of
the 11 s from the start of the demo to its first step.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """No collection meanwhile. (A decorator as well.)"""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def frozen_imports() -> Iterator[None]:
    """What is there at the end, imported modules above all, is left out of later collections.

    The first time in a process only: later there is more than modules, and what a former job has left would never be freed.
    """
    with collection_paused():
        yield
        if not gc.get_freeze_count():
            gc.freeze()
