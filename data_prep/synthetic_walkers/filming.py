"""From a planned tracklet to its pictures: background, shadow, walker, what passes in front, and the camera's
response."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Float, UInt8

from data_prep.synthetic_walkers import background
from data_prep.synthetic_walkers.camera import Exposure
from data_prep.synthetic_walkers.figure import figure
from data_prep.synthetic_walkers.gait import Gait
from data_prep.synthetic_walkers.occluders import draw_sprite
from data_prep.synthetic_walkers.paint import palette
from data_prep.synthetic_walkers.people import Person, person
from data_prep.synthetic_walkers.render import EMPTY, Layer, View, draw
from data_prep.synthetic_walkers.skeleton import Pose, pose, walking_speed
from data_prep.synthetic_walkers.tracklets import FRAMES_A_SECOND, HEIGHT, WIDTH, Passage, Tracklet, World, plan

FINE = 2  # figures are drawn at this factor of the crop's size and averaged down
_SHADOW_BONES = (  # joints, and half thickness in metres
    ('pelvis', 'neck', 0.15), ('neck', 'crown', 0.08),
    *((f'{a}_{s}', f'{b}_{s}', r) for s in ('left', 'right') for a, b, r in (
        ('hip', 'knee', 0.07), ('knee', 'ankle', 0.05), ('heel', 'toe', 0.045), ('shoulder', 'elbow', 0.05),
        ('elbow', 'hand', 0.04))),
)  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """A tracklet's walker and what passes in front, drawn but not put together.

    Attributes:
      pose, view, layer: The walker, seen how, and drawn at FINE times the crop's size.
      in_front: For each passage, its picture in each frame, colours multiplied by alpha; None where it is out of sight.
      rng: What the rest of the pictures' noise is drawn from.
    """

    tracklet: Tracklet
    pose: Pose
    view: View
    layer: Layer
    in_front: list[list[Float[np.ndarray, 'h w 4'] | None]]
    rng: np.random.Generator


def draw_walk(world: World, person_id: int, camera_id: int, number: int) -> Walk:
    """What frames and label maps of a tracklet are made of."""
    tracklet = plan(world, person_id, camera_id, number)
    rng = np.random.default_rng([world.seed, 5, person_id, camera_id, number])
    view = _view(tracklet)
    walker = pose(tracklet.person.build, tracklet.gait, tracklet.phase)
    layer = _drawn(tracklet.person, walker, view, rng)
    in_front = [_passing(world, passage, tracklet, view, rng) for passage in tracklet.passages]
    return Walk(tracklet, walker, view, layer, in_front, rng)


def film(world: World, person_id: int, camera_id: int, number: int) -> list[UInt8[np.ndarray, 'h w 3']]:
    """The frames of a tracklet, HEIGHT x WIDTH RGB; they depend on nothing but the arguments."""
    walk = draw_walk(world, person_id, camera_id, number)
    tracklet, view, rng = walk.tracklet, walk.view, walk.rng
    figures = _coloured(tracklet.person, walk.layer)
    scenes = _backgrounds(world, tracklet, view)
    shadows = _shadows(walk.pose, view, 1 - tracklet.camera.ambient)
    exposure = Exposure(tracklet.camera, tracklet.gain, tracklet.warmth)
    grain = _grain(rng)
    pictures = []
    for f in range(len(tracklet.phase)):
        picture = scenes[f]
        picture *= shadows[f][..., None]
        _lay_over(picture, figures[f])
        for front in walk.in_front:
            if front[f] is not None:
                _lay_over(picture, front[f])
        y, x = rng.integers(0, grain.shape[0] - HEIGHT), rng.integers(0, grain.shape[1] - WIDTH)
        pictures.append(exposure(picture, grain[y : y + HEIGHT, x : x + WIDTH]))
    return pictures


def film_jpeg(world: World, person_id: int, camera_id: int, number: int, quality: int) -> list[bytes]:
    """The same as JPEG."""
    frames = film(world, person_id, camera_id, number)
    return [simplejpeg.encode_jpeg(frame, quality=quality, colorsubsampling='420') for frame in frames]


def _lay_over(picture: Float[np.ndarray, 'h w 3'], rgba: Float[np.ndarray, 'h w 4']) -> None:
    picture *= 1 - rgba[..., 3:]
    picture += rgba[..., :3]


def _grain(rng: np.random.Generator) -> Float[np.ndarray, 'h w 3']:
    """Noise of standard deviation about 1, wider than a crop so that each frame cuts its own; half of it grey."""
    shape = (HEIGHT + 48, WIDTH + 48)
    colour = 0.6 * rng.standard_normal((*shape, 3), dtype=np.float32)
    return colour + 0.8 * rng.standard_normal((*shape, 1), dtype=np.float32)


def _view(tracklet: Tracklet) -> View:
    """Where the walker stands in the crops, at the crops' own scale."""
    camera, build = tracklet.camera, tracklet.person.build
    height = build.stature * np.cos(camera.pitch) + 0.12 * np.sin(camera.pitch)
    scale = HEIGHT * tracklet.fill / height * tracklet.zoom
    centre = np.array([WIDTH / 2, HEIGHT / 2 + 0.5 * HEIGHT * tracklet.fill - 1.5])
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    origin = middle + (centre - middle) * tracklet.zoom[:, None] + tracklet.shift
    # a box is drawn round the body, not the feet
    lean = -np.sin(tracklet.yaw) * np.sin(tracklet.gait.lean) * 0.4 * build.stature
    origin[:, 0] -= 0.5 * lean * scale
    return View(tracklet.yaw, camera.pitch, scale, origin, camera.light, camera.ambient)


