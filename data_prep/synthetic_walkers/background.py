"""Static scenes behind the walkers: one wide picture a camera, past which the crop moves."""

import functools

import cv2
import numpy as np
from jaxtyping import Float

SCALE = 66.0  # pixels a metre, about that of the crops
HEIGHT, WIDTH = 192, 1024  # pixels that are painted
MARGIN = 40  # pixels above and below, continued from the edge
GROUND = 118  # painted row where ground and what stands behind it meet


def _clouds(rng: np.random.Generator, height: int, width: int, grains: tuple[int, ...]) -> Float[np.ndarray, 'h w']:
    """Noise of several sizes of grain (pixels), standard deviation about 1."""
    total = np.zeros((height, width), np.float32)
    for grain in grains:
        small = rng.standard_normal((height // grain + 2, width // grain + 2)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / np.sqrt(len(grains))


def _tint(colour, texture, strength: float) -> np.ndarray:
    return np.asarray(colour, np.float32) * (1 + strength * texture[..., None])


def _box(scene, left, top, right, bottom, colour) -> None:
    cv2.rectangle(scene, (int(left), int(top)), (int(right), int(bottom)), tuple(float(c) for c in colour), -1)


def _slabs(rng, scene, colour, slab: int, strength: float = 0.05) -> None:
    """Paving in rough perspective: rows get higher towards the viewer."""
    ground = scene[GROUND:]
    ground[:] = _tint(colour, _clouds(rng, *ground.shape[:2], (2, 9, 40)), strength)
    row, step = 0.0, slab * 0.28
    joint = tuple(map(float, np.asarray(colour, np.float32) * 0.78))
    while row < ground.shape[0]:
        bottom = min(int(row + step), ground.shape[0] - 1)
        cv2.line(ground, (0, bottom), (WIDTH, bottom), joint, 1, cv2.LINE_AA)
        for x in np.arange(rng.uniform(0, slab), WIDTH, slab):
            cv2.line(ground, (int(x), int(row)), (int(x - 0.1 * step), bottom), joint, 1, cv2.LINE_AA)
        row, step = row + step, step * 1.22


def _street(rng, scene) -> None:
    wall = np.array([0.55, 0.38, 0.31])
    scene[:GROUND] = _tint(wall, _clouds(rng, GROUND, WIDTH, (3, 30)), 0.06)
    for row, top in enumerate(range(-4, GROUND, 7)):  # bricks
        cv2.line(scene, (0, top), (WIDTH, top), (0.62, 0.56, 0.51), 1)
        for x in range(-(row % 2) * 9, WIDTH, 18):
            cv2.line(scene, (x, top), (x, top + 7), (0.62, 0.56, 0.51), 1)
            _box(scene, x + 1, top + 1, x + 17, top + 6, wall * rng.normal(1, 0.09))
    for x in range(60, WIDTH, 190):  # windows and a door now and then
        x += int(rng.integers(-25, 25))
        _box(scene, x - 3, 4, x + 51, 74, (0.74, 0.72, 0.68))
        _box(scene, x, 7, x + 48, 70, np.array([0.25, 0.30, 0.36]) * rng.uniform(0.7, 1.3))
        _box(scene, x + 23, 7, x + 25, 70, (0.74, 0.72, 0.68))
    for x in rng.integers(0, WIDTH, 2):
        _box(scene, x, 22, x + 52, GROUND, np.array([0.22, 0.33, 0.30]) * rng.uniform(0.8, 1.2))
    _slabs(rng, scene, (0.62, 0.60, 0.57), 46)
    scene[GROUND : GROUND + 3] *= 0.6


def _park(rng, scene) -> None:
    scene[:GROUND] = _tint((0.36, 0.47, 0.30), _clouds(rng, GROUND, WIDTH, (3, 8, 24)), 0.22)
    scene[:40] = scene[:40] * 0.5 + np.float32(0.5) * _tint((0.72, 0.80, 0.86), _clouds(rng, 40, WIDTH, (6, 20)), 0.10)
    for x in rng.integers(0, WIDTH, 9):  # trunks
        width = int(rng.integers(8, 20))
        _box(scene, x, 0, x + width, GROUND - 6, np.array([0.30, 0.24, 0.19]) * rng.uniform(0.7, 1.2))
        _box(scene, x, 0, x + width // 3, GROUND - 6, (0.38, 0.31, 0.25))
    for x in rng.integers(0, WIDTH, 26):  # bushes
        r = int(rng.integers(12, 32))
        shade = np.array([0.21, 0.34, 0.17]) * rng.uniform(0.7, 1.35)
        cv2.ellipse(scene, (int(x), GROUND), (r, int(r * 0.8)), 0, 180, 360, tuple(map(float, shade)), -1, cv2.LINE_AA)
    scene[:GROUND] *= (1 + 0.10 * _clouds(rng, GROUND, WIDTH, (2, 5)))[..., None]
    grass = _clouds(rng, HEIGHT - GROUND, WIDTH, (1, 2, 12))
    scene[GROUND:] = _tint((0.42, 0.55, 0.28), grass, 0.13)
    path = scene[GROUND + 22 :]
    path[:] = _tint((0.68, 0.62, 0.52), _clouds(rng, *path.shape[:2], (1, 3, 20)), 0.06)


def _shops(rng, scene) -> None:
    scene[:GROUND] = _tint((0.50, 0.48, 0.46), _clouds(rng, GROUND, WIDTH, (4, 40)), 0.04)
    x = 0
    while x < WIDTH:
        width = int(rng.integers(90, 170))
        sign = np.array([rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.7), rng.uniform(0.15, 0.8)])
        _box(scene, x + 4, 0, x + width - 4, 17, sign)
        for letter in range(x + 16, x + width - 22, 13):
            _box(scene, letter, 5, letter + int(rng.integers(4, 9)), 12, 0.25 * sign + 0.75)
        _box(scene, x + 8, 24, x + width - 8, GROUND - 12, np.array([0.34, 0.38, 0.41]) * rng.uniform(0.7, 1.1))
        for _ in range(int(rng.integers(5, 10))):  # goods in the window
            gx, gy = rng.integers(x + 10, x + width - 24), rng.integers(34, GROUND - 40)
            colour = 0.55 * rng.uniform(0.2, 0.9) + 0.45 * rng.uniform(0.2, 0.9, 3)
            _box(scene, gx, gy, gx + rng.integers(6, 18), min(gy + rng.integers(10, 34), GROUND - 14), colour)
        glare = np.array([[x + 20, 24], [x + 40, 24], [x + 18, GROUND - 12], [x + 2, GROUND - 12]])
        shine = scene.copy()
        cv2.fillConvexPoly(shine, glare, (0.85, 0.88, 0.9))
        scene[:] = 0.86 * scene + 0.14 * shine
        _box(scene, x, 18, x + 7, GROUND, (0.62, 0.60, 0.57))
        x += width
    _slabs(rng, scene, (0.70, 0.66, 0.62), 34)
    scene[GROUND : GROUND + 2] *= 0.55


def _station(rng, scene) -> None:
    scene[:GROUND] = _tint((0.80, 0.80, 0.77), _clouds(rng, GROUND, WIDTH, (8, 60)), 0.03)
    for x in range(0, WIDTH, 24):
        cv2.line(scene, (x, 0), (x, GROUND), (0.70, 0.70, 0.68), 1)
    for y in range(10, GROUND, 24):
        cv2.line(scene, (0, y), (WIDTH, y), (0.70, 0.70, 0.68), 1)
    for x in range(30, WIDTH, 230):  # posters
        _box(scene, x, 16, x + 62, 92, (0.2, 0.2, 0.22))
        _box(scene, x + 3, 19, x + 59, 89, rng.uniform(0.25, 0.85, 3))
        _box(scene, x + 8, int(rng.integers(28, 60)), x + 50, 80, rng.uniform(0.25, 0.85, 3))
    _box(scene, 0, GROUND - 9, WIDTH, GROUND, (0.30, 0.32, 0.36))
    _slabs(rng, scene, (0.48, 0.48, 0.50), 60, 0.03)


def _road(rng, scene) -> None:
    scene[:GROUND] = _tint((0.60, 0.62, 0.64), _clouds(rng, GROUND, WIDTH, (5, 50)), 0.05)
    for x in range(20, WIDTH, 210):  # parked cars
        paint = rng.uniform(0.12, 0.8) * rng.uniform(0.6, 1.0, 3)
        _box(scene, x, 70, x + 170, 108, paint)
        cv2.ellipse(scene, (x + 85, 72), (58, 30), 0, 180, 360, tuple(map(float, paint)), -1, cv2.LINE_AA)
        cv2.ellipse(scene, (x + 85, 71), (48, 22), 0, 180, 360, (0.20, 0.24, 0.28), -1, cv2.LINE_AA)
        for wheel in (x + 34, x + 136):
            cv2.circle(scene, (wheel, 107), 15, (0.08, 0.08, 0.08), -1, cv2.LINE_AA)
            cv2.circle(scene, (wheel, 107), 7, (0.55, 0.55, 0.56), -1, cv2.LINE_AA)
    scene[GROUND:] = _tint((0.40, 0.41, 0.42), _clouds(rng, HEIGHT - GROUND, WIDTH, (1, 2, 30)), 0.06)
    _box(scene, 0, GROUND + 8, WIDTH, GROUND + 13, (0.66, 0.65, 0.62))
    for x in range(0, WIDTH, 120):
        _box(scene, x, GROUND + 34, x + 58, GROUND + 38, (0.82, 0.81, 0.76))


_PAINTERS = {'street': _street, 'park': _park, 'shops': _shops, 'station': _station, 'road': _road}


@functools.lru_cache(maxsize=16)
def scene_picture(scene: str, seed: int, camera_number: int) -> Float[np.ndarray, 'h w 3']:
    """The scene of a camera, 0 to 1, [HEIGHT + 2 MARGIN, WIDTH, 3]. The same for the same arguments; read-only."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    _PAINTERS[scene](np.random.default_rng([seed, 102, camera_number]), picture)
    picture = np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8), 0, 1)
    picture = cv2.copyMakeBorder(picture, MARGIN, MARGIN, 0, 0, cv2.BORDER_REFLECT)
    picture.setflags(write=False)
    return picture
