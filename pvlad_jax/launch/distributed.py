"""The processes of one run: how they find each other, how they agree, and how all of them end when one does.

Finding each other, and ending together, go through JAX's coordination service; everything else that the processes
exchange are arrays of the mesh.
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from pvlad_jax.core.errors import EXIT_PEER_LOST, EXIT_USER_ERROR, UserError
from pvlad_jax.core.terminal import complain
from pvlad_jax.launch.jax_private import coordination_client, on_tpu_machine, process_count, process_number

MODES = ('auto', 'on', 'off')
# Keys of the coordination service.
FAILED = 'pvlad_jax/failed'  # what ended the run
HEARTBEAT = 'pvlad_jax/alive'  # of each process, a number that keeps rising
STOP = 'pvlad_jax/stop'  # a process was asked to stop
ACKNOWLEDGED = 'pvlad_jax/heard'  # of each process that ends: it no longer needs the coordinator
SHUTDOWN_TIMEOUT = 4.0  # the most seconds for a message to the others, and for their acknowledgements
# In errors of XLA.
_OF_PEERS = re.compile(
    'Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|Connection closed|Connection reset|coordination service|heartbeat'
)


class Processes(NamedTuple):
    """What the flags say. `heartbeat`: seconds without a message after which a process counts as lost."""

    mode: str = 'auto'
    coordinator: str = ''
    num_processes: int = 0
    process_id: int = -1
    heartbeat: int = 60


def is_multiprocess_expected(environ: Mapping[str, str], tpu: bool) -> bool:
    """Whether the surroundings have started this process as one of several: Slurm, Open MPI, a coordinator's address, a
    TPU machine.

    On a TPU machine JAX asks Google's metadata how many there are; a single host is then one process of one.
    """
    counts = (
        environ.get('SLURM_NTASKS', '1') if 'SLURM_PROCID' in environ else '1',
        environ.get('OMPI_COMM_WORLD_SIZE', '1'),
    )
    if any(count.isdecimal() and int(count) > 1 for count in counts):
        return True
    return 'JAX_COORDINATOR_ADDRESS' in environ or (tpu and environ.get('JAX_PLATFORMS', 'tpu').startswith('tpu'))


def start(given: Processes, asked: Callable[[], None] = lambda: None) -> None:
    """Connects this process to the others, where there are any. To be called before JAX is asked for its devices.

    `asked` is called, in a thread, once another process has been asked to stop (`ask_all_to_stop`).

    UserError where the flags do not fit together or the others are not found.
    """
    flags = (bool(given.coordinator), given.num_processes > 0, given.process_id >= 0)
    if any(flags):
        if not all(flags) or given.process_id >= given.num_processes:
            raise UserError(
                '--coordinator=HOST:PORT, --num_processes=N and --process_id=0..N-1 belong together: every process is '
                'given the same first two and a number of its own.'
            )
        if given.mode == 'off':
            raise UserError('--multiprocess=off does not go with --coordinator.')
        where = {
            'coordinator_address': given.coordinator,
            'num_processes': given.num_processes,
            'process_id': given.process_id,
            'cluster_detection_method': 'deactivate',
        }
    elif given.mode == 'on' or (given.mode == 'auto' and is_multiprocess_expected(os.environ, on_tpu_machine())):
        where = {}
    else:
        return
    import jax

    # Where a heartbeat is missing, JAX ends the process with a stack trace of C++. So ours time out first, and
    # there is time to report it.
    jax_heartbeat = int(2 * given.heartbeat + 2 * SHUTDOWN_TIMEOUT)
    # JAX would catch SIGTERM itself and agree on a step one network round later; launch/preemption.py does it for one
    # process and for many.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        jax.distributed.initialize(
            **where,
            heartbeat_timeout_seconds=jax_heartbeat,
            initialization_timeout=300,
            shutdown_timeout_seconds=jax_heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f'The processes of this run did not find each other: {_first_line(error)}. All must be started within five '
            'minutes, with the same --coordinator (a host and free port that all can reach) or by the same Slurm, MPI '
            'or TPU job. A single process needs --multiprocess=off.'
        ) from error
    if is_multiprocess():
        from pvlad_jax import ops

        ops.set_planned_threads(2)  # machines of one run need not be alike, and must compile the same programs
    threading.Thread(target=_abort_with_peers, daemon=True).start()
    threading.Thread(target=_stop_with_peers, args=(asked,), daemon=True).start()
    threading.Thread(target=_send_heartbeats, args=(given.heartbeat,), daemon=True).start()
    if is_first():
        threading.Thread(target=_monitor_heartbeats, args=(given.heartbeat,), daemon=True).start()


def is_multiprocess() -> bool:
    """Does not ask for devices: all processes would have to."""
    return 'jax' in sys.modules and coordination_client() is not None and process_count() > 1


def is_first() -> bool:
    """Process 0 locks, logs and writes reports. Known before devices are."""
    return process_number() == 0


def check_same_on_all(what: str, value: str) -> None:
    """UserError where this process was given something else than process 0."""
    client = coordination_client()
    if client is None:
        return
    if is_first():
        client.key_value_set(f'pvlad_jax/{what}', value)
    elif client.blocking_key_value_get(f'pvlad_jax/{what}', 600_000) != value:
        raise UserError(
            f'Process {process_number()} was given another {what} than process 0. Give all processes the same command.'
        )


def abort_run(message: str, code: int) -> NoReturn:
    """Ends this process, and the others with the same message.

    JAX's own shutdown is left out: it would wait for the others, who may be inside a collective that never ends.
    """
    _finished.set()  # this process need not be notified
    complain(message)
    _tell(FAILED, f'{code} Process {process_number()}: {message}')
    exit_now(code)


def ask_all_to_stop() -> None:
    """Tells the others that this process was asked to stop, wherever they are: they may be in the midst of a long
    evaluation.
    """
    if is_multiprocess():
        _tell(STOP, 'yes')


def exit_now(code: int) -> NoReturn:
    """Ends this process at once; process 0, in which the service runs, once the others have acknowledged the reason."""
    _finished.set()
    if is_multiprocess() and is_first():
        _wait_for_acknowledgements()
    elif is_multiprocess():
        _tell(f'{ACKNOWLEDGED}/{process_number()}', 'yes')
    os._exit(code)  # every line was flushed when it was printed


def _wait_for_acknowledgements() -> None:
    until = time.monotonic() + SHUTDOWN_TIMEOUT
    for number in range(1, process_count()):
        with contextlib.suppress(Exception):  # it is gone already
            coordination_client().blocking_key_value_get(
                f'{ACKNOWLEDGED}/{number}', max(int(1000 * (until - time.monotonic())), 1)
            )
    time.sleep(0.5)  # the others end now; JAX aborts a process whose coordination service goes first


def _tell(key: str, value: str) -> None:
    """Leaves a message with the coordinator, in a thread of its own: the coordinator may be gone or not there yet."""

    def tell() -> None:
        with contextlib.suppress(Exception):  # another process was first
            coordination_client().key_value_set(key, value)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(SHUTDOWN_TIMEOUT)


def abort_peer_lost(error: BaseException) -> NoReturn:
    """Ends this process because another one is gone."""
    abort_run(
        f'Lost the connection to another process of this run ({_first_line(error)}). Give the same command again to '
        'all of them; they resume from the last checkpoint.',
        EXIT_PEER_LOST,
    )


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of XLA comes from a process that is gone, and not from this one's own work."""
    return _OF_PEERS.search(str(error)) is not None


