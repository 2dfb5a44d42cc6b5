"""Reads the frames of tracklets, checks every header, and keeps the order while several workers read ahead."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

from data_prep.image_header import ImageError, read_header
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.errors import UserError

MOST_REPORTED = 20  # bad files named in one message


class BadFrames(Exception):
    """Some frames of a tracklet cannot be used. `args[0]` is a list of sentences, one a frame."""


@dataclass(frozen=True)
class CheckedReader:
    """`read_frames` followed by a check of every frame's header. Picklable where read_frames is.

    Attributes:
      encoding: 'jpeg' or 'png', of what is handed on.
      frame_size: Width and height that every frame must have; None = any.
      jpeg_quality: 1-100: PNG frames are read and handed on as JPEG; 0 = handed on as they are.
    """

    read_frames: Callable[[TrackletSource], list[bytes]]
    encoding: str
    frame_size: tuple[int, int] | None = None
    jpeg_quality: int = 0

    def __call__(self, source: TrackletSource) -> list[bytes]:
        """Returns the encoded frames. Raises BadFrames where one is missing, no image, truncated, or of another encoding."""
        try:
            frames = self.read_frames(source)
        except OSError:
            frames = None
        if frames is not None:
            bad = [f'{key} {reason}' for key, frame in zip(source.frames, frames) if (reason := self._fault(frame))]
            if len(frames) != len(source.frames):
                bad.append(f'{source.name} has {len(source.frames)} frames, but {len(frames)} could be read')
        else:
            bad = self._unreadable(source)
        if bad:
            raise BadFrames(bad)
        return [self._as_jpeg(key, f) for key, f in zip(source.frames, frames)] if self.jpeg_quality else frames

    def _as_jpeg(self, key: str, frame: bytes) -> bytes:
        picture = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise BadFrames([f'{key} cannot be decoded'])
        # No chroma subsampling: crops of 64 pixels have little colour to lose.
        return simplejpeg.encode_jpeg(picture, self.jpeg_quality, colorspace='BGR', colorsubsampling='444')

    def _fault(self, frame: bytes) -> str:
        try:
            header = read_header(frame)
        except ImageError as error:
            return str(error)
        expected = 'png' if self.jpeg_quality else self.encoding
        if header.format != expected:
            return f"is a {header.format.upper()} image, while the data set's frames are {expected.upper()}"
        if self.frame_size not in (None, (header.width, header.height)):
            return f'is {header.width}x{header.height} pixels, while the data set has {self.frame_size[0]}x{self.frame_size[1]}'
        return ''

    def _unreadable(self, source: TrackletSource) -> list[str]:
        """Reads the frames one by one, to name those which cannot be read."""
        bad = []
        for key, number in zip(source.frames, source.frame_numbers):
            one = TrackletSource(source.name, source.person, source.person_id, source.camera_id, (number,), (key,))
            try:
                (frame,) = self.read_frames(one)
            except OSError as error:
                bad.append(f'{key} cannot be read ({error.strerror or error})')
            else:
                if reason := self._fault(frame):
                    bad.append(f'{key} {reason}')
        return bad or [f'{source.name} could not be read at first, then could: check the disk or network and start again']


def checked_reader(raw: RawDataset) -> CheckedReader:
    """The reader of a data set's frames."""
    return CheckedReader(raw.read_frames, raw.encoding, raw.frame_size, raw.jpeg_quality)


def read_all(
    read: CheckedReader, sources: Iterable[TrackletSource], kind: str, workers: int = 0
) -> Iterator[tuple[TrackletSource, list[bytes]]]:
    """Yields (tracklet, frames) in the order of `sources`, read ahead by `workers` threads or processes (0 = as many as useful).

    Bad frames do not stop the reading, so that one message can name several; after the first nothing more is yielded.
    Raises UserError with at most MOST_REPORTED of them.
    """
    bad: list[str] = []
    workers = workers or (os.cpu_count() or 1) + (2 if kind == 'threads' else 0)
    with _executor(kind, workers) as executor:
        ahead: deque = deque()
        try:
            sources = iter(sources)
            for source in sources:
                ahead.append((source, executor.submit(read, source)))
                if len(ahead) < 4 * workers:
                    continue
                yield from _take(ahead, bad)
                if len(bad) >= MOST_REPORTED:
                    break
            while ahead and len(bad) < MOST_REPORTED:
                yield from _take(ahead, bad)
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
    if bad:
        raise bad_frames_error(bad)


def bad_frames_error(bad: list[str]) -> UserError:
    """One message for all bad frames."""
    listed = '\n  '.join(bad[:MOST_REPORTED])
    some = 'At least these frames' if len(bad) >= MOST_REPORTED else 'These frames'
    return UserError(
        f'{some} cannot be used:\n  {listed}\nReplace or remove them and start again; nothing was built.'
    )


def _take(ahead: deque, bad: list[str]) -> Iterator[tuple[TrackletSource, list[bytes]]]:
    source, future = ahead.popleft()
    try:
        frames = future.result()
    except BadFrames as error:
        bad.extend(error.args[0])
        return
    except BrokenProcessPool as error:
        killed = 'A process that reads frames was killed, most likely for want of memory. Start again with fewer --workers.'
        raise UserError(killed) from error
    if not bad:
        yield source, frames


def _executor(kind: str, workers: int) -> Executor:
    if kind == 'threads':
        return ThreadPoolExecutor(workers, thread_name_prefix='frames')
    # Not fork: the caller may hold threads and devices, which do not survive it.
    return ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _begin_worker)


def _begin_worker() -> None:
    # An interrupt from the keyboard reaches every process; the first one alone decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers wait for jobs for ever where their parent was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
