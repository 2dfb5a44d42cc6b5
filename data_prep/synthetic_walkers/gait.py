"""Gait: a few numbers of a person, and the joint angles that follow from them over the phase of a stride.

The curves of hip, knee and ankle are those of level walking (Winter, Biomechanics and Motor Control of Human Movement,
table of joint angles over the stride, rounded to degrees), smoothed to six harmonics; a person's numbers scale and
shift them. Phase 0 is the left heel's contact, a stride (two steps) takes phase 1.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

_STRIDE = np.linspace(0, 1, 21)[:-1]
_HIP = [30, 28, 25, 21, 16, 11, 6, 1, -4, -8, -11, -11, -6, 3, 12, 20, 26, 31, 33, 32]  # flexion, degrees
_KNEE = [5, 12, 17, 19, 17, 13, 9, 6, 5, 6, 9, 18, 32, 47, 58, 59, 50, 35, 19, 6]  # flexion
_ANKLE = [0, -5, -4, 0, 3, 5, 7, 9, 10, 11, 8, -3, -15, -18, -10, -4, 0, 1, 1, 1]  # dorsiflexion
_HARMONICS = 6


def _smooth_curve(degrees) -> np.ndarray:
    spectrum = np.fft.rfft(np.radians(degrees)) / len(degrees)
    spectrum[_HARMONICS + 1 :] = 0
    spectrum[1:] *= 2
    return spectrum


def _evaluate(spectrum: np.ndarray, phase: Float[np.ndarray, '*f']) -> Float[np.ndarray, '*f']:
    k = np.arange(_HARMONICS + 1)
    turns = np.exp(2j * np.pi * phase[..., None] * k)
    return (turns * spectrum[: _HARMONICS + 1]).real.sum(-1)


_HIP_CURVE, _KNEE_CURVE, _ANKLE_CURVE = _smooth_curve(_HIP), _smooth_curve(_KNEE), _smooth_curve(_ANKLE)


@dataclass(frozen=True)
class Gait:
    """How somebody walks; angles in radians, phases in strides.

    Attributes:
      frequency: Strides (two steps) a second.
      stride: Factor of the hips' swing.
      knee_lift: Factor of the knees' bend.
      arm_swing: Half the range of the shoulders' swing.
      arm_lag: How much later the arms come than the opposite leg.
      arm_asymmetry: The left arm swings (1 + this), the right arm (1 - this) times arm_swing.
      leg_asymmetry: The same for the hips.
      elbow: Bend of the elbows at rest.
      lean: Forward lean of the trunk.
      sway: Half the range of the trunk's sideways lean.
      twist: Half the range of the pelvis' turn about the vertical; the shoulders turn against it.
      bob: Rise and fall of the trunk on top of what the legs give, metres.
      toe_out: Turn of the feet outwards.
    """

    frequency: float
    stride: float
    knee_lift: float
    arm_swing: float
    arm_lag: float
    arm_asymmetry: float
    leg_asymmetry: float
    elbow: float
    lean: float
    sway: float
    twist: float
    bob: float
    toe_out: float


@dataclass(frozen=True)
class JointAngles:
    """Angles in radians a frame; of limbs [f, 2], left and right. Flexion is forwards, but for the knee, which bends
    backwards."""

    hip: Float[np.ndarray, 'f 2']
    knee: Float[np.ndarray, 'f 2']
    ankle: Float[np.ndarray, 'f 2']
    shoulder: Float[np.ndarray, 'f 2']
    elbow: Float[np.ndarray, 'f 2']
    abduction: Float[np.ndarray, 'f 2']
    lean: Float[np.ndarray, ' f']
    sway: Float[np.ndarray, ' f']
    pelvis_turn: Float[np.ndarray, ' f']
    shoulder_turn: Float[np.ndarray, ' f']


# Standard deviations from tracklet to tracklet of one person: factors where the sign of the number is fixed, else sums.
_FACTOR_NOISE = {'frequency': 0.03, 'stride': 0.05, 'knee_lift': 0.05, 'arm_swing': 0.08, 'elbow': 0.08}
_SUM_NOISE = {
    'arm_lag': 0.006,
    'arm_asymmetry': 0.03,
    'leg_asymmetry': 0.01,
    'lean': 0.012,
    'sway': 0.006,
    'twist': 0.01,
}

# Twins: ranges of the slower and the faster twin's frequency, strides a second.
SLOW_TWIN = (0.50, 0.64)
FAST_TWIN = (1.40, 1.70)


def draw_gait(rng: np.random.Generator) -> Gait:
    """A gait at random, within what healthy walkers show."""
    return Gait(
        frequency=float(rng.uniform(0.70, 1.25)),
        stride=float(rng.uniform(0.78, 1.18)),
        knee_lift=float(rng.uniform(0.85, 1.25)),
        arm_swing=float(rng.uniform(0.15, 0.62)),
        arm_lag=float(rng.uniform(-0.06, 0.06)),
        arm_asymmetry=float(rng.uniform(-0.35, 0.35)),
        leg_asymmetry=float(rng.uniform(-0.06, 0.06)),
        elbow=float(rng.uniform(0.15, 0.75)),
        lean=float(rng.uniform(-0.02, 0.14)),
        sway=float(rng.uniform(0.01, 0.06)),
        twist=float(rng.uniform(0.04, 0.16)),
        bob=float(rng.uniform(0.0, 0.018)),
        toe_out=float(rng.uniform(0.0, 0.28)),
    )


def twin_gaits(rng: np.random.Generator) -> tuple[Gait, Gait]:
    """Two gaits that differ in `frequency` alone: one from SLOW_TWIN, one from FAST_TWIN, in random order.

    Every angle over the phase is the same, and a tracklet begins at a random phase, so single frames of the two have
    the same distribution: only the change from frame to frame tells them apart.
    """
    gait = draw_gait(rng)
    frequencies = [float(rng.uniform(*SLOW_TWIN)), float(rng.uniform(*FAST_TWIN))]
    rng.shuffle(frequencies)
    return replace(gait, frequency=frequencies[0]), replace(gait, frequency=frequencies[1])


def vary(gait: Gait, rng: np.random.Generator) -> Gait:
    """The same person's gait in another tracklet."""
    noise = {field.name: float(np.clip(rng.normal(), -2, 2)) for field in fields(Gait)}  # one draw a field, used or not
    values = {name: getattr(gait, name) * (1 + sd * noise[name]) for name, sd in _FACTOR_NOISE.items()}
    values |= {name: getattr(gait, name) + sd * noise[name] for name, sd in _SUM_NOISE.items()}
    return replace(gait, **values)


