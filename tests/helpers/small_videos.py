"""Small videos written by PyAV, whose frames say which they are, and tracks of boxes that move over them."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

HEIGHT, WIDTH = 48, 64


def pyav():
    """PyAV; the test is skipped where it is not installed."""
    return pytest.importorskip('av', reason='reading video needs PyAV (requirements-video.txt)')


def frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture of its own for each number: a bright square on a gradient."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    picture[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    picture[..., 2] = number * 11 % 256
    picture[5:15, (number * 3) % (width - 10) :][:, :10] = 255
    return picture


def write_video(path: Path, frames: int = 12, milliseconds: list[int] | None = None, codec: str = 'ffv1') -> Path:
    """`codec` ffv1 keeps every pixel; `milliseconds`: a time stamp of each frame, by default ten frames a second."""
    av = pyav()
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=1000 if milliseconds else 10)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = 'bgr0' if codec == 'ffv1' else 'yuv420p'
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(frame(number), format='rgb24')
            if milliseconds:
                picture.pts, picture.time_base = milliseconds[number], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def turned(path: Path, quarter_turns_clockwise: int) -> Path:
    """An MP4 file with another display matrix in its track header (ISO/IEC 14496-12, 'tkhd', version 0)."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b'tkhd') + 44
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter_turns_clockwise % 4]
    data[matrix : matrix + 36] = struct.pack('>9i', cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def mot_lines(tracks: dict[str, list[tuple[int, float, float, float, float]]]) -> str:
    """MOT Challenge text of {id: [(frame from 0, left, top, width, height)]}."""
    return ''.join(
        f'{f + 1},{name},{x},{y},{w},{h},1,-1,-1,-1\n' for name, boxes in tracks.items() for f, x, y, w, h in boxes
    )


def walking(
    first: int, last: int, speed: float = 2.0, top: float = 10.0
) -> list[tuple[int, float, float, float, float]]:
    """A box of 12 x 24 pixels that moves to the right."""
    return [(f, 1.0 + speed * (f - first), top, 12.0, 24.0) for f in range(first, last + 1)]
