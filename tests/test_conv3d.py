"""Convolution and pooling: every formulation is XLA's native one, in value and in both gradients."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pvlad_jax.ops import set_planned_threads
from pvlad_jax.ops.conv3d import conv3d
from pvlad_jax.ops.cpu import frame_conv as cpu_frame_conv
from pvlad_jax.ops.cpu import kernel_gradient as cpu_kernel_gradient
from pvlad_jax.ops.cpu import threads, winograd_height, winograd_time
from pvlad_jax.ops.cpu.conv3d import cpu_conv3d, kernel_gradient_as_products
from pvlad_jax.ops.max_pool3d import max_pool3d
from pvlad_jax.ops.padding import centred_padding, same_padding

# kernel, strides, channels of input and output, padding (None = centred)
CASES = [
    ((1, 1, 1), (1, 1, 1), 9, 4, None),
    ((1, 1, 1), (2, 2, 2), 9, 4, None),
    ((1, 3, 3), (1, 2, 2), 9, 4, None),
    ((3, 1, 1), (2, 1, 1), 9, 4, None),
    ((1, 1, 1), (1, 1, 1), 9, 12, None),
    ((3, 1, 1), (1, 1, 1), 9, 12, None),
    ((3, 1, 1), (2, 2, 2), 9, 12, None),
    ((4, 1, 1), (1, 1, 1), 9, 12, ((0, 2), (0, 0), (0, 0))),
    ((3, 1, 1), (1, 1, 1), 9, 12, ((1, 1), (1, 0), (0, 1))),
    ((3, 3, 3), (1, 1, 1), 9, 4, None),
    ((3, 3, 3), (1, 1, 1), 9, 4, ((0, 0), (1, 1), (1, 1))),
    ((3, 3, 3), (2, 2, 2), 9, 4, None),
    ((3, 5, 5), (1, 2, 2), 3, 4, None),
    ((7, 7, 7), (2, 2, 2), 3, 4, ((2, 3), (2, 3), (3, 2))),
    ((2, 2, 2), (2, 1, 2), 9, 4, ((0, 1), (1, 0), (0, 0))),
    ((1, 5, 3), (1, 1, 1), 9, 4, None),
    ((1, 4, 3), (1, 3, 1), 9, 4, ((0, 0), (0, 2), (1, 1))),
]


@pytest.mark.parametrize(('kernel', 'strides', 'channels', 'outputs', 'padding'), CASES)
def test_the_formulations_are_one_function(kernel, strides, channels, outputs, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 7, 6, channels)).astype(np.float32)
    w = rng.normal(size=(*kernel, channels, outputs)).astype(np.float32)
    pads = centred_padding(kernel) if padding is None else padding
    oracle = partial(
        lax.conv_general_dilated, window_strides=strides, padding=pads, dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC')
    )
    g = rng.normal(size=jax.eval_shape(oracle, x, w).shape).astype(np.float32)

    @jax.jit
    def everything(x, w, g):
        results = []
        for formulation in ('native', 'cpu', 'auto'):
            y, gradients = jax.vjp(lambda x, w, f=formulation: conv3d(x, w, strides, padding, f), x, w)
            results.append((y, *gradients(g)))
        # What large pictures get.
        results.append((*results[0][:2], kernel_gradient_as_products(x, w, strides, tuple(pads), g)))
        return oracle(x, w), *results

    expected, native, *others = everything(x, w, g)
    np.testing.assert_allclose(native[0], expected, rtol=1e-5, atol=1e-5)
    for other in others:
        for ours, theirs in zip(other, native):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=2e-6)


def oracle_of(x, w, strides, padding, g):
    """The convolution and its two gradients by XLA's own, in float64."""
    axes = ('NDHWC', 'DHWIO', 'NDHWC')

    @jax.jit  # one program in place of one for every operation
    def both(x, w, g):
        y, pull = jax.vjp(lambda x, w: lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=axes), x, w)
        return y, *pull(g)

    with jax.enable_x64(True):
        return [np.asarray(a) for a in both(*(np.asarray(a, np.float64) for a in (x, w, g)))]


