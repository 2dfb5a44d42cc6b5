"""Folders of frames of one colour each, whose pixels JPEG keeps."""

from pathlib import Path

import numpy as np
import simplejpeg

RNG = np.random.default_rng(1)


def write_frames(folder: Path, names) -> list[np.ndarray]:
    """Writes them; returns their pixels."""
    folder.mkdir(parents=True)
    images = []
    for name in names:
        image = np.full((20, 10, 3), RNG.integers(20, 235), np.uint8)
        data = simplejpeg.encode_jpeg(image, 100, 'RGB', '444')
        (folder / name).write_bytes(data)
        images.append(simplejpeg.decode_jpeg(data, 'RGB'))
    return images
