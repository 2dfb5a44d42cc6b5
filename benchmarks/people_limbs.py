"""Which limb real people show in each pixel of a frame, from body landmarks: a reference for part masks, not a truth.

Girths are about those of rendered walkers (data_prep/synthetic_walkers/figure.py), as shares of stature, and stature is
taken from the length of the trunk. Those of neck and hips were chosen so that the landmarker's limbs of 20 rendered
walkers come near to the true ones. Landmarks: the 33 of MediaPipe's pose landmarker (benchmarks/pose_landmarks.py).
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt

from data_prep.synthetic_walkers.body import TRUNK
from data_prep.synthetic_walkers.limbs import Limb

EARS, SHOULDERS, HIPS = [7, 8], [11, 12], [23, 24]
ARMS = {Limb.LEFT_ARM: [11, 13, 15, 19], Limb.RIGHT_ARM: [12, 14, 16, 20]}  # shoulder, elbow, wrist, index finger
LEGS = {Limb.LEFT_LEG: [23, 25, 27, 31], Limb.RIGHT_LEG: [24, 26, 28, 32]}  # hip, knee, ankle, toe
JOINTS = [*EARS, *(i for chain in (*ARMS.values(), *LEGS.values()) for i in chain[:3])]
# Radii, shares of stature; of arms and legs those of each segment.
HEAD_RADIUS, NECK_RADIUS, SHOULDER_RADIUS, HIP_RADIUS = 0.07, 0.035, 0.04, 0.035
ARM_RADII, LEG_RADII = (0.029, 0.024, 0.018), (0.048, 0.037, 0.025)
NECK = 0.6  # where it begins, on the way from the shoulders to the ears
SEEN = 0.5  # least mean visibility of the joints, as the landmarker gives it
OUTSIDE = 0.1  # of the frame's width and height, that a joint may lie beyond its edge
_WITHOUT_SIDES = np.array([0, 1, 2, Limb.LEFT_ARM, Limb.LEFT_ARM, Limb.LEFT_LEG, Limb.LEFT_LEG, Limb.BAG])
_WIDTH = 256  # of the drawing, pixels


def has_pose(landmarks: Float[np.ndarray, 'N 33 4']) -> Bool[np.ndarray, 'N']:
    """Whether a body was found whose joints are in the frame and visible on average."""
    joints = landmarks[:, JOINTS]
    inside = ((joints[..., :2] >= -OUTSIDE) & (joints[..., :2] <= 1 + OUTSIDE)).all((1, 2))
    return inside & (joints[..., 3].mean(1) >= SEEN)


def limb_map(
    landmarks: Float[np.ndarray, '33 4'], person: Float[np.ndarray, 'h w'], height: int, width: int
) -> UInt8[np.ndarray, '{height} {width}']:
    """The limb (`Limb`) of each pixel: limbs drawn about the landmarks, cut out by `person`, the probability of each
    pixel of the frame to show the person. What of the person is not drawn (loose clothes, hair, bags) is the nearest
    limb's.
    """
    size = _WIDTH, round(_WIDTH * person.shape[0] / person.shape[1])
    at = landmarks[:, :2] * size
    stature = np.linalg.norm(at[SHOULDERS].mean(0) - at[HIPS].mean(0)) / TRUNK
    drawn = np.zeros(size[::-1], np.uint8)

    def capsule(a, b, radius: float, limb: Limb) -> None:
        ends = (np.clip(np.round(point), -_WIDTH, 4 * _WIDTH).astype(int).tolist() for point in (a, b))
        cv2.line(drawn, *ends, int(limb), max(1, round(2 * radius * stature)))

    def chain(limb: Limb, points, radii) -> None:
        for a, b, radius in zip(points, points[1:], radii):
            capsule(at[a], at[b], radius, limb)

    # The far ones first. An arm is in front of the trunk or behind it, by the depths of elbow and wrist.
    trunk = landmarks[SHOULDERS + HIPS, 2].mean()
    in_front = [limb for limb, points in ARMS.items() if landmarks[points[1:3], 2].mean() <= trunk]
    for limb, points in LEGS.items():
        chain(limb, points, LEG_RADII)
    for limb in ARMS.keys() - in_front:
        chain(limb, ARMS[limb], ARM_RADII)
    cv2.fillConvexPoly(drawn, cv2.convexHull(np.round(at[SHOULDERS + HIPS]).astype(np.int32)), int(Limb.TRUNK))
    (left, right), (left_hip, right_hip) = at[SHOULDERS], at[HIPS]
    capsule(left, right, SHOULDER_RADIUS, Limb.TRUNK)
    for a, b in ((left_hip, right_hip), (left, left_hip), (right, right_hip)):
        capsule(a, b, HIP_RADIUS, Limb.TRUNK)
    head = at[EARS].mean(0)
    capsule((1 - NECK) * at[SHOULDERS].mean(0) + NECK * head, head, NECK_RADIUS, Limb.HEAD)
    capsule(head, head, HEAD_RADIUS, Limb.HEAD)
    for limb in in_front:
        chain(limb, ARMS[limb], ARM_RADII)

    if not drawn.any():
        return np.zeros((height, width), np.uint8)
    nearest = distance_transform_edt(drawn == 0, return_distances=False, return_indices=True)
    labels = cv2.resize(drawn[tuple(nearest)], (width, height), interpolation=cv2.INTER_NEAREST)
    shown = cv2.resize(person, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(shown >= 0.5, labels, Limb.BACKGROUND).astype(np.uint8)


def agreement(a: UInt8[np.ndarray, 'N h w'], b: UInt8[np.ndarray, 'N h w']) -> Float[np.ndarray, 'N']:
    """Share of the pixels that either map gives to the person on which both name the same limb, left or right; 0 where
    there are none."""
    a, b = _WITHOUT_SIDES[a], _WITHOUT_SIDES[b]
    either = ((a > 0) | (b > 0)).sum((1, 2))
    return ((a == b) & (a > 0)).sum((1, 2)) / np.maximum(either, 1)
