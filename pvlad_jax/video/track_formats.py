"""The three formats of tracks, each read into the same lists."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from pvlad_jax.core.errors import UserError

_NUMBER = re.compile(r'\d+')
# What a row without content holds, as spreadsheets write it, and all that ends a line for `str.splitlines`.
BLANK = ' ,;\t\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029'
_NO_TRACK = ('', '-1', '-1.0')  # in a CSV file: a box that a tracker gave to nobody
_DETECTIONS = (
    'these are detections and not tracks. Run a tracker over them first: an embedding is of one person over many '
    'frames.'
)
_MAX_NUMBER = 2**53  # of a frame: below it floats hold every whole number
_ROUNDING = 1.5  # pixels by which a box's corners and size may differ: some count the last pixel, and some round
# Column names of CSV files, in the order in which they are looked for.
_COLUMNS = {
    'frame': ('frame', 'frame_id', 'frame_index', 'frame_number'),
    'track': ('track', 'track_id', 'id', 'instance_id'),
    'left': ('left', 'bb_left', 'x1', 'xmin', 'x'),
    'top': ('top', 'bb_top', 'y1', 'ymin', 'y'),
    'width': ('width', 'bb_width', 'w'),
    'height': ('height', 'bb_height', 'h'),
    'right': ('right', 'x2', 'xmax'),
    'bottom': ('bottom', 'y2', 'ymax'),
}


@dataclasses.dataclass
class Boxes:
    """What a file says, unchecked: one entry a box, in lists or arrays.

    `first_frame` is None where the format leaves open what frames are counted from.
    """

    names: list[str] = dataclasses.field(default_factory=list)
    frame: Sequence[int] | np.ndarray = dataclasses.field(default_factory=list)
    track: Sequence[int] | np.ndarray = dataclasses.field(default_factory=list)
    box: Sequence[tuple[float, float, float, float]] | np.ndarray = dataclasses.field(default_factory=list)
    first_frame: int | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    _index: dict[str, int] = dataclasses.field(default_factory=dict)

    def index(self, name: str) -> int:
        """The index of a track, which is new or known."""
        if name not in self._index:
            self._index[name] = len(self.names)
            self.names.append(name)
        return self._index[name]

    def add(self, name: str, frame: int, box: tuple[float, float, float, float]) -> None:
        self.track.append(self.index(name))
        self.frame.append(frame)
        self.box.append(box)


def read_mot(text: str, path: str, video_name: str = '') -> Boxes:
    """MOT Challenge: frame, id, left, top, width, height[, confidence, ...], by commas or blanks
    (motchallenge.net/instructions).

    Lines of nine columns are its annotations (MOT16 and later), whose seventh says whether a box counts.
    """
    try:
        rows = np.loadtxt(io.StringIO(text), delimiter=',' if ',' in text else None, ndmin=2)
        columns = np.full(len(rows), rows.shape[1])
        alike = rows.shape[1] >= 6 and (rows[:, :2] == np.round(rows[:, :2])).all()
        alike = alike and (np.abs(rows[:, :2]) < _MAX_NUMBER).all()
    except ValueError:  # some line is not like the others: which one?
        alike = False
    if not alike:
        rows, columns = _rows_one_by_one(text, path)
    frame, track = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    if (track < 0).any():
        raise UserError(f'{path}: box {int((track < 0).argmax()) + 1} has id {track[track < 0][0]}, so {_DETECTIONS}')
    notes = []
    annotations = columns == 9  # each line by itself: files that were put together may have both
    if annotations.any() and (ignored := annotations & (rows[:, 6] == 0)).any():
        notes.append(f'{int(ignored.sum()):,} boxes are marked as not to be considered (column 7 is 0) and left out.')
        frame, track, rows = frame[~ignored], track[~ignored], rows[~ignored]
    ids, first, index = np.unique(track, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))  # names in the order in which they first occur
    names = [str(ids[i]) for i in np.argsort(first)]
    return Boxes(names, frame, place[index.reshape(-1)], rows[:, 2:6], notes=notes)


def _mot_fields(line: str) -> list[str]:
    """Of a line by commas, with or without blanks around them, or by blanks. Nothing between two commas is a field too,
    or those behind it would take each other's places; by blanks, a decimal comma stays where it is.
    """
    by_blanks = line.split()
    if ',' not in line or (len(by_blanks) > 1 and not any(f.startswith(',') or f.endswith(',') for f in by_blanks)):
        return by_blanks
    return [field.strip() for field in line.strip().removesuffix(',').split(',')] if line.strip(BLANK) else []


def _rows_one_by_one(text: str, path: str) -> tuple[Float64[np.ndarray, 'N 7'], Int64[np.ndarray, 'N']]:
    """The first seven columns, NaN where there is none, of lines that may have different numbers of them; and how many
    each has. UserError that names the line that is wrong."""
    rows, columns = [], []
    for number, line in enumerate(text.splitlines(), 1):
        fields = _mot_fields(line.partition('#')[0])
        if not fields:
            continue
        try:
            values = [float(f or 'nan' if place > 5 else f) for place, f in enumerate(fields[:10])]
            _whole(values[0]), _whole(values[1])
            rows.append([*values, np.nan][:7])
            columns.append(max(place for place, field in enumerate(fields, 1) if field))  # MOT16's are all filled
        except (ValueError, IndexError, OverflowError):
            values = []
        if len(values) < 6:
            raise UserError(
                f'{path}, line {number}: {line[:80]!r} is not "frame, id, left, top, width, height, ..." in numbers '
                f'(MOT Challenge){_why_not(fields)}. A CSV file needs a line of column names.'
            )
    return np.array(rows, np.float64).reshape(-1, 7), np.array(columns, np.int64)


def _why_not(fields: list[str]) -> str:
    if '' in fields[:6]:
        return f': field {fields.index("") + 1} is empty'
    return ': decimals have a point, not a comma' if any(',' in field for field in fields) else ''


def read_csv(text: str, path: str, video_name: str = '') -> Boxes:
    """CSV by commas, semicolons or tabs, with the columns frame, track, left, top and width, height or right,
    bottom."""
    lines = list(io.StringIO(text))  # cells may hold what `str.splitlines` takes for the end of a line
    first = next(i for i, line in enumerate(lines) if line.strip(BLANK))
    separator = max(',;\t', key=lines[first].count)
    rows = _csv_rows(lines[first:], separator, path)
    header = [name.strip().lower() for name in next(rows)]
    places = {
        field: next((header.index(name) for name in names if name in header), None) for field, names in _COLUMNS.items()
    }
    corners = places['width'] is None or places['height'] is None
    both = not corners and places['right'] is not None and places['bottom'] is not None
    needed = ['frame', 'track', 'left', 'top', *(('right', 'bottom') if corners else ('width', 'height'))]
    missing = [field for field in needed if places[field] is None]
    if missing:
        raise UserError(
            f'{path} has no column {", ".join(missing)}; its columns are {", ".join(header)[:200]}. Needed are frame, '
            'track, left, top, and width, height or right, bottom.'
        )
    boxes, detections = Boxes(), 0
    for number, row in enumerate(rows, first + 2):
        if not any(map(str.strip, row)):
            continue
        try:
            frame = _whole(float(row[places['frame']]))
            left, top, third, fourth = (float(row[places[field]]) for field in needed[2:])
            track = row[places['track']].strip()
            ends = [float(row[places[field]]) for field in ('right', 'bottom')] if both else []
        except (ValueError, IndexError, OverflowError) as error:
            raise UserError(
                f'{path}, line {number}: {separator.join(row)[:80]!r} does not hold numbers in the columns '
                f'{", ".join(field for field in needed if field != "track")}.'
            ) from error
        if both and max(abs(ends[0] - left - third), abs(ends[1] - top - fourth)) > _ROUNDING:
            raise UserError(
                f'{path}, line {number}: width and height are {third:g} x {fourth:g}, but the box from left, top to '
                f'right, bottom is {ends[0] - left:g} x {ends[1] - top:g}. They may be those of the picture: leave out '
                'the columns that are not of the box.'
            )
        if track in _NO_TRACK:
            detections += 1
            continue
        boxes.add(track, frame, (left, top, third - left, fourth - top) if corners else (left, top, third, fourth))
    if detections and not boxes.names:
        raise UserError(f'{path}: no box has a track, so {_DETECTIONS}')
    if detections:
        boxes.notes.append(f'{detections:,} boxes without a track (empty or -1) are left out.')
    return boxes


def _csv_rows(lines: Sequence[str], separator: str, path: str) -> Iterator[list[str]]:
    rows = csv.reader(lines, delimiter=separator)
    try:
        yield from rows
    except csv.Error as error:  # such as a quotation mark that is not closed, so that one field has all the rest
        raise UserError(f'{path}: row {rows.line_num} is not valid CSV ({error}).') from error


def read_coco(text: str, path: str, video_name: str = '') -> Boxes:
    """COCO-style JSON: `images`, `annotations` with a track of each box; `videos` where there are several, `tracks`
    where there are any."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is not valid JSON ({error}). It may be truncated: write it again.') from error
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ('images', 'annotations')
    ):
        raise UserError(
            f'{path} has no lists "images" and "annotations", so it is no COCO-style file. A list of detections alone '
            'has neither frames nor tracks.'
        )
    video = _video_of(content, path, video_name)
    boxes = Boxes()
    try:
        every = {image['id']: _frame_of(image, path) for image in content['images']}
        images = {
            image['id']: every[image['id']]
            for image in content['images']
            if video in (None, image.get('video_id', video))
        }
        for track in content.get('tracks') or ():
            if video in (None, track.get('video_id', video)):
                boxes.index(str(track['id']))
        without = 0
        for annotation in content['annotations']:
            if annotation['image_id'] not in images:
                continue
            name = _track_of(annotation)
            if name is None:
                without += 1
                continue
            left, top, width, height = map(float, annotation['bbox'])
            boxes.add(name, images[annotation['image_id']], (left, top, width, height))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f'{path}: an image or annotation is not as COCO has it ({type(error).__name__}: {error}). Images have "id" '
            'and "frame_id"; annotations "image_id", "track_id" and "bbox": [left, top, width, height].'
        ) from error
    if without:
        boxes.notes.append(f'{without:,} annotations have no "track_id" and are left out.')
    numbers = set(every.values())  # all videos of a file are counted alike
    boxes.first_frame = 0 if 0 in numbers or 1 not in numbers else 1
    return boxes