def joint_angles(gait: Gait, phase: Float[np.ndarray, ' f']) -> JointAngles:
    """The angles of every joint at the phases given (strides, any real numbers)."""
    legs = np.stack([phase, phase + 0.5], -1)
    side = np.array([1.0, -1.0])
    hip = np.radians(9) + (_evaluate(_HIP_CURVE, legs) - np.radians(9)) * gait.stride * (1 + gait.leg_asymmetry * side)
    knee = _evaluate(_KNEE_CURVE, legs) * gait.knee_lift
    ankle = _evaluate(_ANKLE_CURVE, legs)
    swing = -np.cos(2 * np.pi * (legs - 0.03 - gait.arm_lag))  # an arm is back where the leg of its side is forward
    reach = gait.arm_swing * (1 + gait.arm_asymmetry * side)
    shoulder = -0.05 - 0.15 * reach + reach * swing
    elbow = gait.elbow + 0.55 * reach * (1 + swing)
    turn = 2 * np.pi * phase
    return JointAngles(
        hip=hip,
        knee=knee,
        ankle=ankle,
        shoulder=shoulder,
        elbow=elbow,
        abduction=0.11 + 0.02 * np.cos(2 * turn)[:, None] * np.ones(2),
        lean=gait.lean + 0.012 * np.cos(2 * turn),
        sway=gait.sway * np.sin(turn),
        pelvis_turn=-gait.twist * np.cos(turn),
        shoulder_turn=gait.twist * 1.1 * np.cos(turn - 2 * np.pi * gait.arm_lag),
    )


def bounce(gait: Gait, phase: Float[np.ndarray, ' f']) -> Float[np.ndarray, ' f']:
    """Height of the trunk above what the legs give, metres: twice a stride, highest in mid-stance."""
    return gait.bob * 0.5 * (1 - np.cos(4 * np.pi * (phase - 0.05)))
