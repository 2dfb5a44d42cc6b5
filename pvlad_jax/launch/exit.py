"""How a job ends: every mistake of the user's in one message, every other end with a code of its own, and no process
left waiting.
"""

import sys
import traceback
from collections.abc import Callable

from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_USER_ERROR, UserError
from pvlad_jax.core.terminal import complain
from pvlad_jax.launch import distributed, preemption


def unraisable(late) -> None:
    """Of a save that failed, TensorStore's threads still report their parts to an event loop that Orbax has closed: of
    no use to a user.
    """
    error = late.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == 'Event loop is closed'):
        sys.__unraisablehook__(late)


def exit_code(job: Callable[[preemption.StopRequest], None]) -> int:
    """Does the job and returns the exit code. An unexpected exception keeps its traceback."""
    sys.unraisablehook = unraisable
    with preemption.listening() as stop:
        try:
            job(stop)
        except UserError as error:
            return _end(f'Error: {error}', EXIT_USER_ERROR)
        except preemption.Preempted as error:
            complain(str(error))
            distributed.finish()
            return EXIT_PREEMPTED
        except KeyboardInterrupt:
            return _end(f'Interrupted. {stop.what_follows()}', EXIT_INTERRUPTED)
        except Exception as error:
            # With several processes a broken connection means that another one is gone.
            reason = (
                None
                if distributed.is_multiprocess() and distributed.is_peer_failure(error)
                else environment_error(error)
            )
            if reason:
                return _end(f'Error: {reason}', EXIT_USER_ERROR)
            if not distributed.is_multiprocess():
                raise
            if distributed.is_peer_failure(error):
                distributed.abort_peer_lost(error)
            traceback.print_exc()
            distributed.abort_run(f'{type(error).__name__}: {error}', 1)
    distributed.finish()
    return 0


def _end(message: str, code: int) -> int:
    if distributed.is_multiprocess():
        distributed.abort_run(message, code)
    complain(message)
    return code
