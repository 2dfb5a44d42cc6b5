"""Things between camera and walker: poles, bins and bushes, as pictures with transparency."""

import cv2
import numpy as np
from jaxtyping import Float

KINDS = ('pole', 'bin', 'bush')


def draw_sprite(kind: str, rng: np.random.Generator, height: int) -> Float[np.ndarray, 'h w 4']:
    """An occluder as tall as a crop of this height (pixels), at random in size and colour: RGBA, 0 to 1, its colours
    already multiplied by alpha."""
    return {'pole': _pole, 'bin': _bin, 'bush': _bush}[kind](rng, height)


def _shaded(width: int) -> np.ndarray:
    """Light over a standing cylinder."""
    x = np.linspace(-0.95, 0.95, width, dtype=np.float32)
    return 0.45 + 0.55 * np.sqrt(1 - x * x) * (0.75 - 0.25 * x)


def _pole(rng, height) -> np.ndarray:
    width = int(rng.integers(5, 13))
    colour = np.asarray(((0.45, 0.46, 0.47), (0.25, 0.32, 0.27), (0.62, 0.60, 0.55))[int(rng.integers(3))], np.float32)
    sprite = np.ones((height, width + 2, 4), np.float32)
    sprite[:, 1:-1, :3] = colour * _shaded(width)[None, :, None]
    sprite[:, [0, -1]] = 0
    if rng.uniform() < 0.5:  # a sticker
        top = int(rng.integers(20, height - 40))
        sprite[top : top + 14, 2:-2, :3] = rng.uniform(0.3, 0.9, 3)
    return sprite


def _bin(rng, height) -> np.ndarray:
    width, tall = int(rng.integers(24, 38)), int(height * rng.uniform(0.30, 0.48))
    sprite = np.zeros((height, width + 2, 4), np.float32)
    body = sprite[height - tall :, 1:-1]
    body[..., 3] = 1
    body[..., :3] = rng.uniform(0.12, 0.55, 3) * _shaded(width)[None, :, None]
    body[:5, :, :3] *= 0.55
    body[::9, :, :3] *= 0.85
    return sprite


def _bush(rng, height) -> np.ndarray:
    width = int(rng.integers(40, 70))
    sprite = np.zeros((height, width, 4), np.float32)
    tall = height * rng.uniform(0.22, 0.42)
    base = np.array([0.17, 0.33, 0.14]) * rng.uniform(0.8, 1.3)
    for _ in range(130):
        x, up = rng.normal(0.5, 0.19) * width, abs(rng.normal(0, 0.42)) * tall
        leaf = base * rng.uniform(0.55, 1.45) * (0.75 + 0.35 * up / tall)
        axes = (int(rng.integers(2, 6)), int(rng.integers(2, 4)))
        centre = (int(np.clip(x, 5, width - 6)), int(height - up))
        cv2.ellipse(sprite, centre, axes, float(rng.uniform(0, 180)), 0, 360, (*map(float, leaf), 1.0), -1, cv2.LINE_AA)
    cv2.ellipse(
        sprite, (width // 2, height), (width // 2 - 6, int(0.55 * tall)), 0, 0, 360, (*map(float, 0.6 * base), 1.0), 2
    )
    return sprite
