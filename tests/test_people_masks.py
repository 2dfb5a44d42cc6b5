"""The reference of benchmarks/people_masks.py: limbs drawn about landmarks made by hand, without a landmarker."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.people_limbs import ARMS, EARS, HIPS, LEGS, SHOULDERS, agreement, has_pose, limb_map
from benchmarks.people_masks import Poses, drawn_people, main
from data_prep.synthetic_walkers.limbs import Limb
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.data.partition import Partition
from pvlad_jax.data.tracklet_dataset import TrackletTable

ROOT = Path(__file__).resolve().parents[1]
H, W = 128, 64


def standing() -> np.ndarray:
    """Landmarks [33, 4] of somebody who faces the camera, whose left is on the picture's right, in shares of W and H.
    The left forearm lies in front of the trunk, the right arm hangs aside."""
    at = np.zeros((33, 4))
    at[:, :2], at[:, 3] = (0.5, 0.1), 0.9
    at[EARS, :2] = (0.55, 0.1), (0.45, 0.1)
    at[SHOULDERS, :2], at[HIPS, :2] = ((0.7, 0.25), (0.3, 0.25)), ((0.62, 0.52), (0.38, 0.52))
    at[ARMS[Limb.LEFT_ARM][1:], :2] = (0.8, 0.38), (0.5, 0.4), (0.42, 0.4)
    at[ARMS[Limb.RIGHT_ARM][1:], :2] = (0.16, 0.38), (0.12, 0.5), (0.12, 0.54)
    at[ARMS[Limb.LEFT_ARM][1:], 2] = -0.3
    at[LEGS[Limb.LEFT_LEG][1:], :2] = (0.64, 0.72), (0.64, 0.92), (0.66, 0.96)
    at[LEGS[Limb.RIGHT_LEG][1:], :2] = (0.36, 0.72), (0.36, 0.92), (0.34, 0.96)
    return at.astype(np.float32)


def test_each_limb_is_found_where_its_landmarks_are():
    labels = limb_map(standing(), np.ones((H, W), np.float32), H, W)

    def shown(x, y):
        return Limb(labels[int(y * H), int(x * W)])

    assert shown(0.5, 0.08) == Limb.HEAD and shown(0.5, 0.3) == shown(0.4, 0.5) == Limb.TRUNK
    assert shown(0.64, 0.8) == Limb.LEFT_LEG and shown(0.36, 0.8) == Limb.RIGHT_LEG
    assert shown(0.13, 0.45) == Limb.RIGHT_ARM
    assert shown(0.55, 0.4) == Limb.LEFT_ARM  # in front of the trunk
    behind = standing()
    behind[ARMS[Limb.LEFT_ARM][1:], 2] = 0.3
    labels = limb_map(behind, np.ones((H, W), np.float32), H, W)
    assert shown(0.55, 0.4) == Limb.TRUNK and shown(0.79, 0.36) == Limb.LEFT_ARM


def test_the_person_bounds_the_limbs_and_loose_clothes_are_the_nearest_ones():
    person = np.zeros((H, W), np.float32)
    person[:, : W // 2] = 1
    labels = limb_map(standing(), person, H, W)
    assert (labels[:, : W // 2] > 0).all() and (labels[:, W // 2 :] == 0).all()
    assert labels[-1, 0] == Limb.RIGHT_LEG and labels[0, 20] == Limb.HEAD


def test_a_map_of_another_size_is_the_same_map():
    large, small = (limb_map(standing(), np.ones((H, W), np.float32), s * H, s * W) for s in (2, 1))
    assert (large[::2, ::2] == small).mean() > 0.98


def test_a_pose_counts_where_its_joints_are_seen_in_the_frame():
    whole, hidden, outside, none = (standing() for _ in range(4))
    hidden[:, 3] = 0.3
    outside[LEGS[Limb.LEFT_LEG][2], 1] = 1.3
    none[:] = np.nan
    np.testing.assert_array_equal(has_pose(np.stack([whole, hidden, outside, none])), [True, False, False, False])


def test_limbs_of_a_mirrored_frame_are_those_of_the_frame():
    """MediaPipe gives the mirror image's left and right."""
    mirror = standing()
    mirror[:, 0] = 1 - mirror[:, 0]
    sides = np.arange(33)
    for left, right in (EARS, *zip(*ARMS.values()), *zip(*LEGS.values())):
        sides[[left, right]] = right, left
    mirror = mirror[sides]
    other = mirror.copy()
    other[:, 1] = 1 - other[:, 1]  # upside down
    person = np.ones((2, 3, H, W), np.float32)
    poses = Poses(np.stack([[standing()] * 3, [mirror, other, np.full_like(mirror, np.nan)]]), person)
    labels, mirrored = poses.labels(H, W)
    assert (labels[0] == mirrored[0]).mean() > 0.95 and (labels[:2] > 0).all()
    assert (labels[2] == 0).all() and (mirrored[2] == 0).all()
    np.testing.assert_array_equal(poses.known, [True, False, False])


def test_agreement_counts_pixels_that_either_map_gives_to_the_person():
    one = np.array([[[0, Limb.HEAD, Limb.LEFT_ARM, Limb.LEFT_LEG]]] * 2, np.uint8)
    other = np.array([[[0, Limb.HEAD, Limb.RIGHT_ARM, Limb.TRUNK]], [[Limb.TRUNK, 0, 0, 0]]], np.uint8)
    np.testing.assert_allclose(agreement(one, other), [2 / 3, 0])
    assert agreement(0 * one, 0 * other).tolist() == [0, 0]


def test_the_people_are_those_asked_for():
    def table(*names):
        text, numbers = np.array(names, dtype=str), np.arange(len(names))
        return TrackletTable(text, numbers, text, text, numbers, numbers, numbers)

    none = table()
    roles = Partition(table('a', 'b'), table('q'), table('g'), table('c'), table('d', 'e'), 'p', 'test', '')
    assert drawn_people(roles, 'trained', 0).tracklet.tolist() == ['a', 'b']
    assert drawn_people(roles, 'held_out', 0).tracklet.tolist() == ['c', 'd', 'e']
    assert set(drawn_people(roles, 'held_out', 2).tracklet) < {'c', 'd', 'e'}
    assert not len(drawn_people(Partition(none, none, none, none, none, 'p', 'test', ''), 'held_out', 4))


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['nowhere'], 'is no working directory of a training'),
        (['nowhere', '--tracklets=-1'], 'at least 0'),
        (['nowhere', '--people=test'], 'invalid choice'),
    ],
)
def test_bad_arguments_end_in_a_sentence(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['people_masks.py', *arguments])
    with pytest.raises(SystemExit) as ended, one_sentence():
        main()
    assert ended.value.code and said in f'{ended.value.code} {capsys.readouterr().err}'


def test_the_landmarker_says_what_it_needs():
    ended = subprocess.run(
        [sys.executable, '-S', '-E', 'benchmarks/pose_landmarks.py', 'a.npz', 'b.npz'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and 'pip install mediapipe' in ended.stderr and 'Traceback' not in ended.stderr
