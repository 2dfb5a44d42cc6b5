"""Body proportions: bone lengths and girths in metres, shares of stature after Drillis and Contini (1966)."""

from dataclasses import dataclass

import numpy as np

# Shares of stature.
ANKLE_HEIGHT = 0.039
SHIN = 0.246
THIGH = 0.245
TRUNK = 0.288  # mid-hip to the height of the shoulders
HEAD = 0.130  # chin to crown
UPPER_ARM = 0.186
FOREARM = 0.146
HAND = 0.075  # wrist to knuckles: hands hang half closed
FOOT = 0.152


@dataclass(frozen=True)
class Build:
    """One body; lengths in metres.

    Attributes:
      stature: Height of the standing body.
      thigh, shin, ankle_height, foot: Of a leg.
      trunk, neck, head: Mid-hip to shoulder height, shoulder height to chin, chin to crown.
      upper_arm, forearm, hand: Of an arm.
      hip_half, shoulder_half: Half the distance between the joints.
      chest, waist, hips: Half width of the trunk, seen from the front.
      depth: Half depth of the trunk as a share of its half width.
      girth: Factor of the limbs' radii.
    """

    stature: float
    thigh: float
    shin: float
    ankle_height: float
    foot: float
    trunk: float
    neck: float
    head: float
    upper_arm: float
    forearm: float
    hand: float
    hip_half: float
    shoulder_half: float
    chest: float
    waist: float
    hips: float
    depth: float
    girth: float


def draw_build(rng: np.random.Generator) -> Build:
    """A body at random: stature, length of the legs, breadth of shoulders and hips, girth."""
    masculine = rng.uniform()  # 0: narrow shoulders and wide hips, 1: the other way round
    stature = np.clip(rng.normal(1.62 + 0.14 * masculine, 0.06), 1.48, 1.95)
    girth = np.clip(rng.lognormal(0.0, 0.13), 0.82, 1.35)
    legs = rng.normal(1.0, 0.025)
    arms = rng.normal(1.0, 0.025)
    trunk = stature * (TRUNK + 0.008 + (1 - legs) * (THIGH + SHIN))  # longer legs, shorter trunk: the stature stays
    head = stature * HEAD * rng.normal(1.02, 0.03)
    shoulders = stature * (0.098 + 0.014 * masculine) * (0.8 + 0.2 * girth)
    return Build(
        stature=float(stature),
        thigh=float(stature * THIGH * legs),
        shin=float(stature * SHIN * legs),
        ankle_height=float(stature * ANKLE_HEIGHT),
        foot=float(stature * FOOT),
        trunk=float(trunk),
        neck=float(stature * (1 - ANKLE_HEIGHT - SHIN - THIGH - TRUNK - 0.008) - head),
        head=float(head),
        upper_arm=float(stature * UPPER_ARM * arms),
        forearm=float(stature * FOREARM * arms),
        hand=float(stature * HAND),
        hip_half=float(stature * 0.052),
        shoulder_half=float(shoulders),
        chest=float(stature * (0.088 + 0.010 * masculine) * girth),
        waist=float(stature * (0.070 + 0.012 * masculine) * girth**1.4),
        hips=float(stature * (0.098 - 0.008 * masculine) * girth),
        depth=float(rng.uniform(0.62, 0.74) * girth**0.4),
        girth=float(girth),
    )
