"""Boxes of tracks -> pictures of the people in them, cut from a video's frames as these pass by."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.core.errors import UserError
from pvlad_jax.video.reader import VideoFrame
from pvlad_jax.video.tracks import Tracks

OUTSIDE, SMALL, LATE = 'outside the picture', 'smaller than the least size', 'after the last frame of the video'


@dataclasses.dataclass(frozen=True)
class CropRules:
    """How a box becomes a picture.

    Attributes:
      margin: added on each side, as a share of the box's width and height. Clipped at the border of the frame.
      min_height, min_width: pixels of the clipped crop, below which it is left out.
    """

    margin: float = 0.0
    min_height: int = 16
    min_width: int = 8

    def __post_init__(self):
        if not 0 <= self.margin <= 2:
            raise UserError(
                f'margin = {self.margin} is a share of the box, from 0 to 2; 0.1 adds a tenth on each side.'
            )
        if min(self.min_height, self.min_width) < 1:
            raise UserError(
                f'The least size of a crop, {self.min_height} x {self.min_width} pixels, must be at least 1 x 1.'
            )

    def rectangle(self, box: tuple[float, float, float, float], height: int, width: int) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) in whole pixels of a frame of this size; the bottom is above or at the top where
        nothing is left.

        Args:
          box: left, top, width, height in pixels.
        """
        x, y, w, h = (float(value) for value in box)
        if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
            return 0, 0, 0, 0  # outside, though its margin may reach into the frame: nobody is seen there
        left, right = x - self.margin * w, x + w + self.margin * w
        top, bottom = y - self.margin * h, y + h + self.margin * h
        # Clipped before it is rounded: the numbers of a damaged file may be larger than any integer.
        top, bottom = (round(min(max(value, 0.0), height)) for value in (top, bottom))
        left, right = (round(min(max(value, 0.0), width)) for value in (left, right))
        return top, bottom, left, right


class Crop(NamedTuple):
    """A person in one frame. `track` is an index into the names of the tracks; seconds are those of the frame."""

    track: int
    frame: int
    seconds: float
    image: UInt8[np.ndarray, 'h w 3']


class Dropped(NamedTuple):
    """A box that gives no crop, and why: OUTSIDE, SMALL or LATE."""

    track: int
    frame: int
    reason: str


class Ended(NamedTuple):
    """No further box of this track will come."""

    track: int


def stream_crops(frames: Iterable[VideoFrame], tracks: Tracks, rules: CropRules) -> Iterator[Crop | Dropped | Ended]:
    """Every box once, in the order of the frames, as a crop or as dropped; and each track's end as soon as it is known.

    One frame is in memory at a time. Crops are copies, which may be kept while the frame goes. Frames without boxes
    are not even converted to RGB. Where the video ends before a track, boxes beyond it are dropped as LATE, also when
    `frames` raises (it is then raised again once every track has ended).
    """
    last = tracks.last_frames()
    for empty in np.flatnonzero(last < 0):
        yield Ended(int(empty))
    at, failure = 0, None
    try:
        for frame in frames:
            end = at + int(np.searchsorted(tracks.frame[at:], frame.number, side='right'))
            image = frame.image() if end > at else None
            for i in range(at, end):
                track = int(tracks.track[i])
                top, bottom, left, right = rules.rectangle(tuple(tracks.box[i]), *image.shape[:2])
                if bottom <= top or right <= left:
                    yield Dropped(track, frame.number, OUTSIDE)
                elif bottom - top < rules.min_height or right - left < rules.min_width:
                    yield Dropped(track, frame.number, SMALL)
                else:
                    yield Crop(track, frame.number, frame.seconds, image[top:bottom, left:right].copy())
                if last[track] == frame.number:
                    yield Ended(track)
            at = end
            if at == len(tracks.frame):
                return  # no track is asked for in the rest of the video
    except UserError as error:
        failure = error
    for i in range(at, len(tracks.frame)):
        track, number = int(tracks.track[i]), int(tracks.frame[i])
        yield Dropped(track, number, LATE)
        if last[track] == number:
            yield Ended(track)
    if failure is not None:
        raise failure
