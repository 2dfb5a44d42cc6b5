"""Training: the loop, and what is done at which step.

The order is that of one rule: save the state, evaluate it, only then take the next batch. So a checkpoint of step n holds the state after n
updates and the data iterator before batch n, a run that resumes from it repeats nothing and leaves nothing out, and an evaluation that
fails costs no step.
"""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from pvlad_jax.config import flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.embedding.tracklets import EmbeddingStopped
from pvlad_jax.evaluation import Result
from pvlad_jax.launch.preemption import Preempted, StopRequest
from pvlad_jax.parallel.any_process import AnyProcess
from pvlad_jax.parallel.mesh import global_batch
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.evaluate import UNTRAINED, EvaluationFailed, Evaluator, report, restore_chosen
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.metric_writer import MetricLog
from pvlad_jax.runs.pace import Pace
from pvlad_jax.runs.preflight import check_space
from pvlad_jax.runs.profiling import StepTrace
from pvlad_jax.runs.run_start import begin
from pvlad_jax.runs.skipped_records import SkippedRecords
from pvlad_jax.runs.training_evaluation import TrainingEvaluation, failure_told
from pvlad_jax.runs.workdir import Folder, write_config
from pvlad_jax.training.schedule import learning_rate
from pvlad_jax.training.train_state import TrainState
from pvlad_jax.training.train_step import compile_ahead, make_train_step

Say = Callable[[str], None]


