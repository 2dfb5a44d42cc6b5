"""What comes before a run is begun, resumed or evaluated, once its data set is open and nothing has been computed."""

import dataclasses
from collections.abc import Callable

from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.inherited_weights import Inherited
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData, saved_data
from pvlad_jax.runs.trained_people import check_test_people, entries_of, entry
from pvlad_jax.runs.workdir import Folder


def begin(
    experiment: Experiment,
    workdir: Folder,
    checkpoints: Checkpoints,
    log: Callable[[str], None],
    new: bool,
    read_only: bool = False,
    inherited: Inherited | None = None,
) -> tuple[Experiment, RunData]:
    """Before a run is begun (`new`), resumed or evaluated: its data are those it was trained on, it was not trained on
    the people that it is tested on, and what will be tested can be read. Nothing is written where `read_only`.

    Returns:
      The experiment, whose partition knows how many test people were trained on where that is accepted, and the data.
    """
    config, dataset, roles = experiment.config, experiment.dataset, experiment.partition
    data = RunData(workdir, dataset, experiment.num_identities, read_only)
    if new:
        data.forget()
    else:
        about = checkpoints.read_during_training(lambda: checkpoints.about(checkpoints.latest_step()))
        data.check(about.get('dataset'), config.dataset.on_change, log)
    before = entries_of(saved_data(inherited.folder), inherited.config, dataset) if inherited else []
    data.was_trained_on([entry(dataset, roles.train), *({**one, 'inherited': True} for one in before)])
    # Own training and test people are the data set's business: its build compares them.
    roles = check_test_people(config, dataset, roles, [one for one in data.trained_on if one['inherited']])
    check_frames(config, dataset, roles, data)
    if not new:
        data.write()
    return dataclasses.replace(experiment, partition=roles), data