def assert_same(ours, theirs, tolerance):
    for a, b in zip(ours, theirs):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a / np.abs(b).max(), b / np.abs(b).max(), rtol=0, atol=tolerance)


@pytest.mark.parametrize('together', [(1, 1), (1, 5), (2, 5)])
@pytest.mark.parametrize(
    ('kernel', 'strides', 'padding'),
    [
        ((3, 3, 3), (1, 1, 1), ((1, 1),) * 3),
        ((1, 3, 3), (1, 2, 2), ((0, 0), (0, 1), (0, 1))),
        ((1, 7, 7), (1, 2, 2), ((0, 0), (3, 3), (3, 3))),
        ((1, 2, 2), (1, 1, 3), ((0, 0), (1, 0), (1, 0))),
        ((1, 3, 3), (1, 1, 1), ((0, 0), (0, 0), (0, 0))),
    ],
)
def test_frames_side_by_side_do_not_see_each_other(kernel, strides, padding, together, monkeypatch):
    asked = []

    def choose_packing(width, terms, channels, clips, frames, threads):
        asked.append(width)
        return min(together[0], clips), frames if together[1] > 1 else 1

    monkeypatch.setattr(cpu_frame_conv, 'choose_packing', choose_packing)
    (x, w, g), expected = side_by_side(kernel, strides, padding)

    @jax.jit
    def ours(x, w, g):
        # Not `conv3d`, which keeps what it traced once.
        y, pull = jax.vjp(lambda x, w: cpu_conv3d(x, w, strides, padding), x, w)
        return y, *pull(g)

    found = ours(x, w, g)
    assert asked
    assert_same(found, expected, 3e-6)


@cache
def side_by_side(kernel, strides, padding):
    """(input, kernel, gradient of the output), and what is expected of them."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 5, 6, 7, 9)).astype(np.float32)
    w = rng.normal(size=(*kernel, 9, 4)).astype(np.float32)
    size = (n + sum(p) - k for n, p, k in zip((5, 6, 7), padding, kernel))
    g = rng.normal(size=(2, *(n // s + 1 for n, s in zip(size, strides)), 4)).astype(np.float32)
    return (x, w, g), oracle_of(x, w, strides, padding, g)


def test_what_keeps_threads_busy():
    """As measured with two threads: cores used by 3x3 convolutions by the picture's width and channels."""
    for width, c_in, c_out, cores in [
        (32, 64, 64, 1.0),
        (64, 64, 64, 1.0),
        (72, 64, 64, 1.1),
        (80, 64, 64, 1.3),
        (96, 64, 64, 1.6),
        (128, 64, 64, 2.0),
        (16, 64, 128, 1.0),
        (16, 128, 128, 2.0),
        (64, 64, 128, 2.0),
        (8, 128, 192, 1.5),
        (8, 32, 96, 1.0),
        (4, 160, 320, 1.67),
    ]:
        assert 2 * cpu_frame_conv.utilisation(width, 9 * c_in, c_out, threads=2) == pytest.approx(cores, abs=0.15)
    assert cpu_frame_conv.choose_packing(32, 576, 64, clips=4, frames=8, threads=2) == (1, 8)
    # The frames of one clip are not enough.
    assert cpu_frame_conv.choose_packing(16, 9 * 192, 64, clips=4, frames=2, threads=2) == (4, 2)
    assert cpu_frame_conv.choose_packing(16, 9 * 128, 128, clips=4, frames=4, threads=2) == (1, 1)  # busy as they are
    assert cpu_frame_conv.choose_packing(32, 576, 64, clips=4, frames=8, threads=1) == (1, 1)


def test_processes_on_unequal_machines_have_one_program(monkeypatch):
    def program(planned, available):
        monkeypatch.setattr(threads, 'THREADS', available)
        monkeypatch.setattr(threads, '_planned', None)
        set_planned_threads(planned)
        x, w = jax.ShapeDtypeStruct((4, 8, 64, 32, 64), jnp.float32), jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
        return str(jax.make_jaxpr(lambda x, w: cpu_frame_conv.frame_conv(x, w, (1, 1), ((1, 1), (1, 1))))(x, w))

    assert program(None, 2) != program(None, 1)
    assert program(2, 2) == program(2, 1) == program(2, 16)


