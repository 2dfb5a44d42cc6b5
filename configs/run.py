"""The configuration of a run, as its working directory has it.

    python main.py --config=configs/run.py:runs/demo --workdir=runs/demo --mode=eval

main.py takes it by itself for --mode=eval, export and report where no --config is given. For --mode=eval the data set
must lie where it lay in training, seen from the current folder, or be named by --config.dataset.data_dir.
"""

from ml_collections import ConfigDict

from pvlad_jax.core.settings import to_config_dict
from pvlad_jax.runs.workdir import config_file, open_workdir, saved_config


def get_config(workdir: str = '') -> ConfigDict:
    if not workdir:
        raise ValueError('configs/run.py needs the working directory of the run: --config=configs/run.py:WORKDIR')
    folder = open_workdir(workdir)
    return to_config_dict(saved_config(folder, config_file(folder)))
