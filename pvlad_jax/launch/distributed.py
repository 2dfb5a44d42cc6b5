"""The processes of one run: how they find each other, how they agree, and how all of them end when one does.

Everything but finding each other and dying together goes through arrays of the mesh; these two go through JAX's coordination service.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from pvlad_jax.core.errors import EXIT_PEER_LOST, EXIT_USER_ERROR, UserError
from pvlad_jax.core.terminal import complain

MODES = ('auto', 'on', 'off')
# Keys of the coordination service.
FAILED = 'pvlad_jax/failed'  # what ended the run
ALIVE = 'pvlad_jax/alive'  # of each process, a number that keeps rising
STOP = 'pvlad_jax/stop'  # a process was asked to stop
HEARD = 'pvlad_jax/heard'  # of each process that ends: it needs the coordinator no more
FAREWELL = 4.0  # longest that telling the others, or waiting for them to hear, may take, in seconds


class Processes(NamedTuple):
    """What the flags say. `heartbeat`: seconds without a sign of life after which a process counts as lost."""

    mode: str = 'auto'
    coordinator: str = ''
    num_processes: int = 0
    process_id: int = -1
    heartbeat: int = 60


def several_expected(environ: Mapping[str, str], tpu: bool) -> bool:
    """Whether the surroundings have started this process as one of several: Slurm, Open MPI, a coordinator's address, a TPU machine.

    On a TPU machine JAX asks Google's metadata how many there are; a single host is then one process of one.
    """
    counts = (environ.get('SLURM_NTASKS', '1') if 'SLURM_PROCID' in environ else '1', environ.get('OMPI_COMM_WORLD_SIZE', '1'))
    if any(count.isdigit() and int(count) > 1 for count in counts):
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
            raise UserError('--coordinator=HOST:PORT, --num_processes=N and --process_id=0..N-1 belong together: every process is given '
                            'the same first two and a number of its own.')
        if given.mode == 'off':
            raise UserError('--multiprocess=off does not go with --coordinator.')
        where = {'coordinator_address': given.coordinator, 'num_processes': given.num_processes, 'process_id': given.process_id,
                 'cluster_detection_method': 'deactivate'}
    elif given.mode == 'on' or (given.mode == 'auto' and several_expected(os.environ, _is_tpu_machine())):
        where = {}
    else:
        return
    import jax

    # JAX would catch SIGTERM itself and agree on a step one network round later; launch/preemption.py does it for one process and for many.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        # JAX's own heartbeats end a process with a stack trace of C++; ours are heard before.
        jax.distributed.initialize(**where, heartbeat_timeout_seconds=2 * given.heartbeat, initialization_timeout=300,
                                   shutdown_timeout_seconds=2 * given.heartbeat)
    except (ValueError, RuntimeError) as error:
        raise UserError(f'The processes of this run did not find each other: {_first_line(error)}. All must be started within five '
                        'minutes, with the same --coordinator (a host and free port that all can reach) or by the same Slurm, MPI or TPU '
                        'job. A single process needs --multiprocess=off.') from error
    if several():
        from pvlad_jax import ops

        ops.set_planned_threads(2)  # machines of one run need not be alike, and must compile the same programs
    threading.Thread(target=_end_with_the_others, daemon=True).start()
    threading.Thread(target=_stop_with_the_others, args=(asked,), daemon=True).start()
    threading.Thread(target=_show_life, args=(given.heartbeat,), daemon=True).start()
    if is_first():
        threading.Thread(target=_watch_life, args=(given.heartbeat,), daemon=True).start()


def _is_tpu_machine() -> bool:
    """As JAX itself tells, on virtual machines and in GKE: TPU chips on the PCI bus, and libtpu installed."""
    from jax._src import cloud_tpu_init

    return cloud_tpu_init.running_in_cloud_tpu_vm


def _client():
    from jax._src import distributed  # JAX's own multi-host checkpoint library takes it from here too; there is no public name

    return distributed.global_state.client


def several() -> bool:
    """Does not ask for devices: all processes would have to."""
    if 'jax' not in sys.modules:
        return False
    from jax._src import distributed

    return distributed.global_state.client is not None and distributed.global_state.num_processes > 1


def is_first() -> bool:
    """Process 0 locks, logs and writes reports. Known before devices are."""
    from jax._src import distributed

    return distributed.global_state.process_id in (0, None)


def same_everywhere(what: str, value: str) -> None:
    """UserError where this process was given something else than process 0."""
    client = _client()
    if client is None:
        return
    if is_first():
        client.key_value_set(f'pvlad_jax/{what}', value)
    elif client.blocking_key_value_get(f'pvlad_jax/{what}', 600_000) != value:
        raise UserError(f'Process {_number()} was given another {what} than process 0. Give all processes the same command.')


def fail(message: str, code: int) -> NoReturn:
    """Ends this process, and the others with the same message. No farewell: the others may be waiting inside a collective."""
    _finished.set()  # this process need not be told
    complain(message)
    _tell(FAILED, f'{code} Process {_number()}: {message}')
    leave(code)


def ask_all_to_stop() -> None:
    """Tells the others that this process was asked to stop, wherever they are: they may be in the midst of a long evaluation."""
    if several():
        _tell(STOP, 'yes')


def leave(code: int) -> NoReturn:
    """Ends this process at once, the first of several once the others have heard why: the service lives in it."""
    _finished.set()
    if several() and is_first():
        _wait_until_heard()
    elif several():
        _tell(f'{HEARD}/{_number()}', 'yes')
    os._exit(code)  # every line was flushed when it was printed


def _wait_until_heard() -> None:
    from jax._src import distributed

    until = time.monotonic() + FAREWELL
    for number in range(1, distributed.global_state.num_processes):
        with contextlib.suppress(Exception):  # it is gone already
            _client().blocking_key_value_get(f'{HEARD}/{number}', max(int(1000 * (until - time.monotonic())), 1))


def _tell(key: str, value: str) -> None:
    """To whoever asks the coordinator, in a thread of its own: the coordinator may be gone or not there yet."""

    def tell() -> None:
        with contextlib.suppress(Exception):  # somebody else was first
            _client().key_value_set(key, value)

    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(FAREWELL)


def lost(error: BaseException) -> NoReturn:
    """Ends this process because another one is gone."""
    fail(f'Lost the connection to another process of this run ({_first_line(error)}). Give the same command again to all of them; '
         'they go on from the last checkpoint.', EXIT_PEER_LOST)


def means_lost(error: BaseException) -> bool:
    """Whether an error of XLA comes from a process that is gone, and not from this one's own work."""
    text = str(error)
    return any(sign in text for sign in ('Gloo', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'Connection closed', 'Connection reset',
                                         'coordination service', 'NCCL', 'heartbeat'))


