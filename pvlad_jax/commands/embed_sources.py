"""Where tracklets come from: folders of frames, or a video with tracks. Both give frames of tracklets, their ends, and
a row of each."""

import contextlib
import functools
import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pvlad_jax.commands.embed_crops import CropWriter
from pvlad_jax.commands.embed_journal import Row
from pvlad_jax.commands.passed_over import PassedOver
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import storable_text
from pvlad_jax.core.folder_links import refuse_link_above
from pvlad_jax.core.natural_order import natural_key
from pvlad_jax.embedding.interleaved import TrackletEnd, TrackletFrame
from pvlad_jax.images import FRAME_EXTENSIONS, ImageError, decode_image
from pvlad_jax.images.bit_depth import START, check_bit_depth, found_bit_depth, has_16_bits, may_have_16_bits
from pvlad_jax.video import Crop, CropRules, Ended, Video, VideoError, open_video, read_tracks, stream_crops

Events = Iterator[TrackletFrame | TrackletEnd]
EMPTY, BROKEN, SHORT = 'empty', 'broken', 'short'  # begin a row's reason
_DECODING_THREADS = 4
_AHEAD = 32  # frames that are decoded ahead


class Source:
    """Tracklets by their place in the source, which is their key.

    Attributes:
      names: of all tracklets; unique.
      rows: what is known of those that have begun or ended, without embedding.
      total: frames to pass through, for the progress.
      notes: sentences for the user about the whole source.
      failure: what ended the source early; its tracklets before that are whole.
    """

    names: list[str]
    total: int
    notes: list[str]

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.failure: UserError | None = None

    def identity(self) -> dict[str, Any]:
        """What the frames depend on; JSON-able."""
        raise NotImplementedError

    def check_crops(self, save: CropWriter) -> None:
        """UserError where the crops would come among the frames that are read."""

    def events(self, done: Collection[str], advance: Callable[[int], None], save: CropWriter) -> Events:
        """The frames and ends of all tracklets that are not done yet."""
        raise NotImplementedError


class TrackletFolders(Source):
    """Every folder at or below `root` that holds images is a tracklet, named by its path; its frames are in natural
    order of their names. Links are followed, and names of `is_system_name` passed over, as by the conversion of data
    sets.

    Args:
      bit_depth: bits in use in frames of 16 bits a sample, 8 to 16. 0: where the first frame has 16 bits, all such
        frames are read for their largest value, which says it; otherwise a tracklet with such a frame is left out.

    Raises:
      UserError: no images, two tracklets of one name, or a depth that no picture has.
      OSError: no images, and a folder that cannot be read.
    """

    def __init__(self, root: Path, bit_depth: int = 0):
        super().__init__()
        check_bit_depth(bit_depth)
        self.root, self.notes, others = root, [], 0
        self._files: list[list[Path]] = []
        self.names = []
        unread: list[OSError] = []
        passed_over = PassedOver(root)
        for folder, below, files in os.walk(root, onerror=unread.append, followlinks=True):
            below[:] = sorted(passed_over.without_system_folders(folder, below), key=natural_key)
            for name in below:
                if os.path.islink(link := os.path.join(folder, name)):
                    refuse_link_above(link, str(root))
            seen = passed_over.without_system_files(folder, files)
            images = sorted((name for name in seen if name.lower().endswith(FRAME_EXTENSIONS)), key=natural_key)
            others += len(seen) - len(images)
            if images or not below:  # a folder without anything in it is a tracklet that has lost its frames
                self._files.append([Path(folder) / name for name in images])
                relative = Path(folder).relative_to(root).as_posix()
                self.names.append(storable_text(root.name if relative == '.' else relative))
        if not any(self._files) and unread:
            raise unread[0]
        if not any(self._files):
            raise UserError(
                f'{root} holds no images ({", ".join(FRAME_EXTENSIONS)}), so there are no tracklets: one folder of '
                f'frames each is needed. A video needs --tracks. {passed_over.note()}'.rstrip()
            )
        if len(set(self.names)) < len(self.names):
            raise UserError(f'{root}: two folders have the same name but for characters that are no text. Rename them.')
        if note := passed_over.note():
            self.notes.append(note)
        if others:
            self.notes.append(f'{others:,} files are no images by their names and were passed over.')
        if unread:
            self.notes.append(
                f'{len(unread):,} folders cannot be read and were passed over, such as {unread[0].filename} '
                f'({unread[0].strerror}).'
            )
        self.total = sum(map(len, self._files))
        if not bit_depth and _is_deep(next(path for files in self._files for path in files)):
            bit_depth, note = found_bit_depth(_deep_frames, self._files)
            self.notes.append(note)
        self.bit_depth = bit_depth

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for files in self._files:
            for path in files:
                try:
                    about = path.stat()
                    state = f'{about.st_size} {about.st_mtime_ns}'
                except OSError:  # a link that leads nowhere: its tracklet is left out as broken
                    state = 'unreadable'
                digest.update(f'{path.relative_to(self.root)} {state}\n'.encode(errors='surrogateescape'))
        return {'input': str(self.root), 'frames': digest.hexdigest(), 'bit_depth': self.bit_depth}

    def check_crops(self, save: CropWriter) -> None:
        save.check_beside(self.root, (files[0].parent for files in self._files if files), self.names)

    def events(self, done: Collection[str], advance: Callable[[int], None], save: CropWriter) -> Events:
        decoded = functools.partial(_decoded, bit_depth=self.bit_depth)
        with ThreadPoolExecutor(_DECODING_THREADS) as pool:
            for key, files in enumerate(self._files):
                name = self.names[key]
                if name in done:
                    advance(len(files))
                    continue
                self.rows[key] = Row(key, name, 0, len(files) - 1, None, None, len(files), '')
                if not files:
                    self.rows[key] = self.rows[key]._replace(
                        first_frame=-1, last_frame=-1, reason=f'{EMPTY}: its folder holds no frames'
                    )
                    yield TrackletEnd(key, drop=True)
                    continue
                for number, image in enumerate(_ahead(pool, decoded, files)):
                    advance(1)
                    if isinstance(image, str):
                        advance(len(files) - number - 1)
                        self.rows[key] = self.rows[key]._replace(reason=f'{BROKEN}: {files[number].name} {image}')
                        break
                    save(name, number, image)
                    yield TrackletFrame(key, image)
                yield TrackletEnd(key, drop=bool(self.rows[key].reason))


