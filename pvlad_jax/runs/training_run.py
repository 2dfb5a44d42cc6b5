"""What surrounds the training loop: how a run begins or resumes, takes batches, saves, evaluates, stops, and is
left.
"""

import contextlib

import jax
import numpy as np

from pvlad_jax.config import flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.embedding import EmbeddingStopped
from pvlad_jax.launch import huge_pages
from pvlad_jax.launch.preemption import Preempted, StopRequest
from pvlad_jax.parallel.any_process import AnyProcess
from pvlad_jax.parallel.mesh import global_batch
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.claimed_folder import CHECKPOINTS
from pvlad_jax.runs.evaluate import restore_chosen
from pvlad_jax.runs.evaluator import EvaluationFailed
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.joined_evaluator import AnyScored, evaluator_of
from pvlad_jax.runs.metric_writer import MetricWriter
from pvlad_jax.runs.outputs import Log
from pvlad_jax.runs.preflight import check_space
from pvlad_jax.runs.profiling import StepProfiler
from pvlad_jax.runs.run_start import begin, weights_of_new_run
from pvlad_jax.runs.step_log import NotFinite, StepLog
from pvlad_jax.runs.trained_model import UNTRAINED
from pvlad_jax.runs.training_evaluation import TrainingEvaluation, failure_told
from pvlad_jax.runs.workdir import Folder, planned_ends, record_more_steps, write_config
from pvlad_jax.training.schedule import longer_run
from pvlad_jax.training.train_state import TrainState
from pvlad_jax.training.train_step import compile_ahead, make_train_step


