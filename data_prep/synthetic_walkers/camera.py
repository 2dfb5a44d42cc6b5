"""Cameras: where they look from, their light, and what they do to colours and sharpness."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SCENES = ('street', 'park', 'shops', 'station', 'road')


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
      yaw, pitch: Direction it sees most walkers from, radians (render.View).
      light: Direction to the light in camera axes (right, down, towards the camera), unit length.
      ambient: Share of light that comes from everywhere: high = overcast, low = sun.
      gains: Factors of red, green, blue.
      saturation: 1 leaves colours as they are, 0 makes them grey.
      gamma: Exponent of the response; above 1 is darker.
      contrast: Factor about middle grey.
      black: Level of black, 0 to 1 (haze).
      blur: Standard deviation of its blur, pixels of the crop.
      noise: Standard deviation of its noise, 0 to 255.
      quality: JPEG quality, 1 to 100.
      scene: One of SCENES.
    """

    yaw: float
    pitch: float
    light: tuple[float, float, float]
    ambient: float
    gains: tuple[float, float, float]
    saturation: float
    gamma: float
    contrast: float
    black: float
    blur: float
    noise: float
    quality: int
    scene: str


def _light(right: float, up: float, towards: float) -> tuple[float, float, float]:
    x, y, z = np.array([right, -up, towards]) / np.sqrt(right**2 + up**2 + towards**2)
    return float(x), float(y), float(z)


# The first three are the same for every seed: they differ in all that cameras differ in.
_FIRST = (
    Camera(np.radians(84), np.radians(8), _light(0.7, 1.0, 0.8), 0.50, (1.06, 1.00, 0.90), 1.05, 0.95, 1.05, 0.01, 0.35,
           3.0, 88, 'street'),
    Camera(np.radians(-24), np.radians(17), _light(-0.5, 0.9, 0.5), 0.62, (0.78, 0.86, 0.98), 0.78, 1.22, 0.92, 0.05,
           0.62, 5.0, 74, 'park'),
    Camera(np.radians(152), np.radians(13), _light(-0.9, 0.7, 0.6), 0.45, (1.16, 1.10, 1.06), 0.62, 0.82, 0.90, 0.07,
           0.85, 4.0, 66, 'shops'),
)  # fmt: skip


def camera(number: int, seed: int) -> Camera:
    """The camera of this number (from 1). Cameras beyond the third are drawn at random, each from its number and the
    seed."""
    if number <= len(_FIRST):
        return _FIRST[number - 1]
    rng = np.random.default_rng([seed, 101, number])
    warmth = rng.uniform(-0.14, 0.14)
    exposure = rng.uniform(0.8, 1.15)
    return Camera(
        yaw=float(rng.uniform(-np.pi, np.pi)),
        pitch=float(np.radians(rng.uniform(5, 20))),
        light=_light(rng.uniform(-1, 1), rng.uniform(0.6, 1.1), rng.uniform(0.3, 1.0)),
        ambient=float(rng.uniform(0.42, 0.68)),
        gains=tuple(float(g) for g in exposure * np.array([1 + warmth, 1.0, 1 - warmth])),
        saturation=float(rng.uniform(0.6, 1.15)),
        gamma=float(rng.uniform(0.8, 1.25)),
        contrast=float(rng.uniform(0.85, 1.1)),
        black=float(rng.uniform(0.0, 0.08)),
        blur=float(rng.uniform(0.3, 0.95)),
        noise=float(rng.uniform(2.0, 6.0)),
        quality=int(rng.integers(62, 92)),
        scene=SCENES[int(rng.integers(len(SCENES)))],
    )


@dataclass(frozen=True)
class Exposure:
    """A camera's response during one tracklet: exposure drifts, clouds pass."""

    camera: Camera
    gain: float
    warmth: float

    def __call__(
        self, picture: Float[np.ndarray, 'h w 3'], grain: Float[np.ndarray, 'h w 3']
    ) -> UInt8[np.ndarray, 'h w 3']:
        """What the camera records of a scene (0 to 1); grain is noise of standard deviation 1."""
        c = self.camera
        gains = self.gain * np.asarray(c.gains) * (1 + self.warmth, 1.0, 1 - self.warmth)
        grey = np.array([0.299, 0.587, 0.114])
        mix = (c.saturation * np.eye(3) + (1 - c.saturation) * grey) * gains[:, None]
        response = cv2.transform(picture, mix.astype(np.float32))
        np.clip(response, 0, 1.2, out=response)
        response = cv2.pow(response, c.gamma)
        response = cv2.GaussianBlur(response, (0, 0), c.blur, borderType=cv2.BORDER_REPLICATE)
        response *= np.float32(255 * c.contrast * (1 - c.black))
        response += np.float32(255 * (0.5 * (1 - c.contrast) + c.black * c.contrast))
        response += grain * np.float32(c.noise)
        return np.clip(response, 0, 255).astype(np.uint8)