def finish() -> None:
    """Waits for the others to come to their end too."""
    if _client() is not None:
        import jax

        _finished.set()
        jax.distributed.shutdown()


_finished = threading.Event()


def _end_with_the_others() -> None:
    """Waits for the message of a process that fails. The main thread may sit in a collective that never ends."""
    client = _client()
    while not _finished.is_set():
        try:
            code, _, message = client.blocking_key_value_get(FAILED, 10_000).partition(' ')
        except Exception as error:
            if 'DEADLINE_EXCEEDED' in str(error) or 'NOT_FOUND' in str(error):
                continue
            code, message = str(EXIT_PEER_LOST), (f'Lost the process that coordinates this run ({_first_line(error)}). Give the same '
                                                  'command again to all processes; they go on from the last checkpoint.')
        if not _finished.is_set():
            complain(message)
            leave(int(code) if code.isdigit() else EXIT_USER_ERROR)


def _stop_with_the_others(asked: Callable[[], None]) -> None:
    client = _client()
    while not _finished.is_set():
        try:
            client.blocking_key_value_get(STOP, 10_000)
        except Exception as error:
            if 'DEADLINE_EXCEEDED' in str(error) or 'NOT_FOUND' in str(error):
                continue
            return  # the service is gone: _end_with_the_others sees to it
        return asked()


def _show_life(heartbeat: float) -> None:
    """For as long as this process is there, also while it waits for the others to finish."""
    client, count = _client(), 0
    while True:
        try:
            client.key_value_set(f'{ALIVE}/{_number()}', str(count), allow_overwrite=True)
        except Exception:  # the service is gone: _end_with_the_others sees to it
            return
        count += 1
        time.sleep(heartbeat / 5)


def _watch_life(heartbeat: float) -> None:
    """Process 0 ends the run once another one has been silent for so many seconds."""
    client, heard = _client(), {}
    while not _finished.wait(heartbeat / 5):
        try:
            signs = dict(client.key_value_dir_get(ALIVE))
        except Exception:
            continue
        now = time.monotonic()
        for name, sign in signs.items():
            before = heard.setdefault(name, (sign, now))
            if before[0] != sign:
                heard[name] = (sign, now)
            elif now - before[1] > heartbeat and not _finished.is_set():
                fail(f'Lost process {name.rsplit("/", 1)[-1]} of this run: no sign of life for {heartbeat:g} s. Give the same command '
                     'again to all processes; they go on from the last checkpoint.', EXIT_PEER_LOST)


def _number() -> int:
    from jax._src import distributed

    return distributed.global_state.process_id or 0


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))[:300].rstrip('.')


class AnyOfUs:
    """Whether any process said yes at a step: the same answer everywhere, without waiting for it when it is asked for."""

    def __init__(self, mesh):
        import jax
        import jax.numpy as jnp

        from pvlad_jax.parallel.mesh import batch_sharding, replicated

        self._alone = jax.process_count() == 1
        self._sharding, self._devices = batch_sharding(mesh), len(mesh.local_devices)
        self._any = jax.jit(jnp.any, out_shardings=replicated(mesh))

    def __call__(self, yes: bool):
        """bool(...) of what is returned is the answer; until it is read nothing waits."""
        if self._alone:
            return yes
        import jax
        import numpy as np

        return self._any(jax.make_array_from_process_local_data(self._sharding, np.full(self._devices, yes)))
