"""Working directories of the micro network, as a training leaves them, without training and without compiling; exports
of them."""

import shutil
from pathlib import Path

import jax
import numpy as np

import main
from configs import run as saved_run
from pvlad_jax.config import CheckpointConfig, flatten
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.workdir import write_config
from tests.helpers.micro import micro_config

IDENTITIES = 5


def write_workdir(folder: Path, seed: int = 0, **fields) -> Path:
    """config.json and the checkpoint of step 2, with random weights. The data set of the configuration does not
    exist."""
    config = micro_config('no_data', **{'compile_cache': '', **fields})
    network = build_network(config.model, IDENTITIES)
    clips, rng = config.clips, np.random.default_rng(seed)
    shapes = jax.eval_shape(init_variables, network, (clips.frames, clips.height, clips.width), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(leaf.dtype), shapes)
    variables['params'] = jax.tree.map(lambda leaf: leaf - 0.55 if leaf.ndim > 1 else leaf, variables['params'])
    state = {
        **variables,
        'step': np.int32(2),
        'ema': None,
        'opt_state': {'mu': np.zeros(3, np.float32)},
        'loss_state': {},
    }
    state['params'] = {
        **state['params'],
        'loss_centres': np.zeros((IDENTITIES, 8), np.float32),  # of losses, in addition to the network's
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    checkpoints = Checkpoints(folder / 'checkpoints', CheckpointConfig(keep_latest=1, keep_best=1))
    checkpoints.save(2, state, {'next_index': 2}, flatten(config))
    checkpoints.close()
    return folder


def copied(workdir: Path, folder: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(workdir, folder))


def exported(workdir: Path, output: Path | None = None, **fields) -> Path:
    """The folder that --mode=export writes. fields: of config.evaluation."""
    config = saved_run.get_config(str(workdir))
    for name, value in fields.items():
        config.evaluation[name] = value
    assert main.run(config, workdir, 'export', output=output) == 0
    return output or workdir / 'export'
