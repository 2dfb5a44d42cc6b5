"""How a job ends: every mistake of the user's in one message, every other end with a code of its own, and no process left waiting."""

import sys
import traceback
from collections.abc import Callable

from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_USER_ERROR, UserError
from pvlad_jax.core.terminal import complain
from pvlad_jax.launch import distributed as processes
from pvlad_jax.launch import preemption as stop_signal


def unraisable(late) -> None:
    """Of a save that failed, TensorStore's threads still report their parts to an event loop that Orbax has closed: no news to anybody."""
    error = late.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
        sys.__unraisablehook__(late)


def exit_code(job: Callable[[stop_signal.StopRequest], None]) -> int:
    """Does the job and returns the exit code. An exception that nobody expected keeps its traceback."""
    sys.unraisablehook = unraisable
    with stop_signal.listening() as stop:
        try:
            job(stop)
        except UserError as error:
            return _end(f'Error: {error}', EXIT_USER_ERROR)
        except stop_signal.Preempted as error:
            complain(str(error))
            processes.finish()
            return EXIT_PREEMPTED
        except KeyboardInterrupt:
            return _end('Interrupted. The same command goes on from the last checkpoint.', EXIT_INTERRUPTED)
        except Exception as error:
            # With several processes a broken connection means that another one is gone.
            reason = None if processes.several() and processes.means_lost(error) else environment_error(error)
            if reason:
                return _end(f'Error: {reason}', EXIT_USER_ERROR)
            if not processes.several():
                raise
            if processes.means_lost(error):
                processes.lost(error)
            traceback.print_exc()
            processes.fail(f'{type(error).__name__}: {error}', 1)
    processes.finish()
    return 0


def _end(message: str, code: int) -> int:
    if processes.several():
        processes.fail(message, code)
    complain(message)
    return code
