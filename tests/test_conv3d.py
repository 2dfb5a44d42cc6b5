"""Convolution and pooling: every formulation is XLA's native one, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv3d import centred_padding, conv3d, max_pool3d, same_padding
from pvlad_jax.models.cpu_conv3d import kernel_gradient_as_products

# kernel, strides, input channels, padding (None = centred)
CASES = [
    ((1, 1, 1), (1, 1, 1), 9, None),
    ((1, 1, 1), (2, 2, 2), 9, None),
    ((1, 3, 3), (1, 2, 2), 9, None),
    ((3, 1, 1), (2, 1, 1), 9, None),
    ((3, 3, 3), (1, 1, 1), 9, None),
    ((3, 3, 3), (2, 2, 2), 9, None),
    ((3, 5, 5), (1, 2, 2), 3, None),
    ((7, 7, 7), (2, 2, 2), 3, ((2, 3), (2, 3), (3, 2))),
    ((2, 2, 2), (2, 1, 2), 9, ((0, 1), (1, 0), (0, 0))),
]


@pytest.mark.parametrize(('kernel', 'strides', 'channels', 'padding'), CASES)
def test_the_formulations_are_one_function(kernel, strides, channels, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7, 6, channels)).astype(np.float32)
    w = rng.normal(size=(*kernel, channels, 4)).astype(np.float32)
    pads = centred_padding(kernel) if padding is None else padding
    oracle = lax.conv_general_dilated(x, w, strides, pads, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'))
    g = rng.normal(size=oracle.shape).astype(np.float32)

    @jax.jit
    def everything(x, w, g):
        results = []
        for formulation in ('native', 'cpu', 'auto'):
            y, gradients = jax.vjp(lambda x, w, f=formulation: conv3d(x, w, strides, padding, f), x, w)
            results.append((y, *gradients(g)))
        # What large pictures get.
        results.append((*results[0][:2], kernel_gradient_as_products(x, w, strides, tuple(pads), g)))
        return results

    native, *others = everything(x, w, g)
    np.testing.assert_allclose(native[0], oracle, rtol=1e-5, atol=1e-5)
    for other in others:
        for ours, theirs in zip(other, native):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=2e-6)


def test_the_platform_chooses():
    """On CPU no 3D convolution is left, in no direction; on TPU and GPU all are XLA's."""
    x, w = jnp.ones((1, 4, 6, 6, 9)), jnp.ones((3, 3, 3, 9, 9))
    traced = jax.jit(jax.value_and_grad(lambda x, w: conv3d(x, w).sum(), (0, 1))).trace(x, w)
    for platform, expected in (('cpu', False), ('tpu', True), ('cuda', True)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        lines = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
        assert lines and any('[b, 0, 1, 2, f]' in line for line in lines) == expected
        assert expected == all('[b, 0, 1, 2, f]' in line or '[f, 0, 1, 2, b]' in line for line in lines)


def test_half_precision_sums_over_time_in_single():
    """Taps that cancel: partial sums in bfloat16 would lose the small one."""
    x = jnp.ones((1, 3, 1, 1, 9), jnp.bfloat16)
    w = np.zeros((3, 1, 1, 9, 1), jnp.bfloat16)
    w[:, 0, 0, 0, 0] = 1000, 1, -1000
    w = jnp.asarray(w)
    for formulation in ('native', 'cpu'):
        y = conv3d(x, w, padding=((0, 0),) * 3, formulation=formulation)
        assert y.dtype == jnp.bfloat16
        assert float(y[0, 0, 0, 0, 0]) == 1.0


@pytest.mark.parametrize(
    ('kernel', 'strides', 'padding'),
    [
        ((1, 3, 3), (1, 2, 2), ((0, 0), (0, 1), (1, 1))),
        ((3, 3, 3), (2, 2, 2), ((1, 1),) * 3),
        ((3, 3, 3), (1, 1, 1), ((1, 1),) * 3),
        ((2, 2, 2), (2, 2, 2), ((0, 1), (0, 0), (0, 1))),
    ],
)
def test_max_pooling_is_the_window_maximum(kernel, strides, padding):
    x = np.random.default_rng(1).permutation(2 * 5 * 6 * 7 * 3).reshape(2, 5, 6, 7, 3).astype(np.float32) - 600

    def oracle(x):
        full = (((0, 0), *padding, (0, 0)), (1, *kernel, 1), (1, *strides, 1))
        return lax.reduce_window(x, -jnp.inf, lax.max, full[1], full[2], full[0])

    def both(function):
        return jax.jit(lambda x: (function(x), jax.grad(lambda x: function(x).sum())(x)))(x)

    ours, theirs = both(lambda x: max_pool3d(x, kernel, strides, padding)), both(oracle)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_tied_maxima_share_one_gradient():
    x = jnp.ones((1, 2, 2, 2, 1))
    gradient = jax.grad(lambda x: max_pool3d(x, (2, 2, 2), (2, 2, 2), ((0, 0),) * 3).sum())(x)
    np.testing.assert_allclose(gradient, 1 / 8)


@pytest.mark.parametrize('frames', [1, 2, 5, 8])
@pytest.mark.parametrize(('k', 's'), [(7, 2), (3, 2), (3, 1), (2, 2), (1, 2)])
def test_same_padding_in_time_does_not_depend_on_the_amount(frames, k, s):
    (front, back), (top, bottom), _ = same_padding((frames, 8, 8), (k, k, k), (s, s, s))
    assert (frames + front + back - k) // s + 1 == -(-frames // s)
    assert front == same_padding((64, 8, 8), (k, k, k), (s, s, s))[0][0]
    total = max((-(-8 // s) - 1) * s + k - 8, 0)  # TensorFlow's rule
    assert (top, bottom) == (total // 2, total - total // 2)


def test_batch_norm_sees_valid_frames_only():
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(3, 4, 2, 2, 5)) * 3 + 10).astype(np.float32)
    valid = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    x[~valid] = np.nan
    norm = BatchNorm(use_scale=True)
    variables = norm.init(jax.random.key(0), x, valid, True)
    y, updated = norm.apply(variables, x, valid, True, mutable=['batch_stats'])
    seen = x[valid].astype(np.float64)
    mean, var = seen.mean((0, 1, 2)), seen.var((0, 1, 2))
    np.testing.assert_allclose(np.asarray(y)[valid], (seen - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(y)[~valid], 0)
    np.testing.assert_allclose(updated['batch_stats']['mean'], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(updated['batch_stats']['var'], 0.9 + 0.1 * var, rtol=1e-3)


def test_batch_norm_of_a_batch_without_valid_frames_is_finite():
    x, valid = jnp.ones((1, 2, 1, 1, 3)), jnp.zeros((1, 2), bool)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, valid, True)

    def loss(params):
        y, updated = norm.apply({**variables, 'params': params}, x, valid, True, mutable=['batch_stats'])
        return y.sum(), updated

    (_, updated), gradient = jax.value_and_grad(loss, has_aux=True)(variables['params'])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updated, gradient)))


def test_batch_norm_over_a_sharded_batch_is_that_of_the_whole():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 2, 2, 2, 3)).astype(np.float32)
    valid = rng.random((8, 2)) < 0.6
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
