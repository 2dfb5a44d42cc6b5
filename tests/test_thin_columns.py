"""Strided convolutions of pixels: columns side by side in the channels are the same sums, whatever the sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pvlad_jax.ops.cpu import frame_conv as cpu_frame_conv
from pvlad_jax.ops.cpu.conv3d import cpu_conv3d
from pvlad_jax.ops.cpu.thin_columns import columns_in_channels
from pvlad_jax.ops.hidden_zero import zero_after


def native(x, w, strides, padding):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'))


def everything(function, x, w, g):
    """Output, gradient of the input, of the kernel."""

    @jax.jit
    def run(x, w, g):
        y, pull = jax.vjp(function, x, w)
        return y, *pull(g)

    return run(x, w, g)


@pytest.mark.parametrize('together', [(1, 1), (2, 3)])
@pytest.mark.parametrize(
    ('size', 'kernel', 'strides', 'padding', 'channels', 'features'),
    [
        ((16, 8), 7, 2, (3, 3), 3, 16),
        ((13, 11), 7, 2, (3, 3), 3, 24),  # an odd number of columns
        ((7, 3), 7, 2, (3, 3), 3, 5),
        ((9, 10), 3, 2, (0, 1), 4, 8),
        ((11, 8), 5, 3, (2, 1), 2, 8),
        ((6, 9), 3, 1, (1, 1), 3, 16),
        ((8, 6), 7, 2, (3, 3), 3, 64),
    ],
)
def test_it_is_the_convolution(size, kernel, strides, padding, channels, features, together, monkeypatch):
    monkeypatch.setattr(cpu_frame_conv, 'choose_packing', lambda *about: together)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size, channels)).astype(np.float32)
    w = rng.normal(size=(1, kernel, kernel, channels, features)).astype(np.float32)
    about = (1, strides, strides), ((0, 0), padding, padding)
    g = rng.normal(size=jax.eval_shape(lambda x, w: native(x, w, *about), x, w).shape).astype(np.float32)
    ours = everything(lambda x, w: cpu_conv3d(x, w, *about), x, w, g)
    with jax.enable_x64(True):
        theirs = everything(lambda x, w: native(x, w, *about), *(np.asarray(a, np.float64) for a in (x, w, g)))
    for a, b in zip(ours, theirs):
        assert a.dtype == np.float32
        scale = np.abs(b).max()
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=3e-6)


def test_half_precision_rounds_once():
    """Inputs that it holds exactly, so that what is lost is the result's last rounding."""
    rng = np.random.default_rng(1)
    x, w, g = (
        jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((2, 2, 14, 8, 3), (1, 7, 7, 3, 16), (2, 2, 7, 4, 16))
    )
    about = (1, 2, 2), ((0, 0), (3, 3), (3, 3))
    of_kernel = everything(lambda x, w: cpu_conv3d(x, w, *about), x, w, g)[2]
    exact = everything(lambda x, w: native(x, w, *about), *(a.astype(jnp.float32) for a in (x, w, g)))[2]
    assert of_kernel.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(of_kernel, np.float32), exact, rtol=2**-8, atol=1e-5 * float(np.abs(exact).max())
    )


def test_columns_keep_their_order():
    x = jnp.arange(2 * 5 * 3, dtype=jnp.float32).reshape(1, 1, 2, 5, 3)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 2), (0, 0)))
    found = columns_in_channels(x, 2, 1, 4)
    np.testing.assert_array_equal(found, padded.reshape(1, 1, 2, 4, 6))
    np.testing.assert_array_equal(columns_in_channels(x, 2, 0, 2), x[..., :4, :].reshape(1, 1, 2, 2, 6))


def test_a_hidden_zero_is_zero_of_any_number():
    numbers = jnp.array([[1.5, 7], [-2, 7], [np.nan, 7], [-np.inf, 7]], jnp.float32)
    zeros = jax.jit(zero_after)(numbers)
    assert zeros.shape == (4, 1)
    np.testing.assert_array_equal(zeros, 0)
