"""Training, from top to bottom. Everything around the loop is in `training_run`, one update in `training.train_step`.

The order is that of one rule: save the state, evaluate it, only then take the next batch. So a checkpoint of step n
holds the state after n updates and the data iterator before batch n, a run that resumes from it repeats nothing and
leaves nothing out, and an evaluation that fails costs no step.
"""

from pvlad_jax.evaluation.mean_of_data_sets import AnyResult
from pvlad_jax.launch.preemption import StopRequest
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.outputs import Log
from pvlad_jax.runs.run_outputs import report_run
from pvlad_jax.runs.training_run import TrainingRun
from pvlad_jax.runs.workdir import Folder


def train(experiment: Experiment, workdir: Folder, log: Log, stop: StopRequest | None = None) -> AnyResult:
    """Trains to the last step, from the last checkpoint where there is one, evaluates and reports.

    Raises Preempted, with everything saved, soon after `stop` is asked for.
    """
    config = experiment.config.training
    with TrainingRun(experiment, workdir, log, stop or StopRequest()) as run:
        state, first = run.state, run.step
        if run.evaluation_missing():
            run.evaluation.intermediate(state, first)
        run.wait_for_compilation()

        for step in range(first + 1, config.steps + 1):
            batch = run.next_batch(step)
            stop_vote = run.stop_vote()
            state, metrics = run.train_step(state, run.on_devices(batch))
            stopping = run.dispatched(step, metrics, batch, stop_vote)

            evaluate = run.evaluation.due(step) and not stopping
            if evaluate or stopping or step % config.checkpoint_every == 0 or step == config.steps:
                run.save(step, state)
                if evaluate:
                    stopping = run.evaluate(step, state)
                if stopping and step < config.steps:
                    raise run.stopped(step)

        scored, state = run.score_chosen(state)
    report_run(experiment, workdir, state.variables(), scored, log)
    return scored.result
