"""What comes before a run is begun, resumed or evaluated, once its data set is open and nothing has been computed."""

from collections.abc import Callable

from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.inherited_weights import Inherited, inherit
from pvlad_jax.runs.open_data import said_of
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData, saved_data
from pvlad_jax.runs.shared_people import CHECKED, check_shared_people
from pvlad_jax.runs.trained_people import check_test_people, entries_of, entry_of
from pvlad_jax.runs.workdir import Folder, check_checkpoint_config
from pvlad_jax.training.train_state import TrainState


def weights_of_new_run(experiment: Experiment, workdir: Folder, shapes: TrainState) -> Inherited | None:
    """What config.init_from says, if anything. UserError where it, or the file of backbone weights, cannot be begun
    with; nothing is written or computed. `shapes`: of the run's state."""
    experiment.check_weights(shapes)
    return inherit(experiment.config, shapes, workdir) if experiment.config.init_from else None


def begin(
    experiment: Experiment,
    workdir: Folder,
    checkpoints: Checkpoints | None,
    log: Callable[[str], None],
    new: bool,
    read_only: bool = False,
    inherited: Inherited | None = None,
) -> tuple[Experiment, RunData]:
    """Before a run is begun (`new`), resumed or evaluated: its data are those it was trained on, it was not trained on
    the people that it is tested on, and what will be tested can be read. Nothing is written where `read_only`, or where
    the run is new; a new one needs no checkpoints.

    Returns:
      The experiment, whose partition knows how many test people were trained on where that is accepted, and the data.
    """
    config, tests = experiment.config, experiment.tests
    data = RunData(workdir, experiment.dataset, experiment.num_identities, read_only)
    if new:
        data.forget()
    else:
        assert checkpoints is not None
        step, about = checkpoints.read_during_training(lambda: _last(checkpoints))
        check_checkpoint_config(workdir, step, about.get('config'), config)
        data.check(about.get('dataset'), config.dataset.on_change, log)
    data.was_trained_on([entry_of(test.dataset, test.partition.train) for test in tests.values()])
    if experiment.parts and not data.checked(CHECKED):
        data.was_trained_on(check_shared_people(config, experiment.parts))
        data.mark_checked(CHECKED)
    for test in tests.values() if inherited else ():
        before = entries_of(saved_data(inherited.folder), inherited.config, test.dataset)
        data.was_trained_on([{**one, 'inherited': True} for one in before])
    for name, test in tests.items():
        with said_of(name):
            roles = check_test_people(config, test.dataset, test.partition, data.trained_on)
        experiment = experiment.with_roles(name, roles)
    check_frames(config, experiment.dataset, experiment.partition, data)
    if not new:
        data.write()
    return experiment, data


def _last(checkpoints: Checkpoints) -> tuple[int, dict]:
    step = checkpoints.latest_step()
    return step, checkpoints.about(step)