def train(experiment: Experiment, workdir: Folder, say: Say, stop: StopRequest | None = None) -> Result:
    """Trains to the last step, from the last checkpoint where there is one, evaluates and reports.

    Raises Preempted, with everything saved, soon after `stop` is asked for.
    """
    stop = stop or StopRequest()
    config = experiment.config
    if config.evaluation.checkpoint == UNTRAINED:
        raise UserError(f"config.evaluation.checkpoint = '{UNTRAINED}' is for --mode=eval. To score the network before its first step as "
                        'well, set config.training.eval_untrained.')
    checkpoints = Checkpoints(workdir / 'checkpoints', config.checkpoint)
    step, data_state = checkpoints.latest_step(), {'next_index': 0}
    shapes = experiment.state_shapes()
    if step is None:
        experiment.check_weights(shapes)
    data = begin(experiment, workdir, checkpoints, say, new=step is None)
    check_space(config, workdir, shapes, len(checkpoints.steps()), step or 0)
    evaluator = Evaluator(experiment, say)
    batches = TrainBatches(experiment.dataset, experiment.partition.train, config, jax.process_index(), jax.process_count())
    train_step = make_train_step(config, experiment.network, experiment.optimizer, experiment.mesh, shapes)
    # Not with several processes: each waits for the others' part of an evaluation, and would pay for the slowest compilation.
    alone = jax.process_count() == 1 and step != config.training.steps
    ahead = compile_ahead(train_step, config, experiment.mesh, shapes) if alone else None
    if step is None:
        say(f'A new run in {workdir}: {experiment.people} people, {len(experiment.partition.train)} tracklets to train on; '
            f'{jax.device_count()} {jax.devices()[0].platform} device(s).')
        step, state = 0, experiment.initial_state(say)
        if jax.process_index() == 0:
            write_config(workdir, config)
            data.write()
    else:
        state, data_state = checkpoints.restore(shapes)
        say(f'Going on in {workdir} after step {step} of {config.training.steps}.')
    log = MetricLog(workdir, step) if jax.process_index() == 0 else None
    evaluation = TrainingEvaluation(experiment, evaluator, checkpoints, log, say)
    loop = _Loop(experiment, checkpoints, evaluation, log, say, stop, data.now.to_json())
    loop.skipped.before = data_state.get('skipped', 0)
    evaluator.embed.stop = lambda: stop.requested
    iterator = batches.iterator(data_state['next_index'])
    if step < config.training.steps:
        iterator.start_prefetch()  # the first batches are read while the step is compiled
    try:
        # 'evaluated': former versions evaluated before they saved
        missed = evaluation.due(step) and not evaluation.recorded(step) and data_state.get('evaluated') != step
        if missed or (step == 0 and config.training.eval_untrained):
            evaluation.intermediate(state, step)
        if ahead and ahead.is_alive():
            say('Compiling the training step: seconds to two minutes, once; a later start finds the program in the compile cache.')
        if ahead:
            ahead.join()
        state = loop.run(state, step, train_step, batches, iterator, workdir)
        scored = evaluation.final(state, config.training.steps).of('last')
        if config.evaluation.checkpoint == 'best':
            checkpoints.wait()
            state, which = restore_chosen(experiment, checkpoints)
            best = int(state.step)
            say(f'Of the checkpoints, step {best} is {which}.')
            with failure_told(best):
                scored = (scored if best == config.training.steps else evaluator(state.variables(), best)).of(which)
    except EmbeddingStopped:
        checkpoints.wait()
        raise Preempted('Asked to stop during an evaluation; training is saved. The same command evaluates again.') from None
    except BaseException as error:
        # Closing waits for the others, who may be gone or know nothing of this error.
        if jax.process_count() == 1 or isinstance(error, NotFinite | EvaluationFailed):
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
    def __init__(self, experiment: Experiment, checkpoints: Checkpoints, evaluation: TrainingEvaluation, log: MetricLog | None, say: Say,
                 stop: StopRequest, dataset: dict):
        self.dataset = dataset  # its fingerprint
        self.experiment, self.config, self.checkpoints = experiment, experiment.config, checkpoints
        self.evaluation, self.log, self.say, self.stop = evaluation, log, say, stop
        self.skipped = SkippedRecords(say, self.config.input.on_error == 'skip')

    def run(self, state: TrainState, first: int, train_step: Callable, batches: TrainBatches, iterator, workdir: Folder) -> TrainState:
        config = self.config.training
        any_process = AnyProcess(self.experiment.mesh)
        pace, trace = Pace(config.steps), StepTrace(self.config.profile, workdir)
        pending: _Pending | None = None
        with trace:
            for done in range(first + 1, config.steps + 1):
                trace.before(done)
                with pace.waiting():
                    batch = next(iterator)
                asked = any_process(self.stop.requested)
                state, metrics = train_step(state, global_batch({k: batch[k] for k in ('clips', 'valid', 'label')}, self.experiment.mesh))
                self.stop.no_unsaved_steps = False
                trace.after(done, metrics)
                # Several processes learn one step later what all of them have said, so that nobody waits for it.
                stopping = asked is True or (pending is not None and bool(pending.asked))
                if pending:
                    self._account(pending, batches, pace)
                pending = _Pending(done, metrics, asked)
                self.skipped.count(batch)
                evaluate = self.evaluation.due(done) and not stopping
                if evaluate or stopping or done % config.checkpoint_every == 0 or done == config.steps:
                    self._account(pending, batches, pace)  # a state is saved only once its loss is known to be finite
                    pending = None
                    self._save(done, state, iterator)
                    if evaluate:
                        with pace.paused():
                            try:
                                self.evaluation.intermediate(state, done)
                            except EmbeddingStopped:
                                stopping = True
                    if stopping and done < config.steps:
                        self.checkpoints.wait()
                        raise Preempted(f'Asked to stop: saved after step {done} of {config.steps}. The same command goes on from there.')
        return state

    def _save(self, step: int, state: TrainState, iterator) -> None:
        place = {'next_index': int(iterator.get_state()['next_index']), 'skipped': self.skipped.total()}
        self.checkpoints.save(step, state, place, flatten(self.config), self.dataset)

    def _account(self, pending: _Pending, batches: TrainBatches, pace: Pace) -> None:
        """Reads the metrics of a step; stops the run where its loss or its gradient is not finite."""
        step, metrics = pending.step, pending.metrics
        if step % self.config.training.log_every and not self.config.training.stop_on_nonfinite:
            return
        loss, gradient = float(metrics['loss']), float(metrics['gradient_norm'])
        pace.done(step)
        if self.config.training.stop_on_nonfinite and not (math.isfinite(loss) and math.isfinite(gradient)):
            what = f'loss of step {step} is {loss}' if not math.isfinite(loss) else f'gradient of step {step} has the norm {gradient}'
            names = ', '.join(sorted(set(batches.train.tracklet[batches.identities.rows(step - 1)])))
            saved = self.checkpoints.latest_step()
            kept = 'There is no checkpoint yet.' if saved is None else f'The last good checkpoint (step {saved}) is kept.'
            raise NotFinite(f'The {what}. {kept} Lower config.optimizer.learning_rate, or look at this batch\'s tracklets: {names}')
        if step % self.config.training.log_every and step != self.config.training.steps:
            return
        numbers = {name: float(value) for name, value in metrics.items()}
        rate, waited = pace.line(step)
        self.skipped.tell(batches.skipped)
        numbers |= {'learning_rate': float(learning_rate(self.config.optimizer, self.config.training.steps)(step - 1)),
                    'steps_per_second': rate, 'input_wait': waited, 'skipped_records': self.skipped.total()}
        if self.log:
            self.log.write(step, 'train', numbers)
        terms = '  '.join(f'{name[5:]} {value:.3f}' for name, value in numbers.items() if name.startswith('loss_'))
        accuracy = f'  accuracy {numbers["accuracy"]:.0%}' if 'accuracy' in numbers else ''
        self.say(f'step {step:>5}/{self.config.training.steps}  loss {loss:.3f}  ({terms}){accuracy}  '
                 f'{numbers["steps_per_second"]:.2f} steps/s  ETA {pace.remaining(step)}')
