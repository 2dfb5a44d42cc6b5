"""Training: the loop, and what is done at which step.

The order is that of one rule: evaluate the state, save it, only then take the next batch. So a checkpoint of step n holds the state after n
updates and the data iterator before batch n, and a run that goes on from it repeats nothing and leaves nothing out.
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from pvlad_jax.checkpoint import Checkpoints
from pvlad_jax.config import flatten
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.errors import UserError
from pvlad_jax.jobs.evaluate import Evaluator, Scored, report
from pvlad_jax.jobs.experiment import Experiment
from pvlad_jax.jobs.metric_log import MetricLog
from pvlad_jax.jobs.workdir import write_config
from pvlad_jax.parallel.mesh import global_batch
from pvlad_jax.training.schedule import learning_rate
from pvlad_jax.training.train_state import TrainState
from pvlad_jax.training.train_step import make_train_step

Say = Callable[[str], None]


class Preempted(Exception):
    """The machine was asked back; the state is saved and the same command goes on from it."""


def train(experiment: Experiment, workdir: Path, say: Say) -> None:
    """Trains to the last step, from the last checkpoint where there is one, evaluates and reports."""
    config = experiment.config
    checkpoints = Checkpoints(workdir / 'checkpoints', config.checkpoint)
    evaluator = Evaluator(experiment)
    batches = TrainBatches(experiment.dataset, experiment.partition.train, config, jax.process_index(), jax.process_count())
    step, data_state = checkpoints.latest_step(), {'next_index': 0}
    if step is None:
        say(f'A new run in {workdir}: {experiment.people} people, {len(experiment.partition.train)} tracklets to train on; '
            f'{jax.device_count()} {jax.devices()[0].platform} device(s).')
        step, state = 0, experiment.first_state(say)
        write_config(workdir, config)
    else:
        state, data_state = checkpoints.restore(experiment.state_shapes())
        say(f'Going on in {workdir} after step {step} of {config.training.steps}.')
    log = MetricLog(workdir, step) if jax.process_index() == 0 else None
    loop = _Loop(experiment, checkpoints, evaluator, log, say)
    if step == 0 and config.training.eval_untrained:
        loop.evaluate(state, 0)
    try:
        state = loop.run(state, step, batches, batches.iterator(data_state['next_index']))
        scored = loop.evaluate(state, int(state.step))
    finally:
        checkpoints.close()
        if log:
            log.close()
    report(experiment, workdir, state.variables(), scored, say)


class _Loop:
    def __init__(self, experiment: Experiment, checkpoints: Checkpoints, evaluator: Evaluator, log: MetricLog | None, say: Say):
        self.experiment, self.config, self.checkpoints = experiment, experiment.config, checkpoints
        self.evaluator, self.log, self.say = evaluator, log, say
        self.validation: dict[str, float] | None = None  # of the state about to be saved

    def run(self, state: TrainState, first: int, batches: TrainBatches, iterator) -> TrainState:
        config = self.config.training
        train_step = make_train_step(self.config, self.experiment.network, self.experiment.optimizer, self.experiment.mesh, state)
        pace = _Pace(first, config.steps)
        pending = None  # the step before: dispatched, its metrics not read yet
        with _asked_to_stop() as stop:
            for step in range(first, config.steps):
                batch = next(iterator)
                state, metrics = train_step(state, global_batch({k: batch[k] for k in ('clips', 'valid', 'label')}, self.experiment.mesh))
                if pending:
                    self._account(*pending, batches, pace)
                pending = (step + 1, metrics, batch['row'])
                done = step + 1
                evaluate = config.eval_every and done % config.eval_every == 0 and done < config.steps
                if evaluate or stop.is_set() or done % config.checkpoint_every == 0 or done == config.steps:
                    self._account(*pending, batches, pace)  # a state is saved only once its loss is known to be finite
                    pending = None
                    if evaluate:
                        with pace.paused():
                            self.evaluate(state, done)
                    self._save(done, state, iterator)
                    if stop.is_set() and done < config.steps:
                        self.checkpoints.wait()
                        raise Preempted(f'Asked to stop: saved after step {done} of {config.steps}. The same command goes on from there.')
        return state

    def evaluate(self, state: TrainState, step: int) -> Scored:
        """Scores a state, writes it down, and tells it. Validation people, where there are any, choose the best checkpoint."""
        began = time.monotonic()
        if len(self.experiment.partition.validation_query):
            result = self.evaluator(state.variables(), step, 'validation').result
            self.validation = {'mAP': float(result.mAP), 'rank_1': float(result.rank_1)}
            self._tell(step, 'validation', result, began)
        began = time.monotonic()
        scored = self.evaluator(state.variables(), step)
        self._tell(step, 'eval', scored.result, began)
        return scored

    def _tell(self, step: int, kind: str, result, began: float) -> None:
        if self.log:
            self.log.write(step, kind, {name: float(getattr(result, name)) for name in ('rank_1', 'rank_5', 'rank_10', 'rank_20', 'mAP')})
        what = {'eval': 'people never seen', 'validation': 'people held out for validation'}[kind]
        self.say(f'step {step:>5}  {what}: rank-1 {result.rank_1:.1%}, mAP {result.mAP:.1%}'
                 f'{" (untrained network)" if step == 0 else ""}  [{time.monotonic() - began:.1f} s]')

    def _save(self, step: int, state: TrainState, iterator) -> None:
        self.checkpoints.save(step, state, {'next_index': int(iterator.get_state()['next_index'])}, flatten(self.config), self.validation)
        self.validation = None

    def _account(self, step: int, metrics: dict, rows: np.ndarray, batches: TrainBatches, pace: '_Pace') -> None:
        """Reads the metrics of a step; stops the run where its loss is not finite."""
        if step % self.config.training.log_every and not self.config.training.stop_on_nonfinite:
            return
        loss = float(metrics['loss'])
        if not math.isfinite(loss) and self.config.training.stop_on_nonfinite:
            names = ', '.join(sorted(set(batches.train.tracklet[rows])))
            raise UserError(f'The loss of step {step} is {loss}. The last good checkpoint (step {self.checkpoints.latest_step()}) is kept. '
                            f'Lower config.optimizer.learning_rate, or look at this batch\'s tracklets: {names}')
        if step % self.config.training.log_every and step != self.config.training.steps:
            return
        numbers = {name: float(value) for name, value in metrics.items()}
        numbers |= {'learning_rate': float(learning_rate(self.config.optimizer, self.config.training.steps)(step - 1)),
                    'steps_per_second': pace.rate(step), 'skipped_records': batches.skipped}
        if self.log:
            self.log.write(step, 'train', numbers)
        terms = '  '.join(f'{name[5:]} {value:.3f}' for name, value in numbers.items() if name.startswith('loss_'))
        accuracy = f'  accuracy {numbers["accuracy"]:.0%}' if 'accuracy' in numbers else ''
        self.say(f'step {step:>5}/{self.config.training.steps}  loss {loss:.3f}  ({terms}){accuracy}  '
                 f'{numbers["steps_per_second"]:.2f} steps/s  ETA {pace.remaining(step)}')


class _Pace:
    """Steps a second since the last line, and the time left; the first step, which compiles, and evaluations do not count."""

    def __init__(self, first: int, last: int):
        self._last, self._base, self._since, self._paused = last, first + 1, None, 0.0

    def rate(self, step: int) -> float:
        now = time.monotonic()
        if self._since is None:
            self._since, self._base = now, step
            return 0.0
        return (step - self._base) / max(now - self._since - self._paused, 1e-9)

    def remaining(self, step: int) -> str:
        rate = self.rate(step)
        if rate == 0:
            return '-'
        seconds = round((self._last - step) / rate)
        return f'{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}'

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._paused += time.monotonic() - began


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; outside the main thread nobody sets it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
