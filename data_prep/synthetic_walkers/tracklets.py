"""Tracklets: who walks past which camera, how long, in what light, how well detected, behind what."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from data_prep.synthetic_walkers.camera import Camera, camera
from data_prep.synthetic_walkers.gait import Gait, vary
from data_prep.synthetic_walkers.occluders import KINDS
from data_prep.synthetic_walkers.people import Person, person

FRAMES_A_SECOND = 12.0
HEIGHT, WIDTH = 128, 64  # pixels of a crop


@dataclass(frozen=True)
class World:
    """The options that a whole data set follows from.

    Attributes:
      seed: Of everything.
      twins: See people.person.
      min_frames, max_frames: Length of tracklets.
    """

    seed: int
    twins: bool
    min_frames: int
    max_frames: int


@dataclass(frozen=True)
class Passage:
    """Something that comes between camera and walker.

    Attributes:
      kind: One of occluders.KINDS, or 'person'.
      frame: When its middle is nearest to `offset`.
      offset: Pixels from the walker's middle at that time.
      speed: Its own speed in the picture, pixels a frame to the right, over that of the walker's surroundings.
      person_id: The passer-by, where it is one: a number that no walker of the data set has.
    """

    kind: str
    frame: float
    offset: float
    speed: float
    person_id: int


@dataclass(frozen=True)
class Tracklet:
    """All that its pictures follow from, besides noise; a pure function of the world and its three numbers.

    Attributes:
      person, camera: Who, and seen by which camera.
      person_id, camera_id, number: The three numbers.
      gait: The person's gait this time.
      yaw: Direction the walker is seen from (render.View).
      phase: Of the gait in each frame, strides.
      fill: Share of the crop's height that the walker stands in.
      zoom, shift: Detector's jitter a frame: factor, and pixels right and down.
      start: Where in the scene the walk begins, 0 to 1.
      gain, warmth: Of the light this time.
      passages: What comes in between.
    """

    person: Person
    camera: Camera
    person_id: int
    camera_id: int
    number: int
    gait: Gait
    yaw: float
    phase: Float[np.ndarray, ' f']
    fill: float
    zoom: Float[np.ndarray, ' f']
    shift: Float[np.ndarray, 'f 2']
    start: float
    gain: float
    warmth: float
    passages: tuple[Passage, ...]


def length(world: World, person_id: int, camera_id: int, number: int) -> tuple[int, int]:
    """Frames of a tracklet, and the number of its first frame. Short tracklets are more frequent, as in real data."""
    rng = np.random.default_rng([world.seed, 3, person_id, camera_id, number])
    frames = int(np.exp(rng.uniform(np.log(world.min_frames), np.log(world.max_frames + 1))))
    return int(np.clip(frames, world.min_frames, world.max_frames)), int(rng.integers(1, 200))


def _wander(rng: np.random.Generator, frames: int, deviation: float) -> Float[np.ndarray, ' f']:
    """A random walk that is pulled back to 0, with this standard deviation."""
    memory, steps = 0.8, rng.normal(0, deviation, frames)
    steps[1:] *= np.sqrt(1 - memory**2)
    for i in range(1, frames):
        steps[i] += memory * steps[i - 1]
    return steps


def plan(world: World, person_id: int, camera_id: int, number: int) -> Tracklet:
    """Everything about a tracklet but its pixels."""
    rng = np.random.default_rng([world.seed, 4, person_id, camera_id, number])
    frames, _ = length(world, person_id, camera_id, number)
    who, view = person(person_id, world.seed, world.twins), camera(camera_id, world.seed)
    gait = vary(who.gait, rng)
    yaw = view.yaw + np.clip(rng.normal(0, np.radians(9)), -0.35, 0.35)
    if rng.uniform() < 0.15:  # the other way along the same path, as seen in a mirror
        yaw = -yaw
    phase = rng.uniform() + gait.frequency / FRAMES_A_SECOND * np.arange(frames)
    zoom = 1 + rng.normal(0, 0.03) + _wander(rng, frames, 0.018)
    shift = rng.normal(0, 1.6, 2) + np.stack([_wander(rng, frames, 1.3), _wander(rng, frames, 1.3)], -1)
    missed = rng.uniform(size=frames) < 0.03  # now and then a box is badly off
    shift += missed[:, None] * rng.normal(0, 5.0, (frames, 2))
    zoom *= np.where(missed, rng.uniform(0.88, 1.15, frames), 1.0)
    return Tracklet(
        person=who,
        camera=view,
        person_id=person_id,
        camera_id=camera_id,
        number=number,
        gait=gait,
        yaw=float(yaw),
        phase=phase,
        fill=float(rng.uniform(0.85, 0.93)),
        zoom=zoom,
        shift=shift,
        start=float(rng.uniform()),
        gain=float(np.clip(rng.lognormal(0, 0.09), 0.8, 1.25)),
        warmth=float(rng.normal(0, 0.025)),
        passages=_passages(rng, frames),
    )


def _passages(rng: np.random.Generator, frames: int) -> tuple[Passage, ...]:
    """Nothing in two of three tracklets."""
    if rng.uniform() > 0.36:
        return ()
    kind = (*KINDS, 'person')[int(rng.choice(4, p=(0.34, 0.18, 0.22, 0.26)))]
    speed = float(rng.choice([-1, 1]) * rng.uniform(4.0, 8.0)) if kind == 'person' else float(rng.normal(0, 0.6))
    frame, offset = float(rng.uniform(0.1, 0.9) * frames), float(rng.normal(0, 12))
    return (Passage(kind, frame, offset, speed, person_id=1_000_000 + int(rng.integers(1_000))),)


def frame_numbers(world: World, person_id: int, camera_id: int, number: int) -> Int[np.ndarray, ' f']:
    """The numbers of a tracklet's frames, rising by one."""
    frames, first = length(world, person_id, camera_id, number)
    return first + np.arange(frames)
