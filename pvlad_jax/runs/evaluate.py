"""Mode `eval`: scores a state of a run, and reports."""

import time

import jax

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation.mean_of_data_sets import AnyResult
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.evaluator import EvaluationFailed
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.joined_evaluator import evaluator_of
from pvlad_jax.runs.outputs import Log
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.run_outputs import report_run
from pvlad_jax.runs.run_start import begin
from pvlad_jax.runs.trained_model import UNTRAINED, write_evaluated_config
from pvlad_jax.runs.workdir import Folder
from pvlad_jax.training.train_state import TrainState


def restore_chosen(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, str]:
    """(the state that config.evaluation.checkpoint says, 'last' or 'best' with what it was chosen by).

    The test people choose nothing.
    """
    if experiment.config.evaluation.checkpoint == 'last':
        return checkpoints.restore(experiment.state_shapes())[0], 'last'
    best = checkpoints.best()
    if best is None:
        raise UserError(
            f"config.evaluation.checkpoint = 'best', but no checkpoint in {checkpoints.directory} was scored on "
            f'validation people (there are those of step {", ".join(map(str, checkpoints.steps()))}). They are scored '
            "every config.training.eval_every steps and at the end of training. Score the 'last' one, or train on."
        )
    step, validation_map = best
    return checkpoints.restore(experiment.state_shapes(), step)[0], f'best by validation mAP ({validation_map:.1%})'


def evaluate(experiment: Experiment, workdir: Folder, log: Log, output: Folder) -> AnyResult:
    """Mode `eval`: scores what config.evaluation.checkpoint says, a checkpoint of the working directory or the
    untrained network.

    Results go to `output`; where that is another folder, the working directory is only read.
    """
    checkpoints = Checkpoints(workdir / 'checkpoints', experiment.config.checkpoint, read_only=True)
    if experiment.config.evaluation.checkpoint == UNTRAINED:
        experiment.check_weights(experiment.state_shapes())
        data = RunData(workdir, experiment.dataset, experiment.num_identities)
        check_frames(experiment.config, experiment.dataset, experiment.partition, data)
        log(f'The network as training would begin with it; {workdir} needs no checkpoint.')
        state, which = experiment.initial_state(log), UNTRAINED
        if jax.process_index() == 0:
            write_evaluated_config(output, experiment.config)  # what pvlad_jax.load needs
    elif checkpoints.latest_step() is None:
        raise UserError(
            f'{workdir} holds no checkpoint to evaluate. Train first, with --mode=train, or set '
            f'--config.evaluation.checkpoint={UNTRAINED} to score imported weights as they are.'
        )
    else:
        experiment, _ = begin(experiment, workdir, checkpoints, log, new=False, read_only=output != workdir)
        state, which = checkpoints.read_during_training(lambda: restore_chosen(experiment, checkpoints))
    step = int(state.step)
    began = time.monotonic()
    try:
        scored = evaluator_of(experiment, log)(state.variables(), step).of(which)
    except UserError as error:
        raise EvaluationFailed(f'The evaluation of step {step} failed: {error}') from error
    log(f'Step {step}: embedded {scored.tracklets} tracklets in {time.monotonic() - began:.1f} s.')
    report_run(experiment, output, state.variables(), scored, log)
    checkpoints.close()
    return scored.result
