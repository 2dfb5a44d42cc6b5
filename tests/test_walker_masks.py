"""What benchmarks/part_masks.py makes of masks and clips, without a network."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.clip_masks import ClipMasks, LimbMasks
from benchmarks.mask_picture import COLOURS, STRENGTH, limb_of_parts, picture
from benchmarks.part_masks import NAMES, measures, part_rows, references, with_sides_joined
from benchmarks.walker_masks import world_of
from data_prep.datasets.synthetic import RENDERING, synthetic_raw_dataset
from data_prep.synthetic_walkers.limbs import Limb
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH, World
from pvlad_jax.core.errors import UserError

RNG = np.random.default_rng(0)
SHARES = np.eye(len(Limb))[RNG.integers(0, len(Limb), (6, 8, 4))]
TRACKLET = np.array([0, 0, 0, 1, 1, 1])


def test_masks_of_limbs_are_perfect_and_those_of_one_side_are_not():
    joined = with_sides_joined(SHARES)
    np.testing.assert_allclose(joined.sum(-1), 1)
    whole = measures(joined[..., 1:], SHARES, TRACKLET)
    assert [whole[m] for m in ('nmi', 'ari', 'iou')] == pytest.approx([1, 1, 1])
    assert whole['background'] == 0 and whole['steady_overall'] == 1 and whole['nmi_sides'] < 0.95
    sides = measures(SHARES[..., 1:], SHARES, TRACKLET)
    assert sides['nmi_sides'] == pytest.approx(1) and sides['nmi'] < 0.95 and sides['iou'] < 0.9
    rows = part_rows(joined[..., 1:], SHARES)
    assert [row['limb'] for row in rows] == NAMES[1:] and all(row['share'] == pytest.approx(1) for row in rows)


def test_references_span_from_chance_to_the_limbs():
    rows = references(LimbMasks(np.ones((6, 8, 4, 8)), SHARES, TRACKLET, None))
    uniform, bands, layout, still, limbs = rows
    assert uniform['nmi'] == uniform['unevenness'] == 0 and bands['nmi'] < 0.2 and limbs['nmi'] == pytest.approx(1)
    for fixed in (bands, layout, still):
        assert fixed['follows'] == pytest.approx(0, abs=0.02) and fixed['iou'] < 0.5
    assert still['iou'] > uniform['iou'] and limbs['follows'] > 0.5


def test_limbs_that_nobody_shows_are_no_part_of_the_references():
    shares = SHARES.copy()
    shares[..., Limb.BACKGROUND] += shares[..., Limb.BAG]
    shares[..., Limb.BAG] = 0
    limbs = references(LimbMasks(np.ones((6, 8, 4, 8)), shares, TRACKLET, None))[-1]
    assert limbs['iou'] == pytest.approx(1) and np.isfinite(limbs['unevenness'])
    assert {row['limb'] for row in part_rows(np.ones((6, 8, 4, 3)), shares)} < set(NAMES[1:5])


def seen(mask_of, frames: int, length: int, stride: int) -> ClipMasks:
    """Masks `mask_of(frame, time)` of clips that begin with every stride-th frame."""
    start, times = np.arange(0, frames, stride), np.arange(0, length, stride)
    frame = start[:, None] + times
    masks = np.vectorize(mask_of)(frame, np.arange(len(times)))[..., None, None, None].astype(float)
    return ClipMasks(masks, frame < frames, start, start + length <= frames, stride, length)


@pytest.mark.parametrize('length', [4, 12])
def test_ends_of_a_clip_are_compared_on_the_same_frame(length):
    still = seen(lambda frame, time: 3.0, 20, length, 2)
    assert np.max(list(still.at_ends())) == np.max(list(still.by_motion())) == 0
    moving = seen(lambda frame, time: frame, 20, length, 2)
    assert np.max(list(moving.at_ends())) == 0 and np.unique(list(moving.by_motion())) == [2]
    assert np.max(list(moving.in_one_clip())) == (2 if length == 4 else 6)
    ends = (0,) if length == 4 else (0, length // 2 - 1)
    darker = seen(lambda frame, time: 0.5 if time in ends else 1.0, 20, length, 2)
    for values in (darker.at_ends(), darker.in_one_clip()):
        assert np.unique(list(values)) == [0.5]
    assert np.max(list(darker.by_motion())) == 0


def test_frames_count_once_in_clips_as_at_test():
    frame, masks = seen(lambda frame, time: frame, 11, 4, 2).as_at_test()
    np.testing.assert_array_equal(frame, [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(masks[:, 0, 0, 0], frame)
    one_time = seen(lambda frame, time: frame, 8, 4, 4)
    assert not list(one_time.at_ends()) and not list(seen(lambda frame, time: 0, 3, 4, 2).at_ends())


def test_limbs_are_known_of_walkers_of_this_rendering_alone():
    about = synthetic_raw_dataset(4, 2, seed=5, max_frames=9).metadata
    assert world_of(SimpleNamespace(metadata=about, folder='x')) == World(5, False, 8, 9)
    for wrong, reason in (({}, 'no synthetic walkers'), ({**about, 'rendering': RENDERING - 1}, 'Build the data set')):
        with pytest.raises(UserError, match=reason):
            world_of(SimpleNamespace(metadata=wrong, folder='x'))


def test_each_part_is_drawn_in_the_colour_of_its_limb():
    joined = with_sides_joined(SHARES)
    seen = LimbMasks(joined[..., [4, 1, 3, 2]], SHARES, TRACKLET, None)
    assert [NAMES[at] for at in limb_of_parts(seen)] == ['legs', 'head', 'arms', 'trunk']
    frames = [np.full((3, HEIGHT, WIDTH, 3), 128, np.uint8)] * 2
    labels = [np.full((3, HEIGHT, WIDTH), Limb.HEAD, np.uint8)] * 2
    drawn = picture(frames, labels, [seen])
    assert drawn.shape == (3 * (HEIGHT + 4), 6 * (WIDTH + 4) + 8, 3)
    assert (drawn[0, 0] == 128).all()
    np.testing.assert_allclose(drawn[HEIGHT + 4, 0], STRENGTH * COLOURS[1] + (1 - STRENGTH) * 128, atol=1)
