"""Checkpoints: the state, the place in the data and the configuration, written atomically by Orbax.

WORKDIR/checkpoints/STEP, on local disk or object storage. A checkpoint restores on any mesh and any number of
processes: the arrays are resharded on reading, and the data iterator's state is the index of the next batch, which is
the same for all processes. A state is saved before it is evaluated; what the evaluation found is added to its folder
afterwards (STEP/evaluation.json). What is read is compared with the digests that were written with it.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict, TypeVar

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from pvlad_jax.config import CheckpointConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import disk_full_reason, write_text
from pvlad_jax.core.paths import is_remote
from pvlad_jax.core.saved_files import Finite, Int64, json_object
from pvlad_jax.data.fingerprint import Fingerprint
from pvlad_jax.runs.checkpoint_digests import first_altered, write_digests
from pvlad_jax.runs.kept_checkpoints import LatestAndBest, kept_steps

FORMAT = 2  # of what a checkpoint holds
WITHOUT_AVERAGED_STATISTICS = 1  # the moving average, if any, held the parameters alone; otherwise the same
BEST_BY = 'mAP'
# In a step's folder: {"validation": {"mAP": ...}}, {"failed": "reason"}, both, or {} where it was evaluated and there
# are no people held out for validation.
EVALUATION = 'evaluation.json'
# On a local disk a step is renamed into this folder before its files are deleted: a kill in the midst leaves no half of
# a checkpoint.
DELETED = 'deleted'
_ATTEMPTS = 3  # to read a checkpoint before it is deleted
_Read = TypeVar('_Read')


class _DataState(TypedDict):
    next_index: Int64


class _About(TypedDict):
    data: _DataState
    config: dict
    dataset: NotRequired[Fingerprint | None]


class _Validation(TypedDict, total=False):
    mAP: Finite  # BEST_BY


class _Evaluation(TypedDict, total=False):
    validation: _Validation


class Checkpoints:
    """The checkpoints of one run. Saving is asynchronous; `close` waits for it.

    With `read_only` nothing in the folder is created, changed or deleted, so that checkpoints can be read while another
    process trains.
    """

    def __init__(self, directory: Any, config: CheckpointConfig, read_only: bool = False):
        self.directory, self._config, self._read_only = epath.Path(directory), config, read_only
        self._evaluations: dict[int, dict] = {}
        self._saving: int | None = None
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False)
        else:
            self._delete(DELETED, '*.orbax-checkpoint-tmp*')  # a run that was killed during a save leaves its beginning
            options = ocp.CheckpointManagerOptions(
                preservation_policy=LatestAndBest(self._kept),
                cleanup_tmp_directories=True,
                todelete_subdir=DELETED,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_digests),
            )
        self._manager = ocp.CheckpointManager(self.directory, options=options)
        self._read_evaluations()

    def latest_step(self) -> int | None:
        """The last step that is kept; None where there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps that are kept, rising."""
        return sorted(self._manager.all_steps())

    def reload(self) -> None:
        """Looks at the folder again: another process may have saved and deleted checkpoints."""
        self._manager.reload()
        self._read_evaluations()

    def read_during_training(self, read: Callable[[], _Read]) -> _Read:
        """What `read` returns of these checkpoints; once more where the training that writes them has deleted the one
        that was being read.
        """
        for _ in range(_ATTEMPTS - 1):
            listed = self.steps()
            try:
                return read()
            except UserError:
                self.reload()
                if self.steps() == listed:
                    raise
        return read()

    def evaluation(self, step: int) -> dict | None:
        """What `record_evaluation` was given for a step; None where it has not been evaluated."""
        return self._evaluations.get(step)

    def best(self) -> tuple[int, float] | None:
        """(step, its mAP on the validation people), the last of equals; None where no checkpoint has been scored on
        any."""
        scores = self._scores()
        best = kept_steps(list(scores), scores, latest=0, best=1)
        return next(((step, scores[step]) for step in best), None)

    def save(self, step: int, state: Any, data_state: dict, config: dict, dataset: dict | None = None) -> None:
        """Returns once the state is copied off the device. `dataset`: the fingerprint of the data that it was trained
        on."""
        self._delete()
        about = {'format': FORMAT, 'data': data_state, 'config': config, 'dataset': dataset}
        with _disk_errors(self.directory):
            items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
            self._manager.wait_until_finished()  # a save in progress still needs its own `_saving`
            self._saving = step
            self._manager.save(step, args=items, force=True)

    def _write_digests(self) -> None:
        """Orbax calls this in its thread, in process 0, when all files of a step are there and before it gets its final
        name; in object storage it has that from the beginning and is marked at the end."""
        beginnings = self.directory.glob(f'{self._saving}.orbax-checkpoint-tmp*')
        write_digests(next(iter(beginnings), self.directory / str(self._saving)))

    def record_evaluation(self, step: int, record: dict) -> None:
        """Adds to a saved step what its evaluation found, and deletes the checkpoints that are then no longer among the
        best.

        `record['validation'][BEST_BY]` chooses the best. A step that was not saved is ignored. All processes must call
        it.
        """
        self.wait()
        if step not in self.steps():
            return
        with _disk_errors(self.directory):
            if jax.process_index() == 0:
                write_text(self.directory / str(step) / EVALUATION, json.dumps(record) + '\n')
            self._evaluations[step] = record
            for old in sorted(set(self.steps()) - self._kept(self.steps())):
                self._manager.delete(old)
        self._delete()

    def _scores(self) -> dict[int, float]:
        """Validation mAP of the steps that have one."""
        scores = {step: self._evaluations.get(step, {}).get('validation', {}) for step in self.steps()}
        return {step: float(each[BEST_BY]) for step, each in scores.items() if BEST_BY in each}

    def _kept(self, steps: Sequence[int]) -> set[int]:
        return kept_steps(steps, self._scores(), self._config.keep_latest, self._config.keep_best)

    def _read_evaluations(self) -> None:
        records = {step: _read_evaluation(self.directory / str(step)) for step in self.steps()}
        self._evaluations = {step: record for step, record in records.items() if record is not None}

    def about(self, step: int) -> dict:
        """What a step says of itself: 'format', 'data' (the data iterator's state), 'config', 'dataset'. UserError as
        in `restore`."""
        where = self.directory / str(step)
        with self._damage_reported(where):
            self._check_digests(step, 'about')
            about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))['about']
            if msgspec.convert(about, dict).get('format') not in (WITHOUT_AVERAGED_STATISTICS, FORMAT):
                raise UserError(
                    f'{where} is of checkpoint format {about.get("format")}; this program reads {FORMAT}. '
                    'Use the version of the program that wrote it, or start again in another --workdir.'
                )
            msgspec.convert(about, _About)
        return about

    def restore(self, like: Any, step: int | None = None) -> tuple[Any, dict]:
        """(state, data iterator's state) of a step, by default the last.

        `like` is a state (or its shapes with shardings): structure, shapes and shardings of what is restored. UserError
        where the checkpoint holds another network, is of another format, or cannot be read.
        """
        step = self.latest_step() if step is None else step
        where = self.directory / str(step)
        if step not in self._manager.all_steps():
            raise UserError(
                f'There is no checkpoint of step {step} in {self.directory}; there are: '
                f'{", ".join(map(str, self.steps())) or "none"}.'
            )
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        about = self.about(step)
        if about['format'] == WITHOUT_AVERAGED_STATISTICS and getattr(like, 'ema', None) is not None:
            raise UserError(
                f'{where} has a moving average of parameters without one of the BatchNorm statistics '
                f'that go with it (checkpoint format {WITHOUT_AVERAGED_STATISTICS}, of version 0.1.0 of this '
                'program). Continue it with that version, or start again in another --workdir.'
            )
        with self._damage_reported(where):
            self._check_digests(step, 'state')
            items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            state = self._manager.restore(step, args=items)['state']
        return state, about['data']

    def variables(self, step: int) -> dict[str, Any]:
        """What evaluation uses of a step (`TrainState.variables`), as NumPy arrays: shapes are those of the file, and
        nothing else of the state is read. UserError as in `restore`."""
        where = self.directory / str(step)
        about = self.about(step)
        with self._damage_reported(where):
            self._check_digests(step, 'state')
            tree = ocp.StandardCheckpointHandler().metadata(where / 'state').tree
            averaged = bool(tree.get('ema')) and about['format'] != WITHOUT_AVERAGED_STATISTICS
            wanted = {'ema': tree['ema']} if averaged else {key: tree[key] for key in ('params', 'batch_stats')}
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), wanted)
            kinds = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            read = ocp.args.PyTreeRestore(shapes, kinds, partial_restore=True)
            state = self._manager.restore(step, args=ocp.args.Composite(state=read))['state']
        return state['ema'] if averaged else state

    def _check_digests(self, step: int, item: str) -> None:
        altered = first_altered(self.directory / str(step), item)
        if altered is not None:
            others = ', '.join(str(other) for other in self.steps() if other != step)
            instead = f'the program then takes another one (there are: {others})' if others else 'there is no other one'
            raise UserError(
                f'{altered} does not hold what was written: the checkpoint of step {step} is damaged. Restore the '
                f'folder {self.directory / str(step)} from a copy, or remove it; {instead}.'
            )

    @staticmethod
    @contextlib.contextmanager
    def _damage_reported(where: Any) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
            first = str(error).strip().splitlines()
            raise UserError(
                f'The checkpoint {where} does not fit this network or is damaged: '
                f'{first[0] if first else error!r} ... Use the configuration it was made with (config.json in the '
                "working directory), remove this step's folder to go back to the one before, or start again in another "
                '--workdir.'
            ) from error

    def wait(self) -> None:
        """Returns when the last save is on the disk. UserError where that failed."""
        with _disk_errors(self.directory):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """As `wait`; then the files of checkpoints that are no longer kept are removed."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # it would report the failure of the last save once more
                self._manager.close()
        self._delete()

    def _delete(self, *patterns: str) -> None:
        if not self._read_only and jax.process_index() == 0 and not is_remote(self.directory):
            for pattern in patterns or (DELETED,):
                for folder in self.directory.glob(pattern):
                    shutil.rmtree(folder, ignore_errors=True)


def _read_evaluation(folder: Any) -> dict | None:
    """Of a step's folder; former versions of this program saved validation metrics with the step, as Orbax does."""
    for path in (folder / EVALUATION, folder / 'metrics' / 'metrics'):
        try:
            content = json_object(path.read_bytes())
            record = content if path.name == EVALUATION else {'validation': content}
            msgspec.convert(record, _Evaluation)
            return record
        except (OSError, ValueError):
            continue
    return None


@contextlib.contextmanager
def _disk_errors(where: Any) -> Iterator[None]:
    """Says in one sentence what the disk refused."""
    try:
        yield
    except Exception as error:
        reason = disk_full_reason(error)
        if reason:
            raise UserError(
                f'{reason}: the checkpoint cannot be written to {where}. Earlier checkpoints are intact. '
                'Make room and give the same command again; it resumes from the last one.'
            ) from error
        if isinstance(error, PermissionError):
            raise UserError(f'The checkpoint cannot be written to {where}: {error.strerror}.') from error
        raise
