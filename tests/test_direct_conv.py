"""Convolution of pixels in one loop: the sum that it stands for, in value and in the kernel's gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.ops.conv3d import conv3d
from pvlad_jax.ops.cpu import direct_conv

# height, width, kernel, strides, padding, channels of the result
CASES = [
    (32, 16, (7, 7), (2, 2), ((3, 3), (3, 3)), 16),  # OSNet's stem
    (15, 150, (7, 7), (2, 2), ((3, 3), (3, 3)), 5),  # several blocks in a row, a rest in both directions
    (70, 9, (5, 3), (1, 2), ((2, 2), (0, 3)), 20),  # two groups of channels
    (9, 8, (2, 1), (3, 2), ((0, 0), (0, 0)), 3),  # rows and columns that no tap sees
    (4, 3, (7, 7), (2, 2), ((3, 4), (5, 3)), 2),  # a kernel larger than the picture
    (66, 40, (3, 3), (1, 1), ((0, 1), (1, 0)), 17),
]


@pytest.mark.parametrize(('height', 'width', 'kernel', 'strides', 'padding', 'channels'), CASES)
def test_it_is_the_convolution(height, width, kernel, strides, padding, channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, height, width, 3)).astype(np.float32)
    w = rng.normal(size=(*kernel, 3, channels)).astype(np.float32)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *padding, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (2, 3))[:, :, :: strides[0], :: strides[1]]
    g = rng.normal(size=(*windows.shape[:4], channels)).astype(np.float32)

    @jax.jit
    def ours(x, w, g):
        about = strides, padding
        return direct_conv.forward(x, w, *about), direct_conv.kernel_gradient(x, w, g, *about)

    expected = np.einsum('nthwcij,ijcd->nthwd', windows, w), np.einsum('nthwcij,nthwd->ijcd', windows, g)
    for one, exact in zip(ours(x, w, g), expected):
        assert one.shape == exact.shape
        assert np.abs(one - exact).max() < 2e-6 * np.abs(exact).max()


@pytest.mark.parametrize('kernel', [(1, 7, 7), (3, 7, 7)])
def test_stems_of_few_channels_take_it(kernel, monkeypatch):
    """Of one frame both ways; of several the gradient alone, whose terms are not the taps."""
    taken = []
    for name in ('forward', 'kernel_gradient'):
        original = getattr(direct_conv, name)
        monkeypatch.setattr(direct_conv, name, lambda *a, n=name, f=original: taken.append(n) or f(*a))
    x, w = jnp.ones((1, 4, 32, 16, 3)), jnp.ones((*kernel, 3, 16))
    conv = partial(conv3d, strides=(1, 2, 2), formulation='cpu')
    jax.eval_shape(lambda x, w: jax.vjp(conv, x, w)[1](conv(x, w)), x, w)
    assert set(taken) == ({'forward', 'kernel_gradient'} if kernel[0] == 1 else {'kernel_gradient'})


def test_half_precision_sums_in_single():
    """147 threes are 441, of which bfloat16 has the neighbour 440; summed in bfloat16 they are not. Its sums of threes
    stand still before 3,072.
    """
    x = jnp.full((1, 1, 64, 64, 3), 3.0, jnp.bfloat16)
    w = jnp.ones((7, 7, 3, 16), jnp.bfloat16)
    about = (2, 2), ((3, 3), (3, 3))
    y = direct_conv.forward(x, w, *about)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 0, 16, 16, 0]) == 440
    gradient = direct_conv.kernel_gradient(x, w, jnp.ones_like(y), *about)
    assert gradient.dtype == jnp.float32
    assert float(gradient[3, 3, 0, 0]) == 3 * 32 * 32


def test_a_batch_may_be_sharded():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 1, 20, 12, 3)).astype(np.float32)
    w = rng.normal(size=(7, 7, 3, 16)).astype(np.float32)
    g = rng.normal(size=(8, 1, 10, 6, 16)).astype(np.float32)
    about = (2, 2), ((3, 3), (3, 3))

    def both(x, w, g):
        return direct_conv.forward(x, w, *about), direct_conv.kernel_gradient(x, w, g, *about)

    mesh = jax.make_mesh((8,), ('data',))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    shared = jax.jit(both, in_shardings=(rows, whole, rows), out_shardings=(rows, whole))(x, w, g)
    for ours, theirs in zip(shared, jax.jit(both)(x, w, g)):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
