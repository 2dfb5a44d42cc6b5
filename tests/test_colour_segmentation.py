"""Body parts by colour: the layout that the mixture begins with, the mixture, the cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.ops.colour_segmentation import BETWEEN_PARTS, VARIANCE, colour_mixture, colour_segmentation
from pvlad_jax.ops.part_layout import SCENES, part_layout

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize('parts', range(1, 10))
def test_the_layout_shares_each_place_out(parts):
    shares = part_layout(parts, 16, 8)
    assert shares.shape == (16, 8, parts + SCENES)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(shares, shares[:, ::-1], rtol=1e-5)  # left as right


def test_parts_stand_one_below_the_other_and_the_margins_are_background():
    heights = np.arange(32) @ np.asarray(part_layout(8, 32, 16)).mean(1)[:, :8]
    assert (np.diff(heights / np.asarray(part_layout(8, 32, 16)).mean(1)[:, :8].sum(0)) > 0).all()
    head, trunk, arms, legs = np.moveaxis(np.asarray(part_layout(4, 32, 16))[..., :4], -1, 0)
    middles = [np.arange(32) @ part.sum(1) / part.sum() for part in (head, trunk, legs)]
    assert middles == sorted(middles)
    assert arms[10, 5] > trunk[10, 5] and arms[10, 8] < trunk[10, 8]
    assert np.asarray(part_layout(4, 32, 16))[:, 0, :4].sum(-1).max() < 0.1
    # In the middle of a part there is rather the person.
    assert np.asarray(part_layout(4, 32, 16))[[3, 11, 23], 8, :4].sum(-1).min() > 0.5


def plain_mixture(colours, weight, prior, steps):
    """One clip, component by component, in float64."""
    share, parts = prior.astype(np.float64), prior.shape[1] - SCENES
    for _ in range(steps):
        density = []
        for k in range(prior.shape[1]):
            w = weight * share[:, k]
            mean = (w[:, None] * colours).sum(0) / w.sum()
            variance = (w[:, None] * (colours - mean) ** 2).sum(0) / w.sum() + VARIANCE
            density.append(np.exp(-0.5 * ((colours - mean) ** 2 / variance).sum(1)) / variance.prod() ** 0.5)
        density = np.stack(density, 1)
        joint = prior * density
        body = joint[:, :parts].sum(1) / joint.sum(1)
        within = prior[:, :parts] * density[:, :parts] ** BETWEEN_PARTS
        share = np.concatenate(
            [body[:, None] * within / within.sum(1, keepdims=True), joint[:, parts:] / joint.sum(1, keepdims=True)], 1
        )
    return share


def test_mixture_equals_plain_loops():
    colours = RANDOM.uniform(size=(2, 60, 3)).astype(np.float32)
    valid = RANDOM.integers(0, 2, (2, 60)).astype(bool)
    prior = RANDOM.dirichlet(np.ones(3 + SCENES), 60).astype(np.float32)
    ours = jax.jit(lambda c, v: colour_mixture(c, v, prior, 3))(colours, valid)
    for clip in range(2):
        expected = plain_mixture(colours[clip].astype(np.float64), valid[clip], prior, 3)
        np.testing.assert_allclose(ours[clip], expected, atol=1e-3)


def walker(frames=2):
    """[1 T 32 16 3]: a person of three colours, who stands to the left in the second half of the frames."""
    clip = np.full((1, frames, 32, 16, 3), (40, 160, 40), np.uint8)
    for f in range(frames):
        left = 6 if f < frames // 2 else 4
        for colour, rows in (((220, 180, 150), (1, 6)), ((200, 30, 30), (6, 16)), ((20, 20, 90), (16, 31))):
            clip[0, f, rows[0] : rows[1], left : left + 4] = colour
    return jnp.asarray(clip)


def test_parts_go_where_their_colours_go():
    shares = np.asarray(colour_segmentation(walker(), jnp.ones((1, 2), bool), 4, 8, 4, 1))[0]
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    for frame, left in enumerate((6, 4)):
        truth = np.zeros((32, 16))
        truth[1:31, left : left + 4] = 1
        truth = truth.reshape(8, 4, 4, 4).mean((1, 3))
        assert np.abs(1 - shares[frame, ..., 4] - truth).max() < 0.1
    legs = shares[:, 4:, :, 3].sum((1, 2)) / (1 - shares[:, 4:, :, 4]).sum((1, 2))
    assert (legs > 0.9).all()


def test_invalid_frames_and_those_without_a_time_of_the_feature_map_change_nothing():
    clips = jnp.asarray(RANDOM.integers(0, 256, (3, 4, 32, 16, 3), np.uint8))
    valid = jnp.asarray([[True, True], [True, False], [False, False]])
    segment = jax.jit(lambda c, v: colour_segmentation(c, v, 4, 8, 4, 2))
    seen, found = np.asarray(valid), segment(clips, valid)
    other = clips.at[:, 1::2].set(0).at[1:, 2].set(9).at[2].set(7)
    np.testing.assert_array_equal(found[seen], segment(other, valid)[seen])
    assert jnp.isfinite(found).all()
    shorter = segment(clips[1:2, :2], valid[1:2, :1])
    np.testing.assert_allclose(found[1:2, :1], shorter, atol=1e-4)
    one = segment(jnp.repeat(clips[:1, :1], 4, 1), valid[:1])  # one frame repeated
    np.testing.assert_allclose(one[:, 0], one[:, 1], atol=1e-4)


@pytest.mark.parametrize('stride, frames', [(2, 3), (4, 6), (4, 9), (8, 12), (16, 17)])
def test_times_stand_for_every_stride_th_frame_however_many_there_are(stride, frames):
    clips = jnp.asarray(RANDOM.integers(0, 256, (1, frames, 32, 16, 3), np.uint8))
    times = -(-frames // stride)
    segment = jax.jit(colour_segmentation, static_argnums=(2, 3, 4, 5))
    shares = segment(clips, jnp.ones((1, times), bool), 4, 8, 4, stride)
    alone = segment(clips[:, [stride * o for o in range(times)]], jnp.ones((1, times), bool), 4, 8, 4, 1)
    np.testing.assert_allclose(shares, alone, atol=1e-6)
    padded = jnp.concatenate([clips, jnp.full((1, 2 * stride, 32, 16, 3), 9, jnp.uint8)], 1)
    there = jnp.arange(-(-padded.shape[1] // stride)) < times
    np.testing.assert_allclose(segment(padded, there[None], 4, 8, 4, stride)[:, :times], shares, atol=1e-4)


def test_sizes_that_no_cell_divides():
    clips = jnp.asarray(RANDOM.integers(0, 256, (1, 3, 37, 19, 3), np.uint8))
    shares = colour_segmentation(clips, jnp.ones((1, 2), bool), 6, 5, 3, 2)
    assert shares.shape == (1, 2, 5, 3, 7)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)


def test_flat_pictures():
    shares = colour_segmentation(jnp.zeros((1, 2, 32, 16, 3), jnp.uint8), jnp.ones((1, 2), bool), 5, 8, 4, 1)
    assert jnp.isfinite(shares).all()