def finish() -> None:
    """Waits for the others to come to their end too."""
    if coordination_client() is not None:
        import jax

        _finished.set()
        jax.distributed.shutdown()


_finished = threading.Event()


def _abort_with_peers() -> None:
    """Waits for the message of a process that fails. The main thread may be inside a collective that never ends."""
    client = coordination_client()
    while not _finished.is_set():
        try:
            code, _, message = client.blocking_key_value_get(FAILED, 10_000).partition(' ')
        except Exception as error:
            if 'DEADLINE_EXCEEDED' in str(error) or 'NOT_FOUND' in str(error):
                continue
            code, message = (
                str(EXIT_PEER_LOST),
                (
                    f'Lost the process that coordinates this run ({_first_line(error)}). Give the same '
                    'command again to all processes; they resume from the last checkpoint.'
                ),
            )
        if not _finished.is_set():
            complain(message)
            exit_now(int(code) if code.isdecimal() else EXIT_USER_ERROR)


def _stop_with_peers(asked: Callable[[], None]) -> None:
    client = coordination_client()
    while not _finished.is_set():
        try:
            client.blocking_key_value_get(STOP, 10_000)
        except Exception as error:
            if 'DEADLINE_EXCEEDED' in str(error) or 'NOT_FOUND' in str(error):
                continue
            return  # the service is gone: _abort_with_peers sees to it
        return asked()


def _send_heartbeats(heartbeat: float) -> None:
    """For as long as this process is there, also while it waits for the others to finish."""
    client, count = coordination_client(), 0
    while True:
        try:
            client.key_value_set(f'{HEARTBEAT}/{process_number()}', str(count), allow_overwrite=True)
        except Exception:  # the service is gone: _abort_with_peers sees to it
            return
        count += 1
        time.sleep(heartbeat / 5)


def _monitor_heartbeats(heartbeat: float) -> None:
    """Process 0 ends the run once another one has been silent for `heartbeat` seconds."""
    client, heard = coordination_client(), {}
    while not _finished.wait(heartbeat / 5):
        try:
            signs = dict(client.key_value_dir_get(HEARTBEAT))
        except Exception:
            continue
        now = time.monotonic()
        for name, sign in signs.items():
            before = heard.setdefault(name, (sign, now))
            if before[0] != sign:
                heard[name] = (sign, now)
            elif now - before[1] > heartbeat and not _finished.is_set():
                abort_run(
                    f'Lost process {name.rsplit("/", 1)[-1]} of this run: no sign of life for {heartbeat:g} s. Give '
                    'the same command again to all processes; they resume from the last checkpoint.',
                    EXIT_PEER_LOST,
                )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))[:300].rstrip('.')
