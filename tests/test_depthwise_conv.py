"""Depthwise convolution: every formulation is the sum written down in NumPy, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from pvlad_jax.ops.depthwise_conv import depthwise_conv


def arrays(shape):
    """x, kernel, gradient of the output."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in (shape, (3, 3, shape[-1]), shape)]


def oracle(x, kernel, g):
    """(output, gradient of x, gradient of the kernel) in float64, place by place as the definition says."""
    x, kernel, g = (np.asarray(a, np.float64) for a in (x, kernel, g))
    height, width = x.shape[2:4]
    y, of_x, of_kernel = np.zeros_like(x), np.zeros_like(x), np.zeros_like(kernel)
    for h, w, i, j in np.ndindex(height, width, 3, 3):
        row, column = h + i - 1, w + j - 1
        if 0 <= row < height and 0 <= column < width:
            y[:, :, h, w] += kernel[i, j] * x[:, :, row, column]
            of_x[:, :, row, column] += kernel[i, j] * g[:, :, h, w]
            of_kernel[i, j] += (x[:, :, row, column] * g[:, :, h, w]).sum((0, 1))
    return y, of_x, of_kernel


def everything(formulation):
    def run(x, kernel, g):
        y, pull = jax.vjp(lambda x, kernel: depthwise_conv(x, kernel, formulation), x, kernel)
        return y, *pull(g)

    return jax.jit(run)


@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 3), (3, 7), (5, 4), (6, 8), (9, 1)])
def test_the_formulations_are_the_definition(size):
    inputs = arrays((2, 2, *size, 5))
    exact = oracle(*inputs)
    for formulation in ('native', 'cpu', 'auto'):
        for ours, theirs in zip(everything(formulation)(*inputs), exact):
            assert ours.dtype == np.float32
            scale = max(np.abs(theirs).max(), 1)
            np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-6)


def test_half_precision_sums_in_single():
    """Inputs that half precision holds exactly: what is lost is the last rounding of the result, not partial sums."""
    inputs = [jnp.asarray(a, jnp.bfloat16) for a in arrays((2, 3, 8, 6, 16))]
    for ours, exact in zip(everything('cpu')(*inputs), oracle(*inputs)):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(ours, np.float64), exact, rtol=2**-8, atol=1e-5 * np.abs(exact).max())


def test_frames_do_not_see_each_other():
    """What is not a number stays in its frame, at the places next to it and in its channel."""
    x, kernel, g = arrays((2, 3, 4, 5, 3))
    x[1, 1, 0, 4, 2] = np.nan
    y = np.isnan(np.asarray(everything('cpu')(x, kernel, g)[0]))
    expected = np.zeros_like(y)
    expected[1, 1, :2, 3:, 2] = True
    np.testing.assert_array_equal(y, expected)


def test_a_gradient_of_a_gradient_is_that_of_the_native_one():
    x, kernel, g = arrays((1, 2, 4, 3, 2))

    def penalty(formulation):
        def loss(x, kernel):
            return (depthwise_conv(x, kernel, formulation) ** 2 * g).sum()

        def norm(x, kernel):
            return sum(jnp.square(a).sum() for a in jax.grad(loss, (0, 1))(x, kernel))

        return jax.jit(jax.grad(norm))(x, kernel)

    ours, theirs = penalty('cpu'), penalty('native')
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_over_a_sharded_batch_nothing_is_gathered():
    """The same as on one device; only the kernel's gradient is summed over devices."""
    inputs = arrays((8, 2, 8, 4, 3))
    mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = jax.NamedSharding(mesh, jax.P('data')), jax.NamedSharding(mesh, jax.P())
    placed = [jax.device_put(a, s) for a, s in zip(inputs, (split, whole, split))]
    run = everything('auto')
    compiled = run.lower(*placed).compile()
    text = compiled.as_text()
    assert 'all-gather' not in text and 'all-to-all' not in text and 'collective-permute' not in text
    assert 'all-reduce' in text
    results = compiled(*placed)
    assert results[0].sharding.is_equivalent_to(split, 5) and results[1].sharding.is_equivalent_to(split, 5)
    for ours, single in zip(results, run(*inputs)):
        np.testing.assert_allclose(ours, single, rtol=1e-5, atol=1e-5)


def test_the_platform_chooses():
    """On CPU no grouped convolution is left, in no direction; on TPU and GPU all are XLA's."""
    x, kernel, _ = arrays((1, 2, 4, 4, 3))
    traced = jax.jit(jax.value_and_grad(lambda x, w: depthwise_conv(x, w).sum(), (0, 1))).trace(x, kernel)
    for platform, convolutions in (('cpu', 0), ('tpu', 3), ('cuda', 3)):
        assert traced.lower(lowering_platforms=(platform,)).as_text().count('stablehlo.convolution') == convolutions


def test_shapes_that_do_not_fit_are_named():
    # Under the tests' check of annotations that one speaks first.
    with pytest.raises((ValueError, TypeCheckError)):
        depthwise_conv(jnp.zeros((1, 1, 4, 4, 3)), jnp.zeros((3, 3, 4)))