def _video_of(content: Mapping[str, Any], path: str, video_name: str) -> Any:
    """The id of the video that is meant; None where the file does not tell videos apart."""
    videos = content.get('videos') or []
    try:
        ids = {image['video_id'] for image in content['images'] if 'video_id' in image}
        names = {video['id']: str(video.get('name') or video.get('file_name') or video['id']) for video in videos}
    except (KeyError, TypeError) as error:
        raise UserError(
            f'{path}: "videos" or "images" is not as COCO has it ({type(error).__name__}: {error}).'
        ) from error
    if len(ids | names.keys()) < 2:
        return None
    stem = _stem(video_name)
    found = [key for key, name in names.items() if stem and stem in (_stem(name), name)]
    if len(found) != 1:
        raise UserError(
            f'{path} holds {len(ids | names.keys())} videos, {len(found)} of them named {video_name!r}: '
            f'{", ".join(sorted(names.values())[:5])}. Give the video file the name of one of them.'
        )
    return found[0]


def _stem(name: str) -> str:
    name = name.replace('\\', '/').rstrip('/').rpartition('/')[2]
    return name.rpartition('.')[0] or name


def _frame_of(image: Mapping[str, Any], path: str) -> int:
    for key in ('frame_id', 'frame_index'):
        if image.get(key) is not None:
            return _whole(float(image[key]))
    numbers = _NUMBER.findall(_stem(str(image.get('file_name', ''))))
    if not numbers:
        raise UserError(f'{path}: image {image.get("id")!r} has neither "frame_id" nor a number in its "file_name".')
    return _whole(int(numbers[-1]))


def _track_of(annotation: Mapping[str, Any]) -> str | None:
    attributes = annotation.get('attributes') or {}
    for source in (annotation, attributes):
        for key in ('track_id', 'instance_id'):
            value = source.get(key)
            if value is not None and value != -1:
                return str(value)
    return None


def _whole(value: float) -> int:
    if value != int(value) or abs(value) >= _MAX_NUMBER:
        raise ValueError(f'{value} is not the number of a frame or track')
    return int(value)
