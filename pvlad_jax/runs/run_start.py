"""What comes before a run is begun, resumed or evaluated, once its data set is open and nothing has been computed."""

from collections.abc import Callable

from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.workdir import Folder


def begin(experiment: Experiment, workdir: Folder, checkpoints: Checkpoints, log: Callable[[str], None],
          new: bool, read_only: bool = False) -> RunData:
    """Before a run is begun (`new`), resumed or evaluated: its data are those it was trained on, and what will be
    tested can be read. Nothing is written where `read_only`."""
    config, data = experiment.config, RunData(workdir, experiment.dataset, experiment.num_identities, read_only)
    if new:
        data.forget()
    else:
        data.check(checkpoints.about(checkpoints.latest_step()).get('dataset'), config.dataset.on_change, log)
    check_frames(config, experiment.dataset, experiment.partition, data)
    if not new:
        data.write()
    return data
