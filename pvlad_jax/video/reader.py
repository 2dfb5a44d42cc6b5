"""Frames of a video file, decoded one after the other by PyAV (FFmpeg): the whole video is never in memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.core.errors import UserError

MAX_PIXELS = 1 << 26  # of a frame: twice 8K video; a header that says more is damaged or hostile
# How much less than its header promises a whole file may give: (share, frames or seconds). Counts are nearly exact; a
# duration is that of the last frame's end, which may be shown for long.
_COUNT_TOLERANCE = (0.01, 2)
_DURATION_TOLERANCE = (0.05, 1.0)
_GLITCH = 1.0  # seconds; time stamps that go back by more begin anew, as where files were put together
# What FFmpeg opens as well: text drawn as by a terminal, and lists that lead to other files.
_NO_VIDEO = frozenset({'tty', 'hls', 'dash', 'concat', 'sdp', 'imf'})
_INSTALL = 'Reading video needs PyAV: python -m pip install -r requirements-video.txt (or: pip install av).'


class VideoError(UserError):
    """A video that cannot be opened, or not read to its end."""


class MissingDecoder(UserError):
    """PyAV is not installed."""


class VideoFrame:
    """A decoded frame.

    Attributes:
      number: counted from 0, as frames are shown.
      seconds: since the first frame, by the time stamps of the file, so that a variable frame rate is followed. They
        never go back.
      damaged: the decoder says that it filled in missing data.
    """

    def __init__(self, number: int, seconds: float, decoded: Any):
        self.number, self.seconds, self._decoded = number, seconds, decoded
        self.damaged = bool(decoded.is_corrupt)

    def image(self) -> UInt8[np.ndarray, 'H W 3']:
        """RGB, turned as the file's rotation says. Converted here: frames that are not asked for cost no conversion."""
        return _turned(self._decoded.to_ndarray(format='rgb24'), self._decoded.rotation)


def _turned(image: UInt8[np.ndarray, 'H W 3'], degrees: int) -> UInt8[np.ndarray, 'h w 3']:
    """Turned anticlockwise, in steps of 90 degrees, as a display matrix is given by FFmpeg."""
    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class _Clock:
    """Seconds of a video's frames since the first one.

    Args:
      step: seconds of a frame, where time stamps do not say.
      decoding: takes the times of decoding, which rise by one frame each in the order in which frames are shown.
    """

    def __init__(self, step: float, decoding: bool):
        self._step, self._decoding = step, decoding
        self._last: float | None = None
        self._origin: float | None = None  # the time stamp of second 0

    def seconds(self, decoded: Any) -> float:
        last, time = self._last or 0.0, decoded.time
        after = 0.0 if self._last is None else last + self._step
        if self._decoding:
            time = None if decoded.dts is None else float(decoded.dts * decoded.time_base)
        if time is None:
            self._last = after
        else:
            if self._origin is None or last - (time - self._origin) > _GLITCH:
                self._origin = time - after
            self._last = max(time - self._origin, last)
        return self._last


class Video:
    """An open video file. `open_video` makes it, and closes it.

    Attributes:
      path: of the file.
      damaged: numbers of the frames read so far whose data the decoder had to fill in.
    """

    def __init__(self, path: Path, container: Any):
        self.path, self._container = path, container
        if not container.streams.video:
            raise VideoError(f'{path} holds no video stream. Give a video file, or a folder of tracklets.')
        self._stream = container.streams.video[0]
        self._stream.thread_type = 'AUTO'  # decoders that can work on several frames at a time do
        width, height = self._stream.codec_context.width, self._stream.codec_context.height
        if width < 1 or height < 1:
            raise VideoError(f'{path} is damaged: its header gives no size of the picture. Copy the file again.')
        if width * height > MAX_PIXELS:
            raise VideoError(
                f'{path} has frames of {width} x {height} pixels; at most {MAX_PIXELS:,} pixels are read. Scale the '
                'video down, and its boxes with it.'
            )
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._step = float(1 / rate) if rate else 0.04  # seconds of a frame, where time stamps do not say
        self.damaged: list[int] = []

    def frames(self) -> Iterator[VideoFrame]:
        """All frames in the order in which they are shown.

        Raises:
          VideoError: after the last frame that can be decoded, where that is not the video's end.
        """
        number, seconds, time = 0, 0.0, 0.0
        # AVI holds no times of showing. What FFmpeg guesses of H.264 with B-frames goes forth and back.
        clock = _Clock(self._step, decoding=self._container.format.name == 'avi')
        try:
            for decoded in self._container.decode(self._stream):
                time, seconds = decoded.time, clock.seconds(decoded)
                frame = VideoFrame(number, seconds, decoded)
                if frame.damaged:
                    self.damaged.append(number)
                yield frame
                number += 1
        except (_ffmpeg_error(), EOFError) as error:
            raise VideoError(self._broken(number, seconds, f'decoding fails there ({_reason(error)})')) from error
        if not number:
            raise VideoError(
                f'{self.path} holds no frame that can be decoded: it is damaged, or its end is missing. Copy the file '
                f'again.'
            )
        self._check_end(number, seconds, max(seconds, time or 0.0))

    def _check_end(self, number: int, seconds: float, reached: float) -> None:
        """VideoError where much less came than the header promises: in frames and in the seconds that they would take,
        where it counts them (files may drop frames and keep the time); otherwise in seconds alone.
        """
        promised = self._stream.frames
        if promised:
            share, least = _COUNT_TOLERANCE
            whole = promised - max(least, share * promised)
            if number < whole and seconds + self._step < whole * self._step:
                raise VideoError(self._broken(number, seconds, f'its header promises {promised}'))
        # The duration is that of all streams: a sound track may be longer.
        elif self._container.duration and len(self._container.streams) == 1:
            promised = self._container.duration / 1e6
            share, least = _DURATION_TOLERANCE
            if reached + self._step < promised - max(least, share * promised):
                raise VideoError(self._broken(number, seconds, f'its header promises {promised:.1f} s'))

    def _broken(self, number: int, seconds: float, why: str) -> str:
        return (
            f'{self.path} is truncated or damaged: it ends after {number} frames ({seconds:.1f} s), and {why}. Copy '
            'the file again, or repair it (ffmpeg -i BROKEN -c copy REPAIRED).'
        )


@contextlib.contextmanager
def open_video(path: str | Path) -> Iterator[Video]:
    """Opens a video file for reading.

    Raises:
      MissingDecoder: without PyAV.
      VideoError: a file that is missing, is no video, or whose frames are gigantic.
    """
    av = _pyav()
    path = Path(path)
    if not path.is_file():
        raise VideoError(f'There is no video file {path}.')
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f'{path} cannot be read as a video ({_reason(error)}). It is no video, or its beginning or index is '
            'damaged: copy the file again, or convert it (ffmpeg -i FILE out.mp4).'
        ) from error
    with container:
        if _NO_VIDEO & set(container.format.name.split(',')):
            raise VideoError(
                f'{path} cannot be read as a video: it is a text (FFmpeg reads it as {container.format.name}). Give '
                'the video file itself.'
            )
        yield Video(path, container)


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingDecoder(_INSTALL) from error
    return av


def _ffmpeg_error() -> type[Exception]:
    return _pyav().error.FFmpegError


def _reason(error: BaseException) -> str:
    """FFmpeg's own words without its error number and the file's name."""
    text = getattr(error, 'strerror', None) or str(error)
    log = getattr(error, 'log', None)
    return f'{text}: {log[2].strip()}' if log and len(log) > 2 and log[2] else text