def test_winograds_matrices_are_exact():
    """OUTPUT @ ((KERNEL @ k) * (INPUT @ d)) is the correlation of six numbers with three."""
    d, k = np.eye(6), np.eye(3)
    matrices = (np.array(m, float) for m in (winograd_time.OUTPUT, winograd_time.KERNEL, winograd_time.INPUT))
    output, kernel, inputs = matrices
    bilinear = np.einsum('om,mk,md->okd', output, kernel @ k, inputs @ d)
    expected = np.zeros((4, 3, 6))
    for o in range(4):
        for tap in range(3):
            expected[o, tap, o + tap] = 1
    np.testing.assert_allclose(bilinear, expected, atol=1e-15)


@pytest.mark.parametrize('taps', winograd_height.FILTERS)
def test_the_matrices_for_the_height_are_exact(taps):
    """TAPS @ ((G @ g) * (SEEN @ x)) is, for every tap, g0 x[tap] + g1 x[tap + 1]."""
    points, seen, of_taps = winograd_height.FILTERS[taps]
    gradients = np.array([winograd_height.G[point] for point in points], float)
    bilinear = np.einsum('tp,pg,px->tgx', of_taps, gradients, np.array(seen, float))
    expected = np.zeros((taps, 2, taps + 1))
    for tap in range(taps):
        expected[tap, 0, tap] = expected[tap, 1, tap + 1] = 1
    np.testing.assert_allclose(bilinear, expected, atol=1e-15)


@pytest.mark.parametrize(
    ('kernel', 'strides', 'size'), [((3, 3), (1, 1), (9, 8)), ((7, 7), (2, 2), (16, 14)), ((3, 3), (2, 2), (7, 8))]
)
def test_in_half_precision_no_rows_are_added(kernel, strides, size):
    """Products of half precision's own numbers, summed in float32: what is lost is what float32 loses."""
    rng = np.random.default_rng(7)
    padding = tuple((k // 2, k // 2) for k in kernel)
    x = jnp.asarray(rng.normal(size=(2, 1, *size, 8)), jnp.bfloat16)
    g = jnp.asarray(rng.normal(size=(2, 1, *(-(-n // s) for n, s in zip(size, strides)), 4)), jnp.bfloat16)
    exact = oracle_of(
        x.astype(jnp.float32), np.zeros((1, *kernel, 8, 4)), (1, *strides), ((0, 0), *padding), g.astype(jnp.float32)
    )[2][0]
    ours = jax.jit(lambda x, g: cpu_kernel_gradient.frame_kernel_gradient(x, g, kernel, strides, padding))(x, g)
    assert_same([np.asarray(ours)], [exact], 1e-6)


@pytest.mark.parametrize(
    ('frames', 'padding'), [(3, (1, 1)), (4, (1, 1)), (7, (1, 1)), (8, (1, 1)), (8, (2, 0)), (6, (0, 0)), (5, (2, 2))]
)
def test_filtering_along_time_is_the_convolution(frames, padding):
    rng = np.random.default_rng(5)
    x = jnp.asarray(np.maximum(rng.normal(size=(2, frames, 5, 4, 24)), 0), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 3, 3, 24, 8)), jnp.float32)
    outputs, space = frames + sum(padding) - 2, ((1, 1), (1, 1))
    g = jnp.asarray(rng.normal(size=(2, outputs, 5, 4, 8)), jnp.float32)

    @jax.jit
    def ours(x, w, g):
        y, pull = jax.vjp(lambda x: winograd_time.forward(x, w, outputs, padding[0], (1, 1), space), x)
        return y, pull(g)[0], winograd_time.kernel_gradient(x, g, (3, 3), padding[0], (1, 1), space)

    assert_same(ours(x, w, g), oracle_of(x, w, (1, 1, 1), (padding, *space), g), 2e-6)


def test_filtering_along_time_is_taken_where_it_saves_convolutions():
    """Of clips padded by one frame on both sides: taps see 3 T - 2 frames."""
    taken = [frames for frames in range(1, 17) if winograd_time.saves_convolutions(max(3 * frames - 2, 1), frames)]
    assert taken == list(range(3, 17))


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
