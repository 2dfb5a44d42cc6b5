"""Training: the loop, and what is done at which step.

The order is that of one rule: evaluate the state, save it, only then take the next batch. So a checkpoint of step n holds the state after n
updates and the data iterator before batch n, and a run that goes on from it repeats nothing and leaves nothing out.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from pvlad_jax.checkpoint import Checkpoints
from pvlad_jax.config import flatten
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.embedding import EmbeddingStopped
from pvlad_jax.errors import UserError
from pvlad_jax.evaluation import Result
from pvlad_jax.jobs.evaluate import UNTRAINED, Evaluator, Scored, report, restore_chosen
from pvlad_jax.jobs.experiment import Experiment
from pvlad_jax.jobs.metric_log import MetricLog
from pvlad_jax.jobs.step_trace import StepTrace
from pvlad_jax.jobs.stop_signal import Preempted, StopRequest
from pvlad_jax.jobs.workdir import write_config
from pvlad_jax.parallel.mesh import global_batch
from pvlad_jax.parallel.processes import AnyOfUs
from pvlad_jax.training.schedule import learning_rate
from pvlad_jax.training.train_state import TrainState
from pvlad_jax.training.train_step import compile_ahead, make_train_step

Say = Callable[[str], None]


def train(experiment: Experiment, workdir: Path, say: Say, stop: StopRequest | None = None) -> Result:
    """Trains to the last step, from the last checkpoint where there is one, evaluates and reports.

    Raises Preempted, with everything saved, soon after `stop` is asked for.
    """
    stop = stop or StopRequest()
    config = experiment.config
    if config.evaluation.checkpoint == UNTRAINED:
        raise UserError(f"config.evaluation.checkpoint = '{UNTRAINED}' is for --mode=eval. To score the network before its first step as "
                        'well, set config.training.eval_untrained.')
    checkpoints = Checkpoints(workdir / 'checkpoints', config.checkpoint)
    evaluator = Evaluator(experiment)
    batches = TrainBatches(experiment.dataset, experiment.partition.train, config, jax.process_index(), jax.process_count())
    step, data_state = checkpoints.latest_step(), {'next_index': 0}
    shapes = experiment.state_shapes()
    train_step = make_train_step(config, experiment.network, experiment.optimizer, experiment.mesh, shapes)
    # Not with several processes: each waits for the others' part of an evaluation, and would pay for the slowest compilation.
    alone = jax.process_count() == 1 and step != config.training.steps
    ahead = compile_ahead(train_step, config, experiment.mesh, shapes) if alone else None
    if step is None:
        say(f'A new run in {workdir}: {experiment.people} people, {len(experiment.partition.train)} tracklets to train on; '
            f'{jax.device_count()} {jax.devices()[0].platform} device(s).')
        step, state = 0, experiment.first_state(say)
        if jax.process_index() == 0:
            write_config(workdir, config)
    else:
        state, data_state = checkpoints.restore(shapes)
        say(f'Going on in {workdir} after step {step} of {config.training.steps}.')
    log = MetricLog(workdir, step) if jax.process_index() == 0 else None
    loop = _Loop(experiment, checkpoints, evaluator, log, say, stop)
    loop.evaluated = data_state.get('evaluated', -1)
    evaluator.embed.stop = lambda: stop.asked
    iterator = batches.iterator(data_state['next_index'])
    if step < config.training.steps:
        iterator.start_prefetch()  # the first batches are read while the step is compiled
    try:
        if (step == 0 and config.training.eval_untrained) or (loop.evaluation_due(step) and loop.evaluated != step):
            loop.evaluate(state, step)
        if ahead:
            ahead.join()
        state = loop.run(state, step, train_step, batches, iterator, workdir)
        scored = loop.test(state, config.training.steps).of('last')
        if config.evaluation.checkpoint == 'best':
            checkpoints.wait()
            state, which = restore_chosen(experiment, checkpoints)
            best = int(state.step)
            say(f'Of the checkpoints, step {best} is {which}.')
            scored = (scored if best == config.training.steps else evaluator(state.variables(), best)).of(which)
    except EmbeddingStopped:
        checkpoints.wait()
        raise Preempted('Asked to stop during an evaluation; training is saved. The same command evaluates again.') from None
    except BaseException as error:
        # Closing waits for the others, who may be gone or know nothing of this error.
        if jax.process_count() == 1 or isinstance(error, NotFinite):
            with contextlib.suppress(Exception):  # on a full disk this fails too, and the first reason is the one to tell
                checkpoints.close()
        raise
    finally:
        if log:
            log.close()
    checkpoints.close()
    report(experiment, workdir, state.variables(), scored, say)
    return scored.result


class NotFinite(UserError):
    """NaN or Inf; all processes see it at the same step."""


class _Pending(NamedTuple):
    """A step that was dispatched and whose metrics have not been read yet."""

    step: int  # updates made with it
    metrics: dict
    asked: bool | jax.Array  # whether any process had been asked to stop


class _Loop:
    def __init__(self, experiment: Experiment, checkpoints: Checkpoints, evaluator: Evaluator, log: MetricLog | None, say: Say,
                 stop: StopRequest):
        self.experiment, self.config, self.checkpoints = experiment, experiment.config, checkpoints
        self.evaluator, self.log, self.say, self.stop = evaluator, log, say, stop
        self.validation: dict[int, dict[str, float]] = {}  # step -> metrics that its checkpoint is chosen by
        self.evaluated = -1  # last step that was

    def evaluation_due(self, step: int) -> bool:
        """In the midst of training; the end is always evaluated."""
        every = self.config.training.eval_every
        return bool(every) and 0 < step < self.config.training.steps and step % every == 0

    def run(self, state: TrainState, first: int, train_step: Callable, batches: TrainBatches, iterator, workdir: Path) -> TrainState:
        config = self.config.training
        any_of_us = AnyOfUs(self.experiment.mesh)
        pace, trace = _Pace(first, config.steps), StepTrace(self.config.profile, workdir)
        pending: _Pending | None = None
        with trace:
            for done in range(first + 1, config.steps + 1):
                trace.before(done)
                with pace.waiting():
                    batch = next(iterator)
                asked = any_of_us(self.stop.asked)
                state, metrics = train_step(state, global_batch({k: batch[k] for k in ('clips', 'valid', 'label')}, self.experiment.mesh))
                self.stop.nothing_to_lose = False
                trace.after(done, metrics)
                # Several processes learn one step later what all of them have said, so that nobody waits for it.
                stopping = asked is True or (pending is not None and bool(pending.asked))
                if pending:
                    self._account(pending, batches, pace)
                pending = _Pending(done, metrics, asked)
                evaluate = self.evaluation_due(done) and not stopping
                if evaluate or stopping or done % config.checkpoint_every == 0 or done == config.steps:
                    self._account(pending, batches, pace)  # a state is saved only once its loss is known to be finite
                    pending = None
                    if evaluate or (done == config.steps and not stopping):
                        with pace.paused():
                            try:  # the last state is saved with its validation metrics, and tested after that
                                (self.evaluate if evaluate else self.validate)(state, done)
                            except EmbeddingStopped:
                                stopping = True
                    self._save(done, state, iterator)
                    if stopping and done < config.steps:
                        self.checkpoints.wait()
                        raise Preempted(f'Asked to stop: saved after step {done} of {config.steps}. The same command goes on from there.')
        return state

    def evaluate(self, state: TrainState, step: int) -> Scored:
        """Scores a state, writes it down, and tells it."""
        self.validate(state, step)
        return self.test(state, step)

    def validate(self, state: TrainState, step: int) -> None:
        """Validation people, where there are any, choose the best checkpoint."""
        began = time.monotonic()
        if len(self.experiment.partition.validation_query):
            result = self.evaluator(state.variables(), step, 'validation').result
            self.validation[step] = {'mAP': float(result.mAP), 'rank_1': float(result.rank_1)}
            self._tell(step, 'validation', result, began)

    def test(self, state: TrainState, step: int) -> Scored:
        began = time.monotonic()
        scored = self.evaluator(state.variables(), step)
        self._tell(step, 'eval', scored.result, began)
        self.evaluated = step
        return scored

    def _tell(self, step: int, kind: str, result, began: float) -> None:
        if self.log:
            self.log.write(step, kind, {name: float(getattr(result, name)) for name in ('rank_1', 'rank_5', 'rank_10', 'rank_20', 'mAP')})
        what = {'eval': 'people never seen', 'validation': 'people held out for validation'}[kind]
        self.say(f'step {step:>5}  {what}: rank-1 {result.rank_1:.1%}, mAP {result.mAP:.1%}'
                 f'{" (untrained network)" if step == 0 else ""}  [{time.monotonic() - began:.1f} s]')

    def _save(self, step: int, state: TrainState, iterator) -> None:
        place = {'next_index': int(iterator.get_state()['next_index']), 'evaluated': self.evaluated}
        self.checkpoints.save(step, state, place, flatten(self.config), self.validation.pop(step, None))

    def _account(self, pending: _Pending, batches: TrainBatches, pace: '_Pace') -> None:
        """Reads the metrics of a step; stops the run where its loss or its gradient is not finite."""
        step, metrics = pending.step, pending.metrics
        if step % self.config.training.log_every and not self.config.training.stop_on_nonfinite:
            return
        loss, gradient = float(metrics['loss']), float(metrics['gradient_norm'])
        if self.config.training.stop_on_nonfinite and not (math.isfinite(loss) and math.isfinite(gradient)):
            what = f'loss of step {step} is {loss}' if not math.isfinite(loss) else f'gradient of step {step} has the norm {gradient}'
            names = ', '.join(sorted(set(batches.train.tracklet[batches.identities.rows(step - 1)])))
            saved = self.checkpoints.latest_step()
            kept = 'There is no checkpoint yet.' if saved is None else f'The last good checkpoint (step {saved}) is kept.'
            raise NotFinite(f'The {what}. {kept} Lower config.optimizer.learning_rate, or look at this batch\'s tracklets: {names}')
        if step % self.config.training.log_every and step != self.config.training.steps:
            return
        numbers = {name: float(value) for name, value in metrics.items()}
        numbers |= {'learning_rate': float(learning_rate(self.config.optimizer, self.config.training.steps)(step - 1)),
                    'steps_per_second': pace.rate(step), 'input_wait': pace.wait_share(), 'skipped_records': batches.skipped}
        if self.log:
            self.log.write(step, 'train', numbers)
        terms = '  '.join(f'{name[5:]} {value:.3f}' for name, value in numbers.items() if name.startswith('loss_'))
        accuracy = f'  accuracy {numbers["accuracy"]:.0%}' if 'accuracy' in numbers else ''
        self.say(f'step {step:>5}/{self.config.training.steps}  loss {loss:.3f}  ({terms}){accuracy}  '
                 f'{numbers["steps_per_second"]:.2f} steps/s  ETA {pace.remaining(step)}')


class _Pace:
    """Steps a second since the last line, and the time left; the first step, which compiles, and evaluations do not count."""

    def __init__(self, first: int, last: int):
        self._last, self._base, self._since, self._paused, self._waited = last, first + 1, None, 0.0, 0.0

    def rate(self, step: int) -> float:
        if self._since is None:
            self._since, self._base, self._waited = time.monotonic(), step, 0.0
            return 0.0
        return (step - self._base) / self._elapsed()

    def _elapsed(self) -> float:
        return max(time.monotonic() - self._since - self._paused, 1e-9)

    def wait_share(self) -> float:
        """Of that time, how much the loop waited for its next batch. Devices may still be at the step before, so they waited no longer."""
        return 0.0 if self._since is None else self._waited / self._elapsed()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

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
