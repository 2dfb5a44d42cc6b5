"""A posed, dressed body as a list of parts."""

import numpy as np

from data_prep.synthetic_walkers.body import Build
from data_prep.synthetic_walkers.clothes import Outfit
from data_prep.synthetic_walkers.head import head
from data_prep.synthetic_walkers.limbs import ARM, LEG, Limb
from data_prep.synthetic_walkers.paint import (
    BAG,
    BOTTOM,
    INNER,
    SECOND,
    SHOE,
    SKIN,
    SOLE,
    STRAP,
    TIP,
    TOP,
    Paint,
    trunk_paint,
)
from data_prep.synthetic_walkers.part import Part, of_limb, round_part
from data_prep.synthetic_walkers.skeleton import Pose

SIDES = (('left', 1.0), ('right', -1.0))


def figure(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    """All parts of a walker, in any order: depth decides what is seen."""
    return [
        *of_limb(Limb.HEAD, head(build, outfit, pose)),
        *of_limb(Limb.TRUNK, _trunk(build, outfit, pose)),
        *_arms(build, outfit, pose),
        *_legs(build, outfit, pose),
        *of_limb(Limb.BAG, _bag(build, outfit, pose)),
    ]


def _trunk(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    j, up, front, left = pose.joints, pose.up, pose.front, pose.left
    bulk = outfit.bulk
    trunk, d = build.trunk, build.depth
    chest, waist, hips = build.chest + bulk, build.waist + bulk, build.hips + 0.6 * bulk + 0.010
    waist_at = j['pelvis'] + 0.34 * trunk * up
    chest_at = j['pelvis'] + 0.72 * trunk * up
    hem = j['pelvis'] - 0.03 * up if outfit.top != 'tank' else j['pelvis'] + 0.05 * trunk * up
    shoulder = 0.046 + 0.5 * bulk
    parts = [
        Part(hem, waist_at, (hips, waist), (d * hips, d * 1.04 * waist), front, left, trunk_paint(outfit, (0.0, 0.34)),
             0.15),
        Part(waist_at, chest_at, (waist, chest), (d * 1.04 * waist, d * chest), front, left,
             trunk_paint(outfit, (0.34, 0.72)), 0.6),
        Part(chest_at - 0.02 * up, j['neck'] - 0.06 * up, (chest, 0.80 * chest), (d * chest, 0.68 * d * chest), front,
             left, trunk_paint(outfit, (0.70, 1.0)), 0.45),
        Part(j['pelvis'] - 0.06 * up, j['pelvis'] + 0.04 * up, (0.94 * build.hips, build.hips),
             (0.92 * d * build.hips, d * build.hips),
             pose.pelvis_front, pose.pelvis_left, Paint('plain', (BOTTOM,)), 0.25, -0.03),
    ]  # fmt: skip
    yoke = Paint('plain', (SKIN if outfit.top == 'tank' else TOP,))
    for side, _ in SIDES:
        inner, outer = j['neck'] - 0.012 * up, j[f'shoulder_{side}']
        parts.append(round_part(pose, inner, outer, 0.055 + 0.4 * bulk, shoulder * build.girth**0.5, yoke))
    if outfit.top in ('jacket', 'coat', 'shirt'):
        collar = j['neck'] + 0.01 * up
        open_collar = Paint('open', (TOP, INNER), 0.5)
        parts.append(Part(collar, collar + 0.035 * up, (0.072, 0.066), (0.074, 0.068), front, left, open_collar, 0.2))
    if outfit.top == 'hoodie':
        hood = j['neck'] + 0.01 * up - 0.085 * front
        ends = hood - 0.05 * left, hood + 0.05 * left
        parts.append(Part(*ends, (0.05, 0.05), (0.05, 0.05), front, left, Paint('plain', (TOP,))))
    if outfit.top == 'coat':
        knees = 0.5 * (j['knee_left'] + j['knee_right'])
        below = 0.25 * j['pelvis'] + 0.75 * knees
        spread = np.abs(((j['knee_left'] - j['knee_right']) * front).sum(-1))
        parts.append(Part(hem + 0.02 * up, below, (hips, 1.10 * hips),
                          (d * hips, np.maximum(d * hips, 0.39 * spread + 0.08)), front, left,
                          trunk_paint(outfit, (0.0, 0.0)), 0.1))  # fmt: skip
    if outfit.bottom == 'skirt':
        knees = 0.5 * (j['knee_left'] + j['knee_right'])
        spread = np.abs(((j['knee_left'] - j['knee_right']) * front).sum(-1))
        below = 0.12 * j['pelvis'] + 0.88 * knees
        parts.append(Part(j['pelvis'] + (0.08 if outfit.top == 'tank' else 0.01) * up, below,
                          (build.hips, 1.15 * build.hips),
                          (d * build.hips, np.maximum(d * build.hips, 0.45 * spread + 0.07)),
                          pose.pelvis_front, pose.pelvis_left, Paint('plain', (BOTTOM,)), 0.1))  # fmt: skip
    return parts


def _arms(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    j, g = pose.joints, build.girth**0.6
    bulk = outfit.bulk
    upper = {
        'long': Paint('plain', (TOP,)),
        'short': Paint('block', (TOP, SKIN), 0.62),
        'none': Paint('plain', (SKIN,)),
    }[outfit.sleeves]
    if outfit.pattern == 'hoops' and outfit.sleeves == 'long':
        upper = Paint('hoops', (TOP, SECOND), 0.5 * outfit.pattern_size)
    if outfit.pattern == 'block' and outfit.sleeves == 'long':
        upper = Paint('plain', (TOP,))
    lower = Paint('plain', (SKIN,)) if outfit.sleeves != 'long' else Paint('block', (upper.slots[0], TOP), 0.0)
    if outfit.pattern == 'checks' and outfit.sleeves == 'long':
        upper = lower = Paint('checks', (TOP, TIP, SECOND), 3.0)
    cloth = bulk if outfit.sleeves == 'long' else 0.0
    parts = []
    for side, _ in SIDES:
        shoulder, elbow, wrist, hand = (j[f'{name}_{side}'] for name in ('shoulder', 'elbow', 'wrist', 'hand'))
        loose = 0.008 if outfit.sleeves == 'short' else 0.0
        arm = [
            round_part(pose, shoulder, elbow, (0.050 + loose) * g + cloth, 0.040 * g + cloth, upper),
            round_part(pose, elbow, wrist, 0.040 * g + cloth, 0.027 * g + cloth, lower),
            round_part(pose, wrist, hand, 0.028, 0.034, Paint('plain', (SKIN,))),
        ]
        parts += of_limb(ARM[side], arm)
    return parts


def _legs(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    j, g = pose.joints, build.girth**0.6
    loose = {'trousers': 0.012, 'jeans': 0.007, 'shorts': 0.012}.get(outfit.bottom, 0.0)
    cloth = Paint('side', (BOTTOM, SECOND), 0.28) if outfit.side_stripe else Paint('plain', (BOTTOM,))
    thigh_paint, shin_paint, shin_loose = cloth, cloth, loose
    if outfit.bottom == 'shorts':
        thigh_paint, shin_paint, shin_loose = Paint('block', (BOTTOM, SKIN), 0.86), Paint('plain', (SKIN,)), 0.0
    if outfit.bottom == 'skirt':
        thigh_paint, shin_paint = Paint('plain', (SKIN,)), Paint('plain', (SKIN,))
    flare = {'trousers': 0.020, 'jeans': 0.012}.get(outfit.bottom, 0.0)
    shoe = Paint('shoe', (SHOE, SOLE))
    # Legs swing inside a skirt or a coat, drawn as one stiff cone, and under the hem of any top: set back, they do not
    # show through.
    lift = -0.12 if outfit.bottom == 'skirt' or outfit.top == 'coat' else -0.03
    parts = []
    for side, _ in SIDES:
        hip, knee, ankle, heel, toe = (j[f'{name}_{side}'] for name in ('hip', 'knee', 'ankle', 'heel', 'toe'))
        calf = knee + 0.30 * (ankle - knee) - 0.012 * pose.front
        knee_wide, calf_wide, ankle_wide = (r * g + shin_loose for r in (0.053, 0.054, 0.034))
        thick = np.array([0.0, 0.0, 0.034])
        sole_up = 0.75 * (ankle - heel)
        leg = [
            round_part(pose, hip, knee, 0.082 * g + loose, knee_wide, thigh_paint, lift=lift),
            round_part(pose, knee, calf, knee_wide, calf_wide, shin_paint, lift=lift),
            round_part(pose, calf, ankle, calf_wide, ankle_wide + flare, shin_paint, lift=lift),
            round_part(pose, heel + 0.45 * sole_up, toe + thick, 0.042, 0.036, shoe),
        ]
        parts += of_limb(LEG[side], leg)
    return parts


def _bag(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    j, up, front, left = pose.joints, pose.up, pose.front, pose.left
    side = 'left' if outfit.bag_side > 0 else 'right'
    bag, strap = Paint('plain', (BAG,)), Paint('plain', (STRAP,))
    back = build.depth * build.chest + outfit.bulk
    if outfit.bag == 'backpack':
        behind = -(back + 0.065) * front
        low, high = j['pelvis'] + 0.30 * build.trunk * up + behind, j['neck'] - 0.10 * up + behind
        parts = [Part(low, high, (0.145, 0.125), (0.10, 0.08), front, left, Paint('block', (BAG, BAG), 0.5), 0.35)]
        pocket = low + 0.06 * up - 0.08 * front, low + 0.16 * up - 0.08 * front
        parts.append(Part(*pocket, (0.09, 0.09), (0.035, 0.035), front, left, strap, 0.35))
        for _name, sign in SIDES:
            top = j['neck'] - 0.01 * up + sign * 0.105 * left
            at = j['pelvis'] + 0.45 * build.trunk * up + sign * 0.125 * left + 0.75 * back * front
            chest = top + 0.85 * back * front - 0.10 * up
            parts.append(round_part(pose, top + 0.02 * front, chest, 0.020, 0.020, strap, lift=0.03))
            parts.append(round_part(pose, chest, at, 0.020, 0.016, strap, lift=0.03))
        return parts
    if outfit.bag == 'shoulder':
        hip = j['pelvis'] - 0.02 * up + outfit.bag_side * (build.hips + outfit.bulk + 0.05) * left - 0.04 * front
        other = j['neck'] - 0.02 * up - outfit.bag_side * 0.10 * left
        parts = [Part(hip - 0.16 * up, hip + 0.06 * up, (0.055, 0.045), (0.15, 0.14), front, left, bag, 0.3)]
        for sign in (1.0, -1.0):
            middle = j['pelvis'] + 0.55 * build.trunk * up + sign * (back + 0.005) * front
            parts.append(round_part(pose, other, middle, 0.014, 0.014, strap, lift=0.05))
            parts.append(round_part(pose, middle, hip + 0.06 * up, 0.014, 0.014, strap, lift=0.05))
        return parts
    if outfit.bag == 'hand':
        hand = j[f'hand_{side}']
        down = np.array([0.0, 0.0, -1.0])
        return [
            Part(hand + 0.12 * down, hand + 0.33 * down, (0.05, 0.06), (0.15, 0.17), front, left, bag, 0.15),
            round_part(pose, hand - 0.06 * front, hand - 0.07 * front + 0.14 * down, 0.010, 0.010, strap),
            round_part(pose, hand + 0.06 * front, hand + 0.07 * front + 0.14 * down, 0.010, 0.010, strap),
        ]
    return []
