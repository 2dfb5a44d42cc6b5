"""Reads and checks the frames of tracklets, and keeps the order while several workers read ahead."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import NamedTuple

from data_prep.builder.stored_frame import FrameCounts, StoredFrame, count, stored_frame
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.images import ImageError

MAX_REPORTED = 20  # bad files named in one message


class BadFrames(Exception):
    """Some frames of a tracklet cannot be used. `args[0]` is a list of sentences, one a frame."""


class CheckedFrames(NamedTuple):
    frames: list[bytes]  # encoded, as they are stored
    counts: FrameCounts


@dataclass(frozen=True)
class CheckedReader:
    """`read_frames` followed by a check of every frame. Picklable where read_frames is.

    Attributes:
      frame_size: Width and height that every frame must have; None = any.
      jpeg_quality: 1-100: frames that are not JPEG are stored as JPEG; 0 = without loss.
      bit_depth: Bits in use of frames of 16 bits a sample; 0 = such frames are refused.
      decode: Decode every frame; without it only headers and ends are checked.
    """

    read_frames: Callable[[TrackletSource], list[bytes]]
    frame_size: tuple[int, int] | None = None
    jpeg_quality: int = 0
    bit_depth: int = 0
    decode: bool = True

    def __call__(self, source: TrackletSource) -> CheckedFrames:
        """Returns the frames as they are stored. Raises BadFrames where one is missing, no image, truncated or
        damaged."""
        try:
            frames = self.read_frames(source)
        except OSError:
            raise BadFrames(self._unreadable(source)) from None
        stored, bad = [], []
        for key, frame in zip(source.frames, frames):
            try:
                stored.append(self._stored(frame))
            except ImageError as error:
                bad.append(f'{key} {error}')
        if len(frames) != len(source.frames):
            bad.append(f'{source.name} has {len(source.frames)} frames, but {len(frames)} could be read')
        if bad:
            raise BadFrames(bad)
        return CheckedFrames([frame.data for frame in stored], count(stored))

    def _stored(self, frame: bytes) -> StoredFrame:
        return stored_frame(
            frame, size=self.frame_size, bit_depth=self.bit_depth, jpeg_quality=self.jpeg_quality, decode=self.decode
        )

    def _unreadable(self, source: TrackletSource) -> list[str]:
        """Reads the frames one by one, to name those which cannot be read."""
        bad = []
        for key, number in zip(source.frames, source.frame_numbers):
            try:
                (frame,) = self.read_frames(replace(source, frame_numbers=(number,), frames=(key,)))
                self._stored(frame)
            except OSError as error:
                bad.append(f'{key} cannot be read ({error.strerror or error})')
            except ImageError as error:
                bad.append(f'{key} {error}')
        return bad or [
            f'{source.name} could not be read at first, then could: check the disk or network and start again'
        ]


def checked_reader(raw: RawDataset, decode: bool = True) -> CheckedReader:
    """The reader of a data set's frames."""
    return CheckedReader(raw.read_frames, raw.frame_size, raw.jpeg_quality, raw.bit_depth, decode)


def read_all(
    read: CheckedReader, sources: Iterable[TrackletSource], kind: str, workers: int = 0
) -> Iterator[tuple[TrackletSource, CheckedFrames]]:
    """Yields (tracklet, frames) in the order of `sources`, read ahead by `workers` threads or processes (0 = as many as
    useful).

    Bad frames do not stop the reading, so that one message can name several; after the first nothing more is yielded.
    Raises UserError with at most MAX_REPORTED of them.
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
                if len(bad) >= MAX_REPORTED:
                    break
            while ahead and len(bad) < MAX_REPORTED:
                yield from _take(ahead, bad)
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
    if bad:
        raise bad_frames_error(bad)


def bad_frames_error(bad: list[str]) -> UserError:
    """One message for all bad frames."""
    listed = '\n  '.join(bad[:MAX_REPORTED])
    some = 'At least these frames' if len(bad) >= MAX_REPORTED else 'These frames'
    return UserError(f'{some} cannot be used:\n  {listed}\nReplace or remove them and start again; nothing was built.')


def _take(ahead: deque, bad: list[str]) -> Iterator[tuple[TrackletSource, CheckedFrames]]:
    source, future = ahead.popleft()
    try:
        frames = future.result()
    except BadFrames as error:
        bad.extend(error.args[0])
        return
    except BrokenProcessPool as error:
        raise UserError(
            'A process that reads frames was killed, most likely for want of memory. Start again with fewer --workers.'
        ) from error
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
