"""Evaluations during training and at its end: what is scored, where it is recorded, and what happens where one fails.

A state is saved before it is evaluated, so a failure costs no training step: in the middle of training it is reported
and recorded and training continues; at the end the run ends with an error, and the same command evaluates again.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from pvlad_jax.core.errors import UserError
from pvlad_jax.embedding.tracklets import EmbeddingStopped
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.evaluator import EvaluationFailed
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.joined_evaluator import AnyEvaluator, AnyScored
from pvlad_jax.runs.metric_writer import MetricWriter
from pvlad_jax.runs.outputs import Log
from pvlad_jax.training.train_state import TrainState

LOGGED = ('rank_1', 'rank_5', 'rank_10', 'rank_20', 'mAP')
GROUPS = {'eval': 'people never seen', 'validation': 'people held out for validation'}


class TrainingEvaluation:
    """When a state is evaluated in training, and where its numbers go: the log, metrics.jsonl, the checkpoint's folder.

    Args:
      writer: None in all processes but the first.
    """

    def __init__(
        self,
        experiment: Experiment,
        evaluator: AnyEvaluator,
        checkpoints: Checkpoints,
        writer: MetricWriter | None,
        log: Log,
    ):
        self._config, self._validates = experiment.config, len(experiment.partition.validation_query) > 0
        self._evaluator, self._checkpoints, self._writer, self._log = evaluator, checkpoints, writer, log

    def due(self, step: int) -> bool:
        """In the middle of training; the end is always evaluated."""
        every = self._config.training.eval_every
        return bool(every) and 0 < step < self._config.training.steps and step % every == 0

    def recorded(self, step: int) -> bool:
        """Whether the checkpoint of this step has its evaluation, or why that failed."""
        return self._checkpoints.evaluation(step) is not None

    def intermediate(self, state: TrainState, step: int) -> None:
        """Scores a state in the middle of training (or before it); it has been saved, unless it is the untrained one.

        A mistake in the data is reported and recorded, and training continues. Raises EmbeddingStopped, with nothing
        recorded.
        """
        record = {}
        with self._any_failure_recorded(step):
            try:
                record = self._validate(state, step)
                self._test(state, step)
            except UserError as error:
                record['failed'] = str(error)
                self._log(f'step {step:>5}  the evaluation failed, and training continues: {error}')
                if self._writer:
                    self._writer.write(step, 'evaluation_failed', {'error': str(error)})
        self._checkpoints.record_evaluation(step, record)

    def final(self, state: TrainState, step: int) -> AnyScored:
        """Scores the last state, once it has been saved. Raises EvaluationFailed; nothing is recorded then, so it is
        tried again. A save that failed raises its own UserError before: its state is lost, whatever the scores."""
        self._checkpoints.wait()
        with failure_told(step):
            if not self.recorded(step):
                self._checkpoints.record_evaluation(step, self._validate(state, step))
            return self._test(state, step)

    def _validate(self, state: TrainState, step: int) -> dict:
        """Validation people, where there are any, choose the best checkpoint."""
        if not self._validates:
            return {}
        began = time.monotonic()
        result = self._evaluator(state.variables(), step, 'validation').result.to_json()
        self._report(step, 'validation', result, began)
        return {'validation': {name: float(result[name]) for name in ('mAP', 'rank_1')}}

    def _test(self, state: TrainState, step: int) -> AnyScored:
        began = time.monotonic()
        scored = self._evaluator(state.variables(), step)
        self._report(step, 'eval', scored.result.to_json(), began)
        return scored

    def _report(self, step: int, kind: str, result: Mapping[str, Any], began: float) -> None:
        """result: its fields; of joined data sets the means, with each under `data_sets`."""
        each = result.get('data_sets', {})
        if self._writer:
            for line, numbers in {kind: result, **{f'{kind}/{name}': one for name, one in each.items()}}.items():
                self._writer.write(step, line, {name: float(numbers[name]) for name in LOGGED})
        left_out = result['skipped_query'] + result['skipped_gallery']
        of_each = '; '.join(f'{name} {one["rank_1"]:.1%}, {one["mAP"]:.1%}' for name, one in each.items())
        self._log(
            f'step {step:>5}  {_people(kind, result)}: rank-1 {result["rank_1"]:.1%}, mAP {result["mAP"]:.1%}'
            f'{f" (mean of {of_each})" if each else ""}'
            f'{self._before_training() if step == 0 else ""}'
            f'{f", {left_out} tracklets left out" if left_out else ""}  [{time.monotonic() - began:.1f} s]'
        )

    def _before_training(self) -> str:
        return ' (before the first step)' if self._config.init_from else ' (untrained network)'

    @contextlib.contextmanager
    def _any_failure_recorded(self, step: int) -> Iterator[None]:
        """So that what is no mistake in the data (such as too little memory) ends the run, but not again at the same
        step."""
        try:
            yield
        except EmbeddingStopped:
            raise
        except Exception as error:
            if jax.process_count() == 1:  # the others may be gone
                with contextlib.suppress(Exception):
                    self._checkpoints.record_evaluation(step, {'failed': f'{type(error).__name__}: {error}'[:500]})
            raise


def _people(kind: str, result: Mapping[str, Any]) -> str:
    trained_on = result['trained_people'] if kind == 'eval' else 0
    return f'test people, {trained_on} of whom were trained on' if trained_on else GROUPS[kind]


@contextlib.contextmanager
def failure_told(step: int) -> Iterator[None]:
    """Says of a failed evaluation that no training is lost and how to proceed."""
    try:
        yield
    except UserError as error:
        raise EvaluationFailed(
            f'The evaluation of step {step} failed: {error} The state of step {step} is saved: the same command '
            'evaluates it again, without training again.'
        ) from error
