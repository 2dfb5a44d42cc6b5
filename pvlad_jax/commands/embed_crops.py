"""Files of the pictures that `embed` makes embeddings of, for looking at."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import simplejpeg

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import file_name
from pvlad_jax.core.system_names import is_system_name

_JPEG_QUALITY = 95
_WRITTEN = re.compile(r'\d{6,}\.jpg')  # names of the pictures


class CropWriter:
    """Writes crops for looking at: FOLDER/TRACKLET/FRAME.jpg. Without a folder nothing.

    With a tracklet's first picture those of an earlier job go: its boxes may have changed since.
    """

    def __init__(self, folder: Path | None):
        self._folder, self._made = folder, set()

    def __call__(self, tracklet: str, frame: int, image: np.ndarray) -> None:
        """What the disk refuses is raised as OSError."""
        if self._folder is None:
            return
        where = self._folder_of(tracklet)
        if where not in self._made:
            where.mkdir(parents=True, exist_ok=True)
            for former in list(where.iterdir()):
                if _WRITTEN.fullmatch(former.name):
                    former.unlink()
            self._made.add(where)
        encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), _JPEG_QUALITY, 'RGB', '444')
        (where / f'{frame:06d}.jpg').write_bytes(encoded)

    def check_beside(self, root: Path, read: Iterable[Path], tracklets: Iterable[str]) -> None:
        """UserError where the pictures would come among the frames that they are made of.

        Args:
          root: all folders below it are tracklets, but for those of `is_system_name`.
          read: folders of frames.
        """
        if self._folder is None:
            return
        folder, root, read = self._folder.resolve(), root.resolve(), {path.resolve() for path in read}
        found = folder.is_relative_to(root) and not any(map(is_system_name, folder.relative_to(root).parts))
        if found or any(self._folder_of(name).resolve() in read for name in tracklets):
            raise UserError(
                f'--save_crops={self._folder} would write among the frames of --input={root}: over some of them, or as '
                'further tracklets. Give a folder outside of it.'
            )

    def _folder_of(self, tracklet: str) -> Path:
        return self._folder / file_name(tracklet)  # no name leads out of the folder
