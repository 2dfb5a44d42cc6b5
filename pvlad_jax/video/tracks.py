"""Tracks of people in a video: which box belongs to whom in which frame. Read from the files that trackers and
annotators write.

- MOT Challenge text: frame, track, left, top, width, height, ... in a line. Frames count from 1 (from 0 where a 0
  occurs).
- COCO-style JSON (CocoVID, TAO, CVAT): the frame is `frame_id` or `frame_index` of the image, else the number in its
  `file_name`; the track `track_id` or `instance_id` of the annotation or its `attributes`; `bbox` is left, top, width,
  height. Frames count from 0, but from 1 where no image is 0 and one is 1.
- CSV with the columns `frame, track, left, top` and `width, height` or `right, bottom`. Frames count from 0 where one
  is 0, else from 1.

Coordinates are pixels of the picture as it is shown. MOT counts pixels from 1; the shift of one pixel is less than any
box is exact to, and most trackers do not add it, so nothing is subtracted.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.registry import Registry
from pvlad_jax.video.track_formats import BLANK, Boxes, read_coco, read_csv, read_mot

FORMATS = Registry('--tracks_format', {'mot': read_mot, 'coco': read_coco, 'csv': read_csv})
_MAX_NAMED = 5  # tracks in a message


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Boxes of all tracks, frame by frame.

    Attributes:
      names: of the tracks, as in the file; one without boxes is in it too.
      frame: of each box, counted from 0 as frames are shown, rising.
      track: of each box, an index into `names`.
      box: left, top, width and height in pixels; width and height above 0. May reach out of the frame.
      first_frame: what the file counts frames from, 0 or 1.
      notes: sentences about what was left out or looks wrong.
    """

    names: Sequence[str]
    frame: Int64[np.ndarray, 'N']
    track: Int64[np.ndarray, 'N']
    box: Float64[np.ndarray, 'N 4']
    first_frame: int
    notes: Sequence[str] = ()

    def last_frames(self) -> Int64[np.ndarray, 'M']:
        """The number of each track's last frame, -1 for one without boxes."""
        last = np.full(len(self.names), -1, np.int64)
        last[self.track] = self.frame  # rising, so that the last one stays
        return last

    def counts(self) -> Int64[np.ndarray, 'M']:
        """Boxes of each track."""
        return np.bincount(self.track, minlength=len(self.names))

    def without(self, tracks: Sequence[int]) -> 'Tracks':
        """The same without the boxes of these tracks, which stay among the names."""
        kept = ~np.isin(self.track, np.asarray(tracks, np.int64))
        return dataclasses.replace(self, frame=self.frame[kept], track=self.track[kept], box=self.box[kept])


def read_tracks(
    path: str | Path, first_frame: int | None = None, video_name: str = '', format: str | None = None
) -> Tracks:
    """Reads a file of tracks.

    Args:
      first_frame: the number of the video's first frame in this file, 0 or 1; None = as the table above says.
      video_name: which video of a JSON file with several, with or without its suffix.
      format: a name of FORMATS; None = by the file's content.

    Raises:
      UserError: a file that is missing, of no known format, or without a single usable box.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path} is not text ({error.reason}). Tracks are MOT Challenge text, COCO-style JSON or CSV.'
        ) from error
    except OSError as error:
        raise UserError(f'The tracks {path} cannot be read: {error.strerror}.') from error
    if not text.strip(BLANK):
        raise UserError(f'{path} is empty: it holds no tracks.')
    boxes = FORMATS[format or _format_of(text)](text, str(path), video_name)
    return _sorted(boxes, str(path), first_frame)


def _format_of(text: str) -> str:
    start = text.lstrip(BLANK)
    if start[0] in '{[':
        return 'coco'
    first = start.splitlines()[0].replace(',', ' ').replace(';', ' ').split()
    try:
        float(first[0])
    except ValueError:
        return 'csv'
    return 'mot'


def _sorted(boxes: Boxes, path: str, first_frame: int | None) -> Tracks:
    notes = list(boxes.notes)
    frame, track, box = (
        np.array(boxes.frame, np.int64),
        np.array(boxes.track, np.int64),
        np.array(boxes.box, np.float64).reshape(-1, 4),
    )
    if first_frame is None:
        first_frame = boxes.first_frame if boxes.first_frame is not None else _counted_from(frame)
    usable = np.isfinite(box).all(1) & (box[:, 2] > 0) & (box[:, 3] > 0)
    if not usable.all():
        notes.append(
            f'{int((~usable).sum()):,} boxes without a size, or with numbers that are not finite, are left out.'
        )
    before = frame < first_frame
    if (before & usable).any():
        notes.append(
            f'{int((before & usable).sum()):,} boxes are before frame {first_frame}, which the video begins with, and '
            'are left out.'
        )
    usable &= ~before
    frame, track, box = frame[usable] - first_frame, track[usable], box[usable]
    order = np.lexsort((track, frame))  # stable: of two boxes the file's first one stays first
    frame, track, box = frame[order], track[order], box[order]
    repeated = np.zeros(len(frame), bool)
    repeated[1:] = (frame[1:] == frame[:-1]) & (track[1:] == track[:-1])
    if repeated.any():
        at = int(repeated.argmax())
        notes.append(
            f'{int(repeated.sum()):,} boxes are the second of their track in one frame (such as track '
            f'{boxes.names[track[at]]!r} in frame {frame[at] + first_frame}); the first one is taken.'
        )
        frame, track, box = frame[~repeated], track[~repeated], box[~repeated]
    if not len(frame):
        raise UserError(f'{path} holds no usable box. ' + ' '.join(notes))
    notes += _jumps(boxes.names, frame, track, box, first_frame)
    return Tracks(boxes.names, frame, track, box, first_frame, tuple(notes))


def _counted_from(frame: Int64[np.ndarray, 'N']) -> int:
    return 0 if not len(frame) or frame.min() < 1 else 1


def _jumps(
    names: Sequence[str],
    frame: Int64[np.ndarray, 'N'],
    track: Int64[np.ndarray, 'N'],
    box: Float64[np.ndarray, 'N 4'],
    first_frame: int,
) -> list[str]:
    """A note of tracks whose box moves by more than its own height a frame: where a tracker went over to another
    person, mostly."""
    order = np.lexsort((frame, track))
    f, t, b = frame[order], track[order], box[order]
    centre = b[:, :2] + b[:, 2:] / 2
    moved = np.hypot(*(centre[1:] - centre[:-1]).T)
    far = (t[1:] == t[:-1]) & (moved > (f[1:] - f[:-1]) * np.maximum(b[1:, 3], b[:-1, 3]))
    if not far.any():
        return []
    places = dict(reversed([(int(t[i]), int(f[i]) + first_frame) for i in np.flatnonzero(far)]))
    named = ', '.join(f'{names[i]!r} after frame {at}' for i, at in sorted(places.items())[:_MAX_NAMED])
    more = f' and {len(places) - _MAX_NAMED} more' if len(places) > _MAX_NAMED else ''
    return [
        f'{len(places)} track{"s jump" if len(places) > 1 else " jumps"} by more than the height of a person within a '
        f'frame: {named}{more}. The tracker may have gone over to somebody else there; such a track has one embedding '
        'of two people.'
    ]
