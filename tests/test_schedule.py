"""Laws of the learning rate over a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.default import get_config
from pvlad_jax.config import freeze
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.metric_writer import MetricWriter
from pvlad_jax.runs.step_log import StepLog
from pvlad_jax.training.schedule import learning_rate
from tests.helpers.micro import micro_config

BASE = dataclasses.replace(freeze(get_config()).optimizer, warmup_steps=4, clip_norm=0.0)
STEPS = 20


def test_warm_up_rises_in_a_line_to_the_peak():
    for schedule in ('cosine', 'steps', 'constant'):
        rate = learning_rate(dataclasses.replace(BASE, schedule=schedule, warmup_steps=5, learning_rate=0.2), 100)
        np.testing.assert_allclose([rate(s) for s in range(6)], [0.04, 0.08, 0.12, 0.16, 0.2, 0.2], rtol=1e-6)


def test_cosine_is_half_way_in_the_middle_and_ends_at_the_final_factor():
    rate = learning_rate(dataclasses.replace(BASE, learning_rate=0.2, warmup_steps=10, final_factor=0.1), 111)
    np.testing.assert_allclose([rate(10), rate(60), rate(110), rate(500)], [0.2, 0.2 * 0.55, 0.02, 0.02], rtol=1e-5)
    values = np.array([rate(s) for s in range(10, 111)])
    assert (np.diff(values) < 0).all()


def test_steps_fall_at_their_shares_of_the_run():
    config = dataclasses.replace(
        BASE, schedule='steps', learning_rate=1.0, warmup_steps=0, decay_steps=(0.5, 0.8), decay_factor=0.1
    )
    rate = learning_rate(config, 50)
    np.testing.assert_allclose([rate(s) for s in (0, 24, 25, 39, 40, 49)], [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_no_warm_up_and_a_run_shorter_than_its_warm_up():
    assert learning_rate(dataclasses.replace(BASE, warmup_steps=0, learning_rate=0.5), 10)(0) == 0.5
    short = learning_rate(dataclasses.replace(BASE, warmup_steps=8, learning_rate=0.8), 4)
    np.testing.assert_allclose([short(s) for s in range(4)], [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_rate_is_the_same_under_jit():
    for schedule in ('cosine', 'steps', 'constant'):
        rate = learning_rate(dataclasses.replace(BASE, schedule=schedule), STEPS)
        np.testing.assert_allclose(jax.vmap(rate)(jnp.arange(STEPS)), [rate(s) for s in range(STEPS)], rtol=1e-5)


def logged(config) -> list[tuple[int, float]]:
    """(step, learning rate) of each line that the log of a run has."""
    written = []

    class Writer(MetricWriter):
        def __init__(self):
            pass

        def write(self, step, kind, numbers):
            written.append((step, numbers['learning_rate']))

    class Batches(TrainBatches):
        skipped = frozenset()

        def __init__(self):
            pass

    log = StepLog(config, Batches(), object.__new__(Checkpoints), Writer(), lambda text: None)
    for step in range(1, config.training.steps + 1):
        log.dispatched(
            step, {'loss': 1.0, 'gradient_norm': 1.0, 'parameter_norm': 1.0}, {'replaced': np.zeros(1, bool)}, False
        )
    log.flush()
    return written


def test_the_log_has_the_rate_that_a_step_was_made_with():
    config = micro_config('data', **{'training.steps': 6, 'training.log_every': 2, 'optimizer.warmup_steps': 3})
    written, rate = logged(config), learning_rate(config.optimizer, 6)
    assert written == [(step, float(rate(step - 1))) for step in (2, 4, 6)] and written[0][1] < written[1][1]


@pytest.mark.parametrize('stop_on_nonfinite', [True, False])
def test_the_last_step_has_a_line_wherever_it_falls(stop_on_nonfinite):
    fields = {'training.steps': 5, 'training.log_every': 2, 'training.stop_on_nonfinite': stop_on_nonfinite}
    assert [step for step, _ in logged(micro_config('data', **fields))] == [2, 4, 5]
