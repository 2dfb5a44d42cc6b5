"""BatchNorm sees valid frames only, and its own derivative is that of its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.models.batch_norm import BatchNorm, normalise

EPSILON = 1e-5


def by_definition(x, valid, scale, bias, groups):
    """Every group of clips by the mean and variance of its valid frames, zero at the others; as JAX derives it."""
    parts = []
    for part, seen in zip(jnp.split(x, groups), np.split(valid, groups)):
        places = part[seen]
        mean, var = places.mean((0, 1, 2)), places.var((0, 1, 2))
        parts.append(jnp.where(seen[..., None, None, None], (part - mean) / jnp.sqrt(var + EPSILON) * scale + bias, 0))
    return jnp.concatenate(parts)


@pytest.mark.parametrize('groups', [1, 2])
def test_the_gradients_are_those_of_the_definition(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 4, 2, 5)) * 3 + 10
    scale, bias, g = rng.normal(size=5), rng.normal(size=5), rng.normal(size=x.shape)
    valid = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    with jax.enable_x64(True):

        @jax.jit
        def derived(g, *inputs):
            y, pull = jax.vjp(lambda x, *rest: by_definition(x, valid, *rest, groups), *inputs)
            return y, *pull(g)

        exact = [np.asarray(a) for a in derived(g, x, scale, bias)]
    x[~valid] = np.nan  # whatever stands there
    inputs = [np.float32(a) for a in (x, scale, bias)]
    shift = np.full(5, 9, np.float32)

    @jax.jit
    def ours(x, scale, bias, g):
        y, pull = jax.vjp(
            lambda *a: normalise(a[0], jnp.asarray(valid), jnp.asarray(shift), *a[1:], groups, EPSILON)[0],
            x,
            scale,
            bias,
        )
        return y, *pull(g)

    for a, b in zip(ours(*inputs, np.float32(g)), exact):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_half_precision_has_its_own_type_and_single_precision_sums():
    rng = np.random.default_rng(1)
    x, g = (jnp.asarray(rng.normal(size=(2, 2, 8, 8, 3)) + offset, jnp.bfloat16) for offset in (4, 0))
    valid, ones = np.ones((2, 2), bool), jnp.ones(3)

    @jax.jit
    def run(x, g):
        y, pull = jax.vjp(lambda x, s, b: normalise(x, jnp.asarray(valid), ones, s, b, 1, EPSILON)[0], x, ones, ones)
        return y, *pull(g)

    half, single = run(x, g), run(x.astype(jnp.float32), g.astype(jnp.float32))
    assert [a.dtype for a in half] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    for a, b in zip(half, single):
        np.testing.assert_allclose(np.asarray(a, np.float32), b, rtol=2**-8, atol=2e-3)


def test_valid_frames_only_are_seen():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(3, 4, 2, 2, 5)) * 3 + 10).astype(np.float32)
    valid = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    x[~valid] = np.nan
    norm = BatchNorm(use_scale=True)
    variables = norm.init(jax.random.key(0), jnp.asarray(x), jnp.asarray(valid), True)
    y, updated = norm.apply(variables, jnp.asarray(x), jnp.asarray(valid), True, mutable=['batch_stats'])
    seen = x[valid].astype(np.float64)
    mean, var = seen.mean((0, 1, 2)), seen.var((0, 1, 2))
    np.testing.assert_allclose(np.asarray(y)[valid], (seen - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(y)[~valid], 0)
    np.testing.assert_allclose(updated['batch_stats']['mean'], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(updated['batch_stats']['var'], 0.9 + 0.1 * var, rtol=1e-3)


def test_a_batch_without_valid_frames_gives_finite_numbers():
    x, valid = jnp.ones((1, 2, 1, 1, 3)), jnp.zeros((1, 2), bool)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, valid, True)

    def loss(params):
        y, updated = norm.apply({**variables, 'params': params}, x, valid, True, mutable=['batch_stats'])
        return y.sum(), updated

    (_, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables['params'])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updated, gradient)))


def test_the_norm_over_a_sharded_batch_is_that_of_the_whole():
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(8, 2, 2, 2, 3)), jnp.float32)
    valid = jnp.asarray(rng.random((8, 2)) < 0.6)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, valid, True)
    step = jax.jit(lambda x, valid: norm.apply(variables, x, valid, True, mutable=['batch_stats']))
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P('data'))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        step(x, valid),
        step(jax.device_put(x, split), jax.device_put(valid, split)),
    )
