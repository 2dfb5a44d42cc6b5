"""Files of the pictures that `embed` makes embeddings of, for looking at."""

from pathlib import Path

import numpy as np
import simplejpeg

from pvlad_jax.core.file_names import file_name

_JPEG_QUALITY = 95


class CropWriter:
    """Writes crops for looking at: FOLDER/TRACKLET/FRAME.jpg. Without a folder nothing."""

    def __init__(self, folder: Path | None):
        self._folder, self._made = folder, set()

    def __call__(self, tracklet: str, frame: int, image: np.ndarray) -> None:
        """What the disk refuses is raised as OSError."""
        if self._folder is None:
            return
        where = self._folder / file_name(tracklet)  # no name leads out of the folder
        if where not in self._made:
            where.mkdir(parents=True, exist_ok=True)
            self._made.add(where)
        encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), _JPEG_QUALITY, 'RGB', '444')
        (where / f'{frame:06d}.jpg').write_bytes(encoded)
