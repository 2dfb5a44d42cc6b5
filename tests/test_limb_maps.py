"""Label maps of the walkers' limbs: drawn by the geometry of the frames, they cover the person and move with the
gait."""

import numpy as np
import pytest

from data_prep.synthetic_walkers.figure import figure
from data_prep.synthetic_walkers.filming import draw_walk, film
from data_prep.synthetic_walkers.limb_maps import limb_maps
from data_prep.synthetic_walkers.limbs import ARM, LEG, Limb, label_counts
from data_prep.synthetic_walkers.people import person
from data_prep.synthetic_walkers.render import EMPTY
from data_prep.synthetic_walkers.skeleton import pose
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH, World, plan

WORLD = World(seed=0, twins=False, min_frames=13, max_frames=13)


def tracklet(passed: bool, camera: int = 1) -> tuple[int, int, int]:
    """The first person past this camera, with or without something in front."""
    return next((p, camera, 0) for p in range(1, 50) if bool(plan(WORLD, p, camera, 0).passages) == passed)


def labels_at(maps: np.ndarray, walk, joint: str) -> np.ndarray:
    """The label where a joint lies in each frame."""
    x, y, _ = walk.view.project(walk.pose.joints[joint])
    x, y = (np.clip(np.floor(v).astype(int), 0, n - 1) for v, n in ((x, WIDTH), (y, HEIGHT)))
    return maps[np.arange(len(maps)), y, x]


def test_there_is_a_map_a_frame_and_the_same_arguments_give_the_same():
    who = tracklet(passed=False)
    maps = limb_maps(WORLD, *who)
    assert maps.shape == (13, HEIGHT, WIDTH) == np.shape(film(WORLD, *who))[:3] and maps.dtype == np.uint8
    np.testing.assert_array_equal(maps, limb_maps(WORLD, *who))
    assert {Limb.BACKGROUND, Limb.HEAD, Limb.TRUNK, *LEG.values()} <= set(np.unique(maps))


@pytest.mark.parametrize('camera', [1, 2, 3])
def test_labels_cover_the_persons_pixels_and_no_others(camera):
    who = tracklet(False, camera)
    maps, walk = limb_maps(WORLD, *who), draw_walk(WORLD, *who)
    covered = (walk.layer.slot != EMPTY).reshape(-1, HEIGHT, 2, WIDTH, 2).mean((2, 4))
    np.testing.assert_array_equal(maps != Limb.BACKGROUND, covered >= 0.5)
    assert 0.1 < (maps != Limb.BACKGROUND).mean() < 0.5


def test_labels_lie_where_the_joints_do():
    for who in (tracklet(False, 1), tracklet(False, 2)):
        maps, walk = limb_maps(WORLD, *who), draw_walk(WORLD, *who)
        middle = 0.5 * (walk.pose.joints['chin'] + walk.pose.joints['crown'])
        walk.pose.joints['face'] = middle
        assert (labels_at(maps, walk, 'face') == Limb.HEAD).mean() > 0.9
        knees = {side: labels_at(maps, walk, f'knee_{side}') for side in LEG}
        for side, other in (('left', 'right'), ('right', 'left')):  # one leg hides the other now and then
            assert (knees[side] == LEG[side]).mean() > 0.5 > (knees[side] == LEG[other]).mean()


def test_legs_move_with_the_gait():
    maps, walk = limb_maps(WORLD, *tracklet(False, 1)), draw_walk(WORLD, *tracklet(False, 1))
    columns = np.arange(WIDTH) + 0.5
    middle = {side: ((maps == limb) * columns).sum((1, 2)) / (maps == limb).sum((1, 2)) for side, limb in LEG.items()}
    ankle = {side: walk.view.project(walk.pose.joints[f'ankle_{side}'])[0] for side in LEG}
    seen, true = (at['left'] - at['right'] for at in (middle, ankle))
    assert np.ptp(true) > 10 and np.corrcoef(seen, true)[0, 1] > 0.95


def test_what_passes_in_front_is_no_part_of_the_walker():
    who = tracklet(passed=True)
    maps, walk = limb_maps(WORLD, *who), draw_walk(WORLD, *who)
    hidden = np.zeros(maps.shape, bool)
    for front in walk.in_front:
        for f, picture in enumerate(front):
            if picture is not None:
                hidden[f] |= picture[..., 3] > 0.6
    assert hidden.any() and (maps[hidden] == Limb.BACKGROUND).all()
    whole = (walk.layer.limb != Limb.BACKGROUND).reshape(-1, HEIGHT, 2, WIDTH, 2).mean((2, 4)) >= 0.5
    assert (whole & hidden).any()  # it did hide some of the walker


def test_every_part_of_every_figure_belongs_to_a_limb():
    seen = set()
    for number in range(1, 40):
        who = person(number, 0)
        limbs = {part.limb for part in figure(who.build, who.outfit, pose(who.build, who.gait, np.zeros(1)))}
        assert Limb.BACKGROUND not in limbs and {*ARM.values(), *LEG.values()} <= limbs
        assert (Limb.BAG in limbs) == (who.outfit.bag != 'none')
        seen |= limbs
    assert seen == set(Limb) - {Limb.BACKGROUND}


def test_counts_of_labels_in_a_grid():
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, :2, :2] = Limb.HEAD
    labels[1, 3, 3] = Limb.BAG
    counts = label_counts(labels, 2, 2)
    assert counts.shape == (2, 2, 2, len(Limb)) and (counts.sum(-1) == 4).all()
    assert counts[0, 0, 0, Limb.HEAD] == 4 and counts[1, 1, 1, Limb.BAG] == 1
    with pytest.raises(ValueError, match='do not divide'):
        label_counts(labels, 3, 2)
