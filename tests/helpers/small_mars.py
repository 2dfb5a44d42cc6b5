"""A MARS of four people, on disk, with tables that describe it: healthy until a test plants a issue."""

import io
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from data_prep.datasets.mars.names import camera_number, group_tracklets, person_name, person_number

FRAME = cv2.imencode('.jpg', np.full((256, 128, 3), 90, np.uint8))[1].tobytes()
TRACKLETS = {  # split -> (person, camera, tracklet number, frames)
    'train': [('0001', 1, 1, 3), ('0001', 2, 2, 2), ('0003', 1, 1, 2), ('0003', 1, 2, 4)],
    'test': [
        ('00-1', 1, 1, 2), ('00-1', 6, 2, 1), ('0000', 3, 1, 2), ('0002', 1, 1, 3), ('0002', 4, 2, 2),
        ('0002', 4, 3, 2), ('0004', 2, 1, 2), ('0004', 5, 2, 3), ('0006', 5, 1, 2),
    ],
}  # fmt: skip
QUERY_IDX = [4, 5, 7, 8]  # 1-based: one for every person and camera of 0002 and 0004, who were seen by two cameras


def names(split: str) -> list[str]:
    return sorted(f'{p}C{c}T{t:04d}F{f:03d}.jpg' for p, c, t, n in TRACKLETS[split] for f in range(1, n + 1))


def table(split: str) -> np.ndarray:
    """The official table: first and last line, person, camera."""
    rows, line = [], 1
    for tracklet, frames in group_tracklets(names(split)).items():
        rows.append((line, line + len(frames) - 1, person_number(tracklet), camera_number(tracklet)))
        line += len(frames)
    return np.array(rows, dtype=np.int32)


def matlab(key: str, matrix: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {key: matrix})
    return buffer.getvalue()


def write(root: Path, folder: str = 'bbox_{split}', lists: bool = True, newline: str = '\n') -> Path:
    """Writes the data set as it is downloaded and returns its folder."""
    for split in TRACKLETS:
        for name in names(split):
            path = root / folder.format(split=split) / person_name(name) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FRAME)
    info = root / 'info'
    info.mkdir()
    for split in TRACKLETS:
        if lists:
            (info / f'{split}_name.txt').write_bytes((newline.join(names(split)) + newline).encode())
        (info / f'tracks_{split}_info.mat').write_bytes(matlab(f'track_{split}_info', table(split)))
    (info / 'query_IDX.mat').write_bytes(matlab('query_IDX', np.array([QUERY_IDX], dtype=np.uint16)))
    return root
