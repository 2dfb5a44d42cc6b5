"""Runs in processes of their own, to be ended from outside, and whether two of them are the same run."""

import json
import time
from pathlib import Path

import jax
import numpy as np

from pvlad_jax.config import CheckpointConfig
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import prepare
from tests.helpers.forked_run import ForkedRun, start_micro
from tests.helpers.micro import micro_config

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6  # each is saved, which costs more than to compute it
# With validation people, moving average and OIM, so that all there is to restore is restored.
RUN = {
    'training.steps': STEPS,
    'training.checkpoint_every': 1,
    'checkpoint.keep_latest': 3,
    'training.eval_every': 3,
    'training.log_every': 1,
    'optimizer.ema': 0.9,
    'loss.oim': 0.5,
    'dataset.validation_share': 0.34,
}


def start(data_dir, workdir, *arguments, fields=None) -> ForkedRun:
    return start_micro(data_dir, workdir, *arguments, fields={**RUN, **(fields or {})})


def wait_for(condition, process: ForkedRun, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, 'waited too long'
        time.sleep(0.02)


def lines(workdir: Path, kind: str = 'train') -> list[dict]:
    """Of metrics.jsonl."""
    path = Path(workdir) / 'metrics.jsonl'
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # being written
    return [line for line in found if line['kind'] == kind]


def states(data_dir, workdir, fields=None) -> dict[int, tuple]:
    """Every checkpoint that is listed: {step: (state on the host, state of the data)}. All of them must be readable."""
    experiment = prepare(micro_config(data_dir, **{**RUN, **(fields or {})}))
    checkpoints = Checkpoints(Path(workdir) / 'checkpoints', CheckpointConfig(keep_latest=3, keep_best=1))
    found = {}
    for step in checkpoints.steps():
        state, data = checkpoints.restore(experiment.state_shapes(), step)
        found[step] = (gather_to_host(state), data)
    checkpoints.close()
    return found


def assert_equal_to_the_bit(one, other) -> None:
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def assert_same_run(data_dir, workdir, uninterrupted, fields=None) -> None:
    """Same final state, same numbers of every step and evaluation, same results."""
    mine, theirs = (states(data_dir, folder, fields) for folder in (workdir, uninterrupted))
    assert max(mine) == max(theirs) == STEPS
    assert_equal_to_the_bit(mine[STEPS][0], theirs[STEPS][0])
    assert mine[STEPS][1] == theirs[STEPS][1]
    for kind in ('train', 'eval', 'validation'):
        ours, other = (
            [{k: v for k, v in x.items() if k not in ('steps_per_second', 'input_wait')} for x in lines(w, kind)]
            for w in (workdir, uninterrupted)
        )
        if kind != 'train':  # a run that is finished and given again evaluates again
            ours = list({x['step']: x for x in ours}.values())
        assert ours == other
    result, other = (json.loads((Path(w) / 'eval' / 'latest.json').read_text()) for w in (workdir, uninterrupted))
    assert result == other
