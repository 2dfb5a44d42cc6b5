"""Messages of other libraries that tell a user nothing. Commands call `quiet_libraries`; a program that imports this
decides itself.

What stays: warnings and errors that a user can act on, such as JAX's of a GPU that it has no build for.
"""

import logging
import os
import warnings

from absl import logging as absl_logging


def quiet_libraries() -> None:
    """Keeps messages of other libraries from the terminal.

    May be called again; before JAX is imported it silences XLA's C++ code too.
    """
    # Of XLA: only what ends the process. Its other errors reach us as exceptions, and it also logs as an error that a
    # compilation takes more than two minutes, with the advice to report a bug.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # JAX tells at level INFO of each platform that it has tried ("Unable to initialize backend 'tpu'").
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger('absl').addFilter(_of_a_save)
    logging.getLogger('asyncio').addFilter(_of_a_lost_task)
    # gcsfs names zarr where it is not installed; no file of ours is one of zarr's.
    warnings.filterwarnings('ignore', message='.*zarr', category=RuntimeWarning)


def _of_a_save(record: logging.LogRecord) -> bool:
    """Orbax tells every step of every save, warns of each without metrics (only those after an evaluation have any),
    and tells of a failure first each of its threads; what fails is raised, and reported by us."""
    return 'orbax' not in record.pathname and 'did not provide metrics' not in str(record.msg)


def _of_a_lost_task(record: logging.LogRecord) -> bool:
    return 'exception was never retrieved' not in str(record.msg)
