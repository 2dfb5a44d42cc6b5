"""Checkpoints: the state, the place in the data and the configuration, written by Orbax, whole or not at all.

WORKDIR/checkpoints/STEP, on local disk or object storage. A checkpoint restores on any mesh and any number of processes: the arrays are
resharded on reading, and the data iterator's state is the index of the next batch, which is the same for everyone.
"""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from pvlad_jax.config import CheckpointConfig
from pvlad_jax.errors import UserError, no_room

FORMAT = 1  # of what a checkpoint holds; others are refused
BEST_BY = 'mAP'
# On a local disk a step is renamed into this folder before its files are deleted: a kill in the midst leaves no half of a checkpoint.
DELETED = 'deleted'


class Checkpoints:
    """The checkpoints of one run. Saving is asynchronous; `close` waits for it."""

    def __init__(self, directory: Any, config: CheckpointConfig):
        policies = [checkpoint_managers.LatestN(config.keep_latest)]
        if config.keep_best:
            policies.append(checkpoint_managers.BestN(get_metric_fn=lambda m: m[BEST_BY], n=config.keep_best,
                                                      keep_checkpoints_without_metrics=False))
        self.directory = epath.Path(directory)
        self._delete(DELETED, '*.orbax-checkpoint-tmp*')  # a run that was killed in the midst of a save leaves its beginning
        self._manager = ocp.CheckpointManager(self.directory, options=ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies), best_fn=lambda m: m[BEST_BY],
            cleanup_tmp_directories=True, todelete_subdir=DELETED))

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def best(self) -> tuple[int, float] | None:
        """(step, its mAP on the validation people), the last of equals; None where no checkpoint has been scored on any."""
        step = self._manager.best_step()
        return None if step is None else (step, float(self._manager.metrics(step)[BEST_BY]))

    def save(self, step: int, state: Any, data_state: dict, config: dict, metrics: dict[str, float] | None = None) -> None:
        """Returns once the state is copied off the device. `metrics` (of validation) choose the best checkpoints."""
        self._delete()
        about = {'format': FORMAT, 'data': data_state, 'config': config}
        with _disk_errors(self.directory):
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)),
                               metrics=metrics, force=True)

    def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict]:
        """(state, data iterator's state) of a step, by default the last.

        `like` is a state (or its shapes with shardings): structure, shapes and shardings of what is restored. UserError where the
        checkpoint holds another network, is of another format, or cannot be read.
        """
        step = self.latest_step() if step is None else step
        where = self.directory / str(step)
        if step not in self._manager.all_steps():
            raise UserError(f'There is no checkpoint of step {step} in {self.directory}; there are: '
                            f'{", ".join(map(str, self.steps())) or "none"}.')
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        try:
            about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))['about']
            if about.get('format') != FORMAT:
                raise UserError(f'{where} is of checkpoint format {about.get("format")}; this program reads {FORMAT}. '
                                'Use the version of the program that wrote it, or start anew in another --workdir.')
            state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))['state']
        except (ValueError, TypeError, KeyError, OSError) as error:
            first = str(error).strip().splitlines()
            raise UserError(f'The checkpoint {where} does not fit this network or is damaged: {first[0] if first else error!r} ... '
                            'Use the configuration it was made with (config.json in the working directory), remove this step\'s folder '
                            'to go back to the one before, or start anew in another --workdir.') from error
        return state, about['data']

    def wait(self) -> None:
        with _disk_errors(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # it would report the failure of the last save once more
                self._manager.close()
        self._delete()

    def _delete(self, *patterns: str) -> None:
        if jax.process_index() == 0 and '://' not in str(self.directory):
            for pattern in patterns or (DELETED,):
                for folder in self.directory.glob(pattern):
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(where: Any) -> Iterator[None]:
    """Says in one sentence what the disk refused."""
    try:
        yield
    except Exception as error:
        sign = no_room(error)
        if sign:
            raise UserError(f'{sign}: the checkpoint cannot be written to {where}. Earlier checkpoints are intact. '
                            'Make room and give the same command again; it goes on from the last one.') from error
        if isinstance(error, PermissionError):
            raise UserError(f'The checkpoint cannot be written to {where}: {error.strerror}.') from error
        raise
