"""Small pictures of tracklets as files with numbers for names, so that no tracklet's name becomes part of a path."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import resized

PICTURES = 'pictures'  # folder
FRAMES, HEIGHT, WIDTH = 3, 96, 48  # shown of each tracklet, evenly spread; pixels of a frame


class TrackletPictures:
    """Written on first use into a folder.

    Args:
      frames: of a tracklet by its name: up to the given number of frames, evenly spread, uint8 RGB [H, W, 3]; None
        where there are no pictures of it.
    """

    def __init__(self, folder: Path, frames: Callable[[str, int], list[np.ndarray] | None]):
        self._folder, self._frames, self._known = folder, frames, {}
        self.broken: list[str] = []

    def path(self, tracklet: str) -> str:
        """pictures/NUMBER.jpg, or '' where there is none."""
        if tracklet not in self._known:
            self._known[tracklet] = self._write(tracklet, f'{PICTURES}/{len(self._known)}.jpg')
        return self._known[tracklet]

    def _write(self, tracklet: str, path: str) -> str:
        try:
            frames = self._frames(tracklet, FRAMES)
        except UserError:  # a frame that cannot be decoded
            self.broken.append(tracklet)
            return ''
        if not frames:
            return ''
        strip = np.full((HEIGHT, FRAMES * WIDTH, 3), 128, np.uint8)
        for place, frame in enumerate(frames):
            strip[:, place * WIDTH : (place + 1) * WIDTH] = resized(frame, HEIGHT, WIDTH)
        (self._folder / PICTURES).mkdir(parents=True, exist_ok=True)
        Image.fromarray(strip).save(self._folder / path, format='JPEG', quality=80)
        return path