class VideoWithTracks(Source):
    """The tracks of a video, named STEM_TRACK after the video and the track."""

    def __init__(self, path: Path, tracks: Path, rules: CropRules, first_frame: int | None):
        super().__init__()
        self.path, self._tracks_path, self._rules = path, tracks, rules
        self.tracks = read_tracks(tracks, first_frame, path.name)
        with open_video(path):  # before anything is loaded or compiled
            pass
        self.names = [storable_text(f'{path.stem}_{name}') for name in self.tracks.names]
        if len(set(self.names)) < len(self.names):
            raise UserError(
                f'{tracks}: two tracks have the same name but for characters that are no text. Rename them.'
            )
        self.notes = list(self.tracks.notes)
        self.total = int(self.tracks.frame[-1]) + 1

    def identity(self) -> dict[str, Any]:
        about = self.path.stat()
        rules = self._rules
        return {
            'input': str(self.path),
            'video': [about.st_size, about.st_mtime_ns],
            'tracks': hashlib.sha256(self._tracks_path.read_bytes()).hexdigest(),
            'first_frame': self.tracks.first_frame,
            'crops': [rules.margin, rules.min_height, rules.min_width],
        }

    def events(self, done: Collection[str], advance: Callable[[int], None], save: CropWriter) -> Events:
        finished = {i for i, name in enumerate(self.names) if name in done}
        dropped: dict[int, Counter[str]] = {}
        with open_video(self.path) as video:
            try:
                left = self.tracks.without(sorted(finished))
                for event in stream_crops(self._counted(video, advance), left, self._rules):
                    key = event.track
                    if isinstance(event, Crop):
                        self._seen(event)
                        save(self.names[key], event.frame, event.image)
                        yield TrackletFrame(key, event.image)
                    elif not isinstance(event, Ended):
                        dropped.setdefault(key, Counter())[event.reason] += 1
                    elif key not in finished:
                        yield self._end(key, dropped.pop(key, {}))
            except VideoError as error:
                self.failure = error
            if video.damaged:
                self.notes.append(
                    f'{self.path.name}: the decoder filled in missing data in {len(video.damaged):,} frames, the first '
                    f'of them {video.damaged[0]} (counted from 0).'
                )

    @staticmethod
    def _counted(video: Video, advance: Callable[[int], None]) -> Iterator:
        for frame in video.frames():
            advance(1)
            yield frame

    def _seen(self, crop: Crop) -> None:
        row = self.rows.get(crop.track) or Row(
            crop.track, self.names[crop.track], crop.frame, 0, crop.seconds, 0.0, 0, ''
        )
        self.rows[crop.track] = row._replace(last_frame=crop.frame, end_seconds=crop.seconds, frames=row.frames + 1)

    def _end(self, key: int, dropped: dict[str, int]) -> TrackletEnd:
        why = ', '.join(f'{count:,} {reason}' for reason, count in sorted(dropped.items()))
        if key not in self.rows:
            reason = f'{EMPTY}: all its boxes are left out ({why})' if why else f'{EMPTY}: it has no boxes'
            self.rows[key] = Row(key, self.names[key], -1, -1, None, None, 0, reason)
        elif why:
            boxes = self.rows[key].frames + sum(dropped.values())
            self.rows[key] = self.rows[key]._replace(note=f'of {boxes:,} boxes are left out: {why}')
        return TrackletEnd(key, drop=bool(self.rows[key].reason))


def _deep_frames(files: list[Path]) -> Iterator[bytes]:
    """Those that may have 16 bits a sample; of the others only the beginning is read. Raises OSError."""
    for path in files:
        with open(path, 'rb') as file:
            start = file.read(START)
            if may_have_16_bits(start):
                yield start + file.read()


def _is_deep(path: Path) -> bool:
    try:
        return any(map(has_16_bits, _deep_frames([path])))
    except OSError:
        return False  # the frame is reported with the other broken ones


def _decoded(path: Path, bit_depth: int) -> np.ndarray | str:
    """The picture, or why there is none, as the end of a sentence that begins with the file's name."""
    try:
        return decode_image(path.read_bytes(), bit_depth)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f'cannot be read ({error.strerror})'


def _ahead(pool: ThreadPoolExecutor, function: Callable, values: list) -> Iterator:
    """`map` in threads that is a bounded number of values ahead."""
    waiting: deque = deque()
    rest = iter(values)
    try:
        while True:
            with contextlib.suppress(StopIteration):
                while len(waiting) < _AHEAD:
                    waiting.append(pool.submit(function, next(rest)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
