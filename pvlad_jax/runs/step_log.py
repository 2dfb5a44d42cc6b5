"""The metrics of training steps: read while the next step runs, looked at for NaN and Inf, printed and written."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.metric_writer import MetricWriter
from pvlad_jax.runs.pace import Pace
from pvlad_jax.runs.skipped_records import SkippedRecords
from pvlad_jax.training.schedule import learning_rate

# What must be finite, and how it is said where it is not: step, value.
_WATCHED = {
    'loss': 'loss of step {} is {}',
    'gradient_norm': 'gradient of step {} has the norm {}',
    'parameter_norm': 'parameters after step {} have the norm {}',
}


class NotFinite(UserError):
    """NaN or Inf; all processes see it at the same step."""


class Pending(NamedTuple):
    """A step that was dispatched and whose metrics have not been read yet."""

    step: int  # updates made with it
    metrics: dict
    stop_vote: bool | jax.Array  # whether any process had been asked to stop


class StepLog:
    """One step is pending at a time, so that the host never waits for the device that it has just given work."""

    def __init__(
        self,
        config: Config,
        batches: TrainBatches,
        checkpoints: Checkpoints,
        writer: MetricWriter | None,
        log: Callable[[str], None],
        schedule_steps: int | None = None,
    ):
        """`schedule_steps`: that the learning rate's schedule counts by; None = those of the run."""
        self._config, self._batches, self._checkpoints = config, batches, checkpoints
        self._writer, self._log = writer, log
        self.pace, self.skipped = Pace(config.training.steps), SkippedRecords(log, config.input.on_error == 'skip')
        self._pending: Pending | None = None
        self._schedule_steps = schedule_steps or config.training.steps

    def dispatched(self, step: int, metrics: dict, batch: dict[str, np.ndarray], stop_vote: bool | jax.Array) -> bool:
        """Takes note of a step, reads the metrics of the one before, and returns whether the run is to stop.

        Several processes learn one step later what all of them have voted, so that none waits for it.
        """
        stopping = stop_vote is True or (self._pending is not None and bool(self._pending.stop_vote))
        self.flush()
        self._pending = Pending(step, metrics, stop_vote)
        self.skipped.count(batch)
        return stopping

    def flush(self) -> None:
        """Reads the pending metrics. Raises NotFinite."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._read(pending.step, pending.metrics)

    def _read(self, step: int, metrics: dict) -> None:
        training = self._config.training
        reported = step % training.log_every == 0 or step == training.steps
        if not (reported or training.stop_on_nonfinite):
            return
        values = {said: float(metrics[name]) for name, said in _WATCHED.items()}
        self.pace.done(step)
        wrong = next((said.format(step, value) for said, value in values.items() if not math.isfinite(value)), None)
        if training.stop_on_nonfinite and wrong:
            raise NotFinite(self._not_finite(step, wrong))
        if reported:
            self._report(step, {name: float(value) for name, value in metrics.items()})

    def _not_finite(self, step: int, wrong: str) -> str:
        names = ', '.join(sorted(set(self._batches.train.tracklet[self._batches.identities.rows(step - 1)])))
        saved = self._checkpoints.latest_step()
        kept = 'There is no checkpoint yet.' if saved is None else f'The last checkpoint (step {saved}) is kept.'
        return (
            f'The {wrong}. {kept} Give a new run in another --workdir a lower config.optimizer.learning_rate, or look '
            f"at this batch's tracklets: {names}"
        )

    def _report(self, step: int, numbers: dict[str, float]) -> None:
        training = self._config.training
        rate, waited = self.pace.line(step)
        self.skipped.report(self._batches.skipped)
        numbers |= {
            'learning_rate': float(learning_rate(self._config.optimizer, self._schedule_steps)(step - 1)),
            'steps_per_second': rate,
            'input_wait': waited,
            'skipped_records': self.skipped.total(),
        }
        if self._writer:
            self._writer.write(step, 'train', numbers)
        terms = '  '.join(f'{name[5:]} {value:.3f}' for name, value in numbers.items() if name.startswith('loss_'))
        accuracy = f'  accuracy {numbers["accuracy"]:.0%}' if 'accuracy' in numbers else ''
        self._log(
            f'step {step:>5}/{training.steps}  loss {numbers["loss"]:.3f}  ({terms}){accuracy}  '
            f'{rate:.2f} steps/s  ETA {self.pace.remaining(step)}'
        )
