"""Forward kinematics: joint angles and bone lengths -> joints in space.

Axes of the walker: x forwards, y to the left, z up; metres. The origin is on the ground below the pelvis.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data_prep.synthetic_walkers.body import Build
from data_prep.synthetic_walkers.gait import Gait, bounce, joint_angles

# Pairs of joints that a bone holds apart; a bone's length is the same in every frame.
BONES = (
    ('pelvis', 'neck'),
    ('neck', 'chin'),
    ('chin', 'crown'),
    *((f'{a}_{side}', f'{b}_{side}') for side in ('left', 'right') for a, b in (
        ('hip', 'knee'), ('knee', 'ankle'), ('ankle', 'heel'), ('ankle', 'toe'), ('heel', 'toe'),
        ('shoulder', 'elbow'), ('elbow', 'wrist'), ('wrist', 'hand'))),
    ('hip_left', 'hip_right'),
    ('shoulder_left', 'shoulder_right'),
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Joints and directions of the trunk over the frames.

    Attributes:
      joints: Name (see BONES) -> place.
      front, left, up: Unit vectors of the chest.
      pelvis_front, pelvis_left: Unit vectors of the pelvis.
      head_front: Unit vector out of the face.
    """

    joints: dict[str, Float[np.ndarray, 'f 3']]
    front: Float[np.ndarray, 'f 3']
    left: Float[np.ndarray, 'f 3']
    up: Float[np.ndarray, 'f 3']
    pelvis_front: Float[np.ndarray, 'f 3']
    pelvis_left: Float[np.ndarray, 'f 3']
    head_front: Float[np.ndarray, 'f 3']


def _vectors(x, y, z) -> Float[np.ndarray, 'f 3']:
    return np.stack(np.broadcast_arrays(x, y, z), -1).astype(np.float64)


def _turned(angle: Float[np.ndarray, ' f']) -> tuple[np.ndarray, np.ndarray]:
    """Forward and left vectors, turned about the vertical (positive: to the left)."""
    c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return _vectors(c, s, zero), _vectors(-s, c, zero)


def _hanging(angle, front, left, outwards, side) -> Float[np.ndarray, 'f 3']:
    """Direction of a limb that hangs down, swung forwards by angle in the plane of front, and outwards to its side."""
    down = np.array([0.0, 0.0, -1.0])
    swing = np.sin(angle)[:, None] * front + np.cos(angle)[:, None] * down
    return np.cos(outwards)[:, None] * swing + (side * np.sin(outwards))[:, None] * left


def pose(build: Build, gait: Gait, phase: Float[np.ndarray, ' f']) -> Pose:
    """The walker's joints at the phases given (strides). The lowest point of the feet stands on the ground, but for the
    bob."""
    angles = joint_angles(gait, phase)
    zero = np.zeros_like(phase)
    joints = {'pelvis': _vectors(zero, zero, zero)}
    pelvis_front, pelvis_left = _turned(angles.pelvis_turn)
    _chest_front, chest_left = _turned(angles.shoulder_turn)
    for i, (name, sign) in enumerate((('left', 1.0), ('right', -1.0))):
        hip = sign * build.hip_half * pelvis_left
        inwards = np.full_like(phase, -0.045)  # feet come down closer to the middle than the hips are wide
        leg_front, leg_left = _turned(0.3 * angles.pelvis_turn)
        knee = hip + build.thigh * _hanging(angles.hip[:, i], leg_front, leg_left, inwards, sign)
        shin = angles.hip[:, i] - angles.knee[:, i]
        ankle = knee + build.shin * _hanging(shin, leg_front, leg_left, inwards, sign)
        pitch = shin + angles.ankle[:, i]
        foot_front, _ = _turned(0.3 * angles.pelvis_turn + sign * gait.toe_out)
        up = np.array([0.0, 0.0, 1.0])
        along = np.cos(pitch)[:, None] * foot_front + np.sin(pitch)[:, None] * up
        below = np.sin(pitch)[:, None] * foot_front - np.cos(pitch)[:, None] * up
        joints |= {
            f'hip_{name}': hip,
            f'knee_{name}': knee,
            f'ankle_{name}': ankle,
            f'heel_{name}': ankle - 0.22 * build.foot * along + build.ankle_height * below,
            f'toe_{name}': ankle + 0.70 * build.foot * along + build.ankle_height * below,
        }
    up = _vectors(
        np.sin(angles.lean), np.sin(angles.sway) * np.cos(angles.lean), np.cos(angles.sway) * np.cos(angles.lean)
    )
    # The chest's axes: up is the trunk's direction, left the shoulders' line made square to it.
    chest_left = chest_left - (chest_left * up).sum(-1, keepdims=True) * up
    chest_left /= np.linalg.norm(chest_left, axis=-1, keepdims=True)
    front = np.cross(chest_left, up)
    neck = build.trunk * up
    # The head is carried more upright than the trunk and looks ahead.
    head_up = _vectors(0.4 * np.sin(angles.lean) + 0.10, 0.3 * np.sin(angles.sway), 1.0)
    head_up /= np.linalg.norm(head_up, axis=-1, keepdims=True)
    head_front, _ = _turned(0.2 * angles.shoulder_turn)
    joints |= {'neck': neck, 'chin': neck + build.neck * head_up, 'crown': neck + (build.neck + build.head) * head_up}
    for i, (name, sign) in enumerate((('left', 1.0), ('right', -1.0))):
        shoulder = neck + sign * build.shoulder_half * chest_left - 0.02 * build.stature * up
        arm_front, arm_left = _turned(0.5 * angles.shoulder_turn)
        outwards = angles.abduction[:, i]
        elbow = shoulder + build.upper_arm * _hanging(angles.shoulder[:, i], arm_front, arm_left, outwards, sign)
        lower = angles.shoulder[:, i] + angles.elbow[:, i]
        inward = np.full_like(phase, -0.02)
        wrist = elbow + build.forearm * _hanging(lower, arm_front, arm_left, inward, sign)
        hand = wrist + build.hand * _hanging(lower + 0.15, arm_front, arm_left, 2 * inward, sign)
        joints |= {f'shoulder_{name}': shoulder, f'elbow_{name}': elbow, f'wrist_{name}': wrist, f'hand_{name}': hand}
    lowest = np.min([joints[f'{part}_{side}'][:, 2] for part in ('heel', 'toe') for side in ('left', 'right')], axis=0)
    root = _vectors(zero, 0.4 * gait.sway * np.sin(2 * np.pi * phase), bounce(gait, phase) - lowest)
    placed = {name: place + root for name, place in joints.items()}
    return Pose(placed, front, chest_left, up, pelvis_front, pelvis_left, head_front)


def walking_speed(build: Build, gait: Gait) -> float:
    """Metres a second at which the foot on the ground does not slide: what a foot travels back in its stance, twice a
    stride."""
    phase = np.array([0.04, 0.46])
    ankle = pose(build, gait, phase).joints['ankle_left'][:, 0]
    return float((ankle[0] - ankle[1]) / (phase[1] - phase[0]) * gait.frequency)
