"""The parts of a head: skull with its face, nose, neck, hair and hat."""

import numpy as np

from data_prep.synthetic_walkers.body import Build
from data_prep.synthetic_walkers.clothes import Outfit
from data_prep.synthetic_walkers.paint import DARK, HAIR, HAT, SKIN, Paint
from data_prep.synthetic_walkers.part import Part, round_part
from data_prep.synthetic_walkers.skeleton import Pose


def head(build: Build, outfit: Outfit, pose: Pose) -> list[Part]:
    chin, crown = pose.joints['chin'], pose.joints['crown']
    up = (crown - chin) / build.head
    front, left = pose.head_front, np.cross([0.0, 0.0, 1.0], pose.head_front)
    h = build.head
    wide, deep = 0.345 * h, 0.42 * h
    plain_hair = Paint('plain', (HAIR,))
    top_slot = SKIN if outfit.haircut == 'bald' else HAIR
    face = Paint('head', (SKIN, top_slot, DARK, HAIR if outfit.beard else SKIN))
    parts = [
        Part(chin + 0.30 * h * up, crown - 0.36 * h * up, (0.80 * wide, wide), (0.80 * deep, deep), front, left, face),
        Part(chin + 0.36 * h * up + 0.36 * h * front, chin + 0.46 * h * up + 0.38 * h * front, (0.07 * h, 0.05 * h),
             (0.07 * h, 0.05 * h), front, left, Paint('plain', (SKIN,))),
        round_part(pose, pose.joints['neck'] - 0.02 * up, chin + 0.25 * h * up - 0.03 * front, 0.058 * build.girth**0.5,
                   0.052, Paint('plain', (SKIN,))),
    ]  # fmt: skip
    middle = chin + 0.62 * h * up - 0.07 * h * front
    if outfit.haircut != 'bald':
        volume = 1.10 if outfit.haircut in ('long', 'tail', 'bun') else 1.05
        back, top = middle - 0.06 * h * front, middle + 0.04 * h * up
        parts.append(Part(back, top, (volume * wide,) * 2, (volume * 0.88 * deep,) * 2, front, left, plain_hair))
    if outfit.haircut == 'long':
        down = pose.joints['neck'] - 0.06 * up - 0.085 * front
        back, widths, depths = middle - 0.16 * h * front, (wide, 1.05 * wide), (0.26 * h, 0.16 * h)
        parts.append(Part(back, down, widths, depths, front, left, plain_hair, 0.6))
    if outfit.haircut == 'tail':
        root = middle - 0.42 * h * front + 0.08 * h * up
        tip = root - 0.16 * up * build.stature / 1.7 - 0.03 * front
        parts.append(round_part(pose, root, tip, 0.036, 0.024, plain_hair))
    if outfit.haircut == 'bun':
        bun = middle - 0.40 * h * front + 0.20 * h * up
        parts.append(round_part(pose, bun, bun + 0.01 * up, 0.05, 0.05, plain_hair))
    if outfit.hat != 'none':
        hat = Paint('plain', (HAT,))
        seat = chin + 0.74 * h * up - 0.03 * h * front
        rise = 0.10 if outfit.hat == 'cap' else 0.16
        widths, depths = (1.14 * wide, 1.02 * wide), (1.10 * deep, 0.98 * deep)
        parts.append(Part(seat, seat + rise * h * up, widths, depths, front, left, hat, 0.75, 0.01))
        if outfit.hat == 'cap':
            brim = seat + 0.34 * h * front
            edge = brim + 0.34 * h * front - 0.04 * h * up
            parts.append(Part(brim, edge, (0.062, 0.045), (0.02, 0.012), up, left, hat, 0.5, 0.01))
    return parts