class TrainingRun:
    """Begun or resumed when it is made; `with` closes it however training ends.

    Attributes:
      step, state: updates made so far, and the state after them.
      train_step: (state, batch) -> (state, metrics).
    """

    def __init__(self, experiment: Experiment, workdir: Folder, log: Log, stop: StopRequest):
        config = experiment.config
        if config.evaluation.checkpoint == UNTRAINED:
            raise UserError(
                f"config.evaluation.checkpoint = '{UNTRAINED}' is for --mode=eval. To score the network before its "
                'first step as well, set config.training.eval_untrained.'
            )
        self._experiment, self._config, self._workdir, self._log, self._stop = experiment, config, workdir, log, stop
        folder = workdir / CHECKPOINTS
        # Where it is not there, it is made when there is a state: a run that is refused makes none.
        checkpoints = Checkpoints(folder, config.checkpoint) if folder.exists() else None
        saved, shapes = checkpoints.latest_step() if checkpoints else None, experiment.state_shapes()
        inherited = weights_of_new_run(experiment, workdir, shapes) if saved is None else None
        experiment, data = begin(experiment, workdir, checkpoints, log, new=saved is None, inherited=inherited)
        self._experiment = experiment
        check_space(config, workdir, shapes, len(checkpoints.steps()) if checkpoints else 0, saved or 0)
        self._dataset = data.now.to_json()  # its fingerprint
        self._evaluator = evaluator_of(experiment, log)
        batches = TrainBatches(
            experiment.dataset, experiment.partition.train, config, jax.process_index(), jax.process_count()
        )
        self.train_step = make_train_step(config, experiment.network, experiment.optimizer, experiment.mesh, shapes)
        # Not with several processes: each waits for the others' part of an evaluation, and would pay for the slowest
        # compilation.
        alone = jax.process_count() == 1 and saved != config.training.steps
        self._compiling = compile_ahead(self.train_step, config, experiment.mesh, shapes) if alone else None
        if saved is None:
            log(
                f'A new run in {workdir}: {experiment.num_identities} people, {len(experiment.partition.train)} '
                f'tracklets to train on; {jax.device_count()} {jax.devices()[0].platform} device(s).'
            )
            for name, part in experiment.parts.items():
                train = part.partition.train
                log(f'  {name}: {len(np.unique(train.person_id))} people, {len(train)} tracklets')
            self.step, self.state, self._resumed_at = 0, experiment.initial_state(log, inherited), {'next_index': 0}
            self.checkpoints = checkpoints or Checkpoints(folder, config.checkpoint)
            if jax.process_index() == 0:
                write_config(workdir, config)
                data.write()
        else:
            self.checkpoints = checkpoints
            self.step, (self.state, self._resumed_at) = saved, checkpoints.restore(shapes)
            log(f'Resuming {workdir} after step {saved} of {config.training.steps}.')
            self._record_more_steps(saved)
        if jax.default_backend() == 'cpu' and (advice := huge_pages.advice()):
            log(advice)
        self._writer = MetricWriter(workdir, self.step) if jax.process_index() == 0 else None
        self.evaluation = TrainingEvaluation(experiment, self._evaluator, self.checkpoints, self._writer, log)
        self.metrics = StepLog(config, batches, self.checkpoints, self._writer, log, experiment.schedule_steps)
        self.metrics.skipped.before = self._resumed_at.get('skipped', 0)
        self._evaluator.stop_when(lambda: stop.requested)
        self._any_process = AnyProcess(experiment.mesh)
        self._iterator = batches.iterator(self._resumed_at['next_index'])
        if self.step < config.training.steps:
            self._iterator.start_prefetch()  # the first batches are read while the step is compiled
        self._profiler = StepProfiler(config.profile, workdir)

    def _record_more_steps(self, step: int) -> None:
        """Where this session of the run has more steps than the one before."""
        ends, now = planned_ends(self._workdir), self._config.training.steps
        if jax.process_index() == 0 and ends and ends[-1] < now:
            self._log(longer_run(self._config.optimizer, step, ends, now))
            record_more_steps(self._workdir, self._config, step)

    def __enter__(self) -> 'TrainingRun':
        return self

    def __exit__(self, _kind, error, _trace) -> None:
        try:
            self._profiler.close()
            if error is None:
                self.checkpoints.close()
            elif isinstance(error, EmbeddingStopped):
                self.checkpoints.wait()
                raise Preempted(
                    'Asked to stop during an evaluation; training is saved. The same command evaluates again.'
                ) from None
            # Closing waits for the others, who may be gone or know nothing of this error.
            elif jax.process_count() == 1 or isinstance(error, NotFinite | EvaluationFailed):
                with contextlib.suppress(
                    Exception
                ):  # on a full disk this fails too, and the first reason is the one to report
                    self.checkpoints.close()
        finally:
            if self._writer:
                self._writer.close()

    def evaluation_missing(self) -> bool:
        """Whether a state of this step is still to be evaluated: the untrained one, or the run was interrupted before
        it could be.
        """
        # 'evaluated': former versions evaluated before they saved
        due = self.evaluation.due(self.step) and self._resumed_at.get('evaluated') != self.step
        return (due and not self.evaluation.recorded(self.step)) or (
            self.step == 0 and self._config.training.eval_untrained
        )

    def wait_for_compilation(self) -> None:
        """Returns when the step is compiled, where that has begun ahead."""
        if self._compiling is None:
            return
        if self._compiling.is_alive():
            once = ', once: a later start finds it in the compile cache' if self._config.compile_cache else ''
            self._log(f'Compiling the training step takes from seconds to two minutes{once}.')
        self._compiling.join()

    def next_batch(self, step: int) -> dict[str, np.ndarray]:
        """This process's share of the batch of the update that leads to `step`."""
        self._profiler.before(step)
        with self.metrics.pace.waiting():
            return next(self._iterator)

    def on_devices(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return global_batch({name: batch[name] for name in ('clips', 'valid', 'label')}, self._experiment.mesh)

    def stop_vote(self) -> bool | jax.Array:
        """Whether any process is asked to stop; to be taken before a step is dispatched."""
        return self._any_process(self._stop.requested)

    def dispatched(self, step: int, metrics: dict, batch: dict[str, np.ndarray], stop_vote: bool | jax.Array) -> bool:
        """Reads the metrics of the step before, while this one runs. Returns whether the run is to stop."""
        self._stop.no_unsaved_steps = False
        self._profiler.after(step, metrics)
        return self.metrics.dispatched(step, metrics, batch, stop_vote)

    def save(self, step: int, state: TrainState) -> None:
        """A checkpoint: the state, and the place in the data. The loss is known to be finite."""
        self.metrics.flush()
        place = {'next_index': int(self._iterator.get_state()['next_index']), 'skipped': self.metrics.skipped.total()}
        self.checkpoints.save(step, state, place, flatten(self._config), self._dataset)

    def evaluate(self, step: int, state: TrainState) -> bool:
        """In the middle of training. Returns whether a process was asked to stop meanwhile."""
        with self.metrics.pace.paused():
            try:
                self.evaluation.intermediate(state, step)
            except EmbeddingStopped:
                return True
        return False

    def stopped(self, step: int) -> Preempted:
        """What is raised where the run stops after a step that was saved."""
        self.checkpoints.wait()
        return Preempted(
            f'Asked to stop: saved after step {step} of {self._config.training.steps}. The same command resumes from '
            'there.'
        )

    def score_chosen(self, state: TrainState) -> tuple[AnyScored, TrainState]:
        """What config.evaluation.checkpoint says of the trained run, scored, with its state."""
        steps = self._config.training.steps
        scored = self.evaluation.final(state, steps).of('last')
        if self._config.evaluation.checkpoint != 'best':
            return scored, state
        self.checkpoints.wait()
        state, which = restore_chosen(self._experiment, self.checkpoints)
        best = int(state.step)
        self._log(f'Of the checkpoints, step {best} is {which}.')
        with failure_told(best):
            return (scored if best == steps else self._evaluator(state.variables(), best)).of(which), state
