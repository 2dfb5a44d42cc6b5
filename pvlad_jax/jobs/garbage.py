"""Python's search for garbage at the start of a job, when nearly all that is made is there to stay.

Full searches go through all objects of all modules and traced programs and hold up every thread meanwhile: five of them took 1.2 of the
11 s from the start of the demo to its first step.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def searched_later() -> Iterator[None]:
    """No search meanwhile. (A decorator as well.)"""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def never_searched() -> Iterator[None]:
    """What is there at the end is left out of all later searches: for imports."""
    with searched_later():
        yield
        gc.freeze()