def _drawn(who: Person, walker: Pose, view: View, rng: np.random.Generator) -> Layer:
    """The walker alone, FINE times as large as in the crop."""
    folds = cv2.GaussianBlur(rng.standard_normal((96, 32)).astype(np.float32), (0, 0), 1.6)
    folds = 1 + 0.035 * folds / folds.std()
    fine = replace(view, scale=view.scale * FINE, origin=view.origin * FINE)
    return draw(figure(who.build, who.outfit, walker), fine, HEIGHT * FINE, WIDTH * FINE, folds)


def _coloured(who: Person, layer: Layer) -> list[Float[np.ndarray, 'h w 4']]:
    """The walker at the crop's size, colours multiplied by coverage."""
    slots = palette(who.outfit)
    colours = np.concatenate([slots, np.ones_like(slots[:, :1])], -1)
    pictures = []
    for slot, shade in zip(layer.slot, layer.shade):
        rgba = np.zeros((*slot.shape, 4), np.float32)
        seen = np.flatnonzero(slot != EMPTY)
        painted = colours[slot.ravel()[seen]]
        painted[:, :3] *= shade.ravel()[seen, None]
        rgba.reshape(-1, 4)[seen] = painted
        pictures.append(cv2.resize(rgba, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    return pictures


def _picture_speed(tracklet: Tracklet) -> tuple[float, float]:
    """The walker's way in a frame: metres to the right in the picture, metres towards the camera."""
    step = walking_speed(tracklet.person.build, tracklet.gait) / FRAMES_A_SECOND
    return -step * np.sin(tracklet.yaw), step * np.cos(tracklet.yaw)


def _backgrounds(world: World, tracklet: Tracklet, view: View) -> list[Float[np.ndarray, 'h w 3']]:
    scene = background.scene_picture(tracklet.camera.scene, world.seed, tracklet.camera_id)
    frames = np.arange(len(tracklet.phase))
    right, towards = _picture_speed(tracklet)
    way = right * background.SCALE * frames
    room = background.WIDTH - 2 * WIDTH - np.ptp(way)
    x = WIDTH - way.min() + tracklet.start * max(room, 0) + way
    # A walker who comes nearer covers less and less of what is behind: the crop takes in more of the scene.
    nearer = 28.0 / (28.0 - towards * frames)
    feet = background.MARGIN + background.GROUND + 14 + 110 * np.sin(tracklet.camera.pitch) * nearer
    base = view.scale / tracklet.zoom
    pictures = []
    for f in frames:
        factor = nearer[f] * background.SCALE / base[f] / tracklet.zoom[f]
        left, top = x[f] - factor * view.origin[f, 0], feet[f] - factor * view.origin[f, 1]
        matrix = np.array([[factor, 0, left], [0, factor, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pictures.append(cv2.warpAffine(scene, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT))
    return pictures


def _shadows(walker: Pose, view: View, sun: float) -> list[Float[np.ndarray, 'h w']]:
    """Factors of the ground's brightness: the body's shadow along the light, and the dark under the feet."""
    light = view.axes().T @ np.asarray(view.light)
    slope = light[:2] / max(light[2], 0.45)
    at = {}
    for name in {joint for a, b, _ in _SHADOW_BONES for joint in (a, b)}:
        joint = walker.joints[name]
        ground = np.concatenate([joint[:, :2] - slope * joint[:, 2:], np.zeros((len(joint), 1))], -1)
        x, y, _ = view.project(ground)
        at[name] = np.round(np.stack([x, y], -1) * 16).astype(int)
    contact = {}
    for side in ('left', 'right'):
        middle = 0.5 * (walker.joints[f'heel_{side}'] + walker.joints[f'toe_{side}'])
        x, y, _ = view.project(middle * [1, 1, 0])
        contact[side] = x, y, np.clip(1 - middle[:, 2] / 0.16, 0.15, 1)
    masks = []
    for f, scale in enumerate(view.scale):
        mask = np.zeros((HEIGHT, WIDTH), np.float32)
        for a, b, half in _SHADOW_BONES:
            start, end = tuple(map(int, at[a][f])), tuple(map(int, at[b][f]))
            cv2.line(mask, start, end, 1.0, max(1, int(1.6 * half * scale)), cv2.LINE_8, 4)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.7) * np.float32(0.95 * sun)
        feet = np.zeros_like(mask)
        for x, y, dark in contact.values():
            middle = (round(x[f] * 16), round(y[f] * 16))
            half_axes = (11 * 16, int(3.2 * 16))  # in sixteenths of a pixel
            cv2.ellipse(feet, middle, half_axes, 0, 0, 360, float(dark[f]), -1, cv2.LINE_8, 4)
        mask += 0.38 * cv2.GaussianBlur(feet, (0, 0), 2.2)
        masks.append(1 - np.minimum(mask, 0.75))
    return masks


def _passing(
    world: World, passage: Passage, tracklet: Tracklet, view: View, rng: np.random.Generator
) -> list[np.ndarray | None]:
    """What passes in front, in each frame; None where it is out of the picture."""
    frames = np.arange(len(tracklet.phase))
    right, _ = _picture_speed(tracklet)
    # things nearer to the camera move faster through the picture
    drift = passage.speed - 1.2 * right * view.scale.mean()
    x = view.origin[:, 0] + passage.offset + drift * (frames - passage.frame)
    if passage.kind == 'person':
        return _passer_by(world, passage, view, x, drift, rng)
    sprite = draw_sprite(passage.kind, rng, HEIGHT)
    width = sprite.shape[1]
    shown = []
    for f in frames:
        left = x[f] - width / 2
        if left > WIDTH or left + width < 0:
            shown.append(None)
            continue
        matrix = np.array([[1, 0, left], [0, 1, 3 + (view.origin[f, 1] - view.origin[:, 1].mean())]])
        shown.append(cv2.warpAffine(sprite, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR))
    return shown


def _passer_by(world, passage, view, x, drift, rng) -> list[np.ndarray | None]:
    who = person(passage.person_id, world.seed)
    gait: Gait = who.gait
    seen = np.flatnonzero(np.abs(x - WIDTH / 2) < WIDTH)
    shown: list[np.ndarray | None] = [None] * len(x)
    if len(seen) == 0:
        return shown
    yaw = np.radians(80) if drift < 0 else np.radians(-80)
    origin = np.stack([x, view.origin[:, 1] + 5], -1)[seen]
    nearer = View(float(yaw), view.pitch, 1.06 * view.scale[seen], origin, view.light, view.ambient)
    phase = rng.uniform() + gait.frequency / FRAMES_A_SECOND * seen
    layer = _drawn(who, pose(who.build, gait, phase), nearer, rng)
    for f, picture in zip(seen, _coloured(who, layer)):
        shown[f] = picture
    return shown
