"""Laws of the moving average of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.training.ema import ema_update
from tests.helpers.small_params import equal, gradients, make_params, names

params = pytest.fixture(make_params)


def test_moving_average_is_the_recursion(params):
    ema = params
    expected = {path: np.asarray(x, np.float64) for path, x in names(params).items()}
    for step in range(30):
        new = gradients(params, step)
        ema = ema_update(ema, new, 0.6, step)
        d = min(0.6, (1 + step) / (10 + step))
        expected = {path: d * x + (1 - d) * np.asarray(names(new)[path]) for path, x in expected.items()}
    for path, value in names(ema).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-6)


def test_moving_average_of_a_constant_is_the_constant(params):
    ema = params
    for step in range(5):
        ema = jax.jit(ema_update)(ema, params, 0.999, step)
    assert equal(ema, params)
    counted = ema_update({'n': jnp.int32(3)}, {'n': jnp.int32(7)}, 0.999, 100)
    assert counted['n'] == 7
