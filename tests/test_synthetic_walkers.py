"""Laws of the synthetic walkers: one seed, rigid bones, a gait with its own frequency, twins who differ by it alone."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest
import simplejpeg

from data_prep.datasets.synthetic import synthetic_raw_dataset
from data_prep.synthetic_walkers.camera import camera
from data_prep.synthetic_walkers.contact_sheet import contact_sheet
from data_prep.synthetic_walkers.gait import draw_gait, joint_angles
from data_prep.synthetic_walkers.paint import palette
from data_prep.synthetic_walkers.people import person
from data_prep.synthetic_walkers.skeleton import BONES, pose, walking_speed
from data_prep.synthetic_walkers.tracklets import FRAMES_A_SECOND, World, plan
from pvlad_jax.core.errors import UserError

OPTIONS = {'train_people': 4, 'test_people': 2, 'max_frames': 10}


def test_the_same_seed_gives_the_same_bytes_in_any_order_and_another_seed_others():
    raw, again, other = (synthetic_raw_dataset(**OPTIONS, seed=s) for s in (0, 0, 1))
    chosen = [raw.splits['train'][i] for i in (0, 7, 13)]
    forwards = [raw.read_frames(s) for s in chosen]
    reader = pickle.loads(pickle.dumps(again.read_frames))  # as a worker process gets it
    backwards = [reader(s) for s in reversed(chosen)][::-1]
    assert forwards == backwards
    assert other.read_frames(other.splits['train'][0])[0] != forwards[0][0]


def test_frames_are_pedestrian_crops():
    raw = synthetic_raw_dataset(**OPTIONS)
    source = raw.splits['gallery'][0]
    frames = raw.read_frames(source)
    assert len(frames) == len(source.frames) == len(source.frame_numbers)
    images = np.stack([simplejpeg.decode_jpeg(f, 'RGB') for f in frames])
    assert {simplejpeg.decode_jpeg_header(f)[:2] for f in frames} == {(128, 64)}
    assert images.shape[1:] == (128, 64, 3) and images.std() > 15
    assert np.abs(np.diff(images.astype(int), axis=0)).mean() > 2  # they move


def test_roles_hold_different_people_and_every_test_person_can_be_found():
    raw = synthetic_raw_dataset(train_people=5, test_people=3, cameras=3)
    train, query, gallery = (raw.splits[k] for k in ('train', 'query', 'gallery'))
    assert not {s.person_id for s in train} & {s.person_id for s in (*query, *gallery)}
    assert {s.person_id for s in query} == {s.person_id for s in gallery} == {6, 7, 8}
    assert sorted((s.person_id, s.camera_id) for s in query) == [(p, c) for p in (6, 7, 8) for c in (1, 2, 3)]
    names = [s.name for split in raw.splits.values() for s in split]
    assert len(set(names)) == len(names) == 8 * 3 * 2
    assert all(8 <= len(s.frames) <= 60 for split in raw.splits.values() for s in split)


@pytest.mark.parametrize(('cameras', 'tracklets', 'twins'), [(2, 2, False), (3, 3, True), (5, 2, False)])
def test_every_test_person_has_one_query_a_camera_and_the_rest_in_the_gallery(cameras, tracklets, twins):
    raw = synthetic_raw_dataset(6, 4, cameras=cameras, tracklets_per_camera=tracklets, twins=twins)
    assert {s.person_id for s in raw.splits['train']} == set(range(1, 7))
    for who, split in itertools.product(range(7, 11), ('query', 'gallery')):
        seen = [s.camera_id for s in raw.splits[split] if s.person_id == who]
        assert set(seen) == set(range(1, cameras + 1))
        assert len(seen) == cameras * (1 if split == 'query' else tracklets - 1)


def test_frames_have_rising_numbers_and_keys_of_their_own():
    sources = list(itertools.chain(*synthetic_raw_dataset(8, 4).splits.values()))
    assert all((np.diff(s.frame_numbers) > 0).all() for s in sources)
    keys = [key for s in sources for key in s.frames]
    assert len(set(keys)) == len(keys)


def test_lengths_range_from_short_to_long():
    lengths = [len(s.frames) for s in synthetic_raw_dataset(train_people=60, test_people=2).splits['train']]
    assert min(lengths) < 10 and max(lengths) > 50 and np.median(lengths) < 34


@pytest.mark.parametrize('person_id', range(1, 6))
def test_bones_are_rigid_and_feet_stay_on_the_ground(person_id):
    who = person(person_id, 0)
    joints = pose(who.build, who.gait, np.linspace(0, 2, 41)).joints
    for a, b in BONES:
        length = np.linalg.norm(joints[a] - joints[b], axis=1)
        assert np.ptp(length) < 1e-9 and length[0] > 0.01, (a, b)
    lowest = np.min([joints[f'{part}_{side}'][:, 2] for part in ('heel', 'toe') for side in ('left', 'right')], axis=0)
    assert (lowest > -1e-9).all() and lowest.max() <= who.gait.bob + 1e-9


@pytest.mark.parametrize('number', range(3))
def test_steps_come_with_the_gaits_own_frequency(number):
    world = World(seed=0, twins=False, min_frames=120, max_frames=120)
    tracklet = plan(world, 3, 1, number)
    joints = pose(tracklet.person.build, tracklet.gait, tracklet.phase).joints
    apart = joints['ankle_left'][:, 0] - joints['ankle_right'][:, 0]
    strength = np.abs(np.fft.rfft(apart - apart.mean(), 16 * len(apart)))
    strides_a_second = np.argmax(strength) / (16 * len(apart)) * FRAMES_A_SECOND
    assert strides_a_second == pytest.approx(tracklet.gait.frequency, abs=0.03)
    # The person's, but for a little noise.
    assert tracklet.gait.frequency == pytest.approx(person(3, 0).gait.frequency, rel=0.07)
    assert 0.5 < walking_speed(tracklet.person.build, tracklet.gait) < 2.6  # metres a second


def test_angles_repeat_every_stride():
    gait = person(1, 0).gait
    phase = np.linspace(0, 1, 9)
    one, later = (dataclasses.astuple(joint_angles(gait, p)) for p in (phase, phase + 3))
    for here, there in zip(one, later):
        np.testing.assert_allclose(here, there, atol=1e-9)


def test_left_and_right_alternate_by_half_a_stride():
    gait = dataclasses.replace(draw_gait(np.random.default_rng(0)), leg_asymmetry=0.0, arm_asymmetry=0.0)
    phase = np.linspace(0, 1, 13)
    now, later = joint_angles(gait, phase), joint_angles(gait, phase + 0.5)
    for name in ('hip', 'knee', 'ankle', 'shoulder', 'elbow'):
        np.testing.assert_allclose(getattr(now, name)[:, 0], getattr(later, name)[:, 1], atol=1e-9)


def test_a_walker_is_about_as_tall_as_standing():
    for person_id in range(1, 9):
        who = person(person_id, 0)
        crown = pose(who.build, who.gait, np.linspace(0, 1, 24)).joints['crown'][:, 2]
        assert 0.88 * who.build.stature < crown.min() and crown.max() < 1.04 * who.build.stature


def test_twins_look_the_same_and_walk_differently():
    for pair in range(1, 20):
        one, other = person(2 * pair - 1, 0, twins=True), person(2 * pair, 0, twins=True)
        assert one.build == other.build and one.outfit == other.outfit
        assert dataclasses.replace(one.gait, frequency=0) == dataclasses.replace(other.gait, frequency=0)
        np.testing.assert_array_equal(palette(one.outfit), palette(other.outfit))
        phase = np.linspace(0, 1, 7)  # the same poses over a stride: a single frame does not tell them apart
        toes = [pose(p.build, p.gait, phase).joints['toe_left'] for p in (one, other)]
        np.testing.assert_array_equal(*toes)
        slow, fast = sorted((one.gait.frequency, other.gait.frequency))
        assert fast / slow > 1.4
    assert person(1, 0, twins=True).outfit != person(3, 0, twins=True).outfit
    firsts = [person(2 * p - 1, 0, twins=True).gait.frequency < 1 for p in range(1, 40)]
    assert 10 < sum(firsts) < 30  # the number does not tell who is the slow one
    for odd in ({'train_people': 3, 'test_people': 2}, {'train_people': 2, 'test_people': 3}):
        with pytest.raises(UserError, match='even'):
            synthetic_raw_dataset(**odd, twins=True)


def test_cameras_differ():
    first = [camera(c, 0) for c in (1, 2, 3)]
    assert len({c.scene for c in first}) == 3 and len({round(c.yaw, 3) for c in first}) == 3
    assert camera(4, 0) != camera(4, 1) and camera(1, 0) == camera(1, 1)


def test_contact_sheet_has_a_row_a_tracklet():
    assert contact_sheet(range(1, 3), range(1, 3), frames=2, columns=2).shape == (2 * 130, 2 * (2 * 65 + 3), 3)


@pytest.mark.parametrize(
    'wrong', [{'cameras': 1}, {'train_people': 0}, {'tracklets_per_camera': 1}, {'min_frames': 9, 'max_frames': 8}]
)
def test_options_that_give_no_data_set_are_told(wrong):
    with pytest.raises(UserError):
        synthetic_raw_dataset(**{**OPTIONS, **wrong})
