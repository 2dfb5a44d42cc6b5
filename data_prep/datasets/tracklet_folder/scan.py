"""Scans {train,query,gallery}/PERSON/CAMERA/TRACKLET/frames, the layout for any own tracklets."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from data_prep.datasets.dataset_source import DatasetSource, Flag, Options
from data_prep.datasets.tracklet_folder.role_folders import (
    ROLES,
    TEST_ROLES,
    TrackletKey,
    find_root,
    group_paths,
    outside_note,
    refuse_issues,
)
from data_prep.issues import shortened
from data_prep.raw_dataset import RawDataset, TrackletSource
from data_prep.sources.archives import FrameFiles, open_files, read_files
from data_prep.sources.camera_numbers import camera_notes, given_numbers, number_cameras
from data_prep.sources.frame_order import frame_pattern, order_frames
from data_prep.sources.person_numbers import number_people, person_notes
from data_prep.sources.system_files import skipped_files_note
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import JUNK, UNKNOWN_CAMERA
from pvlad_jax.images import JPEG_EXTENSIONS, ImageError, read_header

_RULES_KEPT = 20  # of the frame order, in the metadata
_TAKEN_SHOWN = 3  # kinds of names in the note on the frame order
_NO_TRAIN = 'There is no train: networks can be tested on these people (docs/transfer.md), and none trained.'
_HOW_TO_ORDER = (
    '\nRename the files, or say which number of their names is the frame number: '
    "--frame_pattern='frame_(?P<frame>\\d+)' takes what the group frame holds."
)


def scan_tracklet_folder(
    source: str | Path,
    name: str = 'tracklet_folder',
    pattern: str = '',
    cameras: Mapping[str, int] | None = None,
    built_cameras: Mapping[str, int] | None = None,
) -> RawDataset:
    """Scans a folder, or a zip or tar of it.

    Arguments:
      source: What holds train, query and gallery, directly or below other folders.
      name: Of the data set.
      pattern: A regular expression whose group `frame` is the frame number; '' = it is found (sources/frame_order.py).
      cameras: Camera folder -> number, -1 = unknown, where they are not to be read from the names
        (sources/camera_numbers.py).
      built_cameras: The same of a data set that was built before, for folders that `cameras` does not name; they need
        not be there any more.
    Raises UserError: missing source, other layout, empty folders, frames without a number or two with the same, fewer
      than two people in train, where there is one.
    """
    compiled = frame_pattern(pattern) if pattern else None
    files = open_files(source)
    root = find_root(files, str(source))
    tracklets, others, issues = group_paths(files.names, files.empty_folders, root)
    frames = order_frames(tracklets, compiled)
    refuse_issues(str(source), issues + frames.issues, _HOW_TO_ORDER if frames.issues else '')
    in_test = {key.camera for key in tracklets if key.role != 'train'}
    folders = {key.camera for key in tracklets}
    built = {folder: number for folder, number in (built_cameras or {}).items() if folder in folders}
    numbered = number_cameras(folders, in_test, built | dict(cameras or {}))
    roles: dict[str, set[str]] = {}
    for key in tracklets:
        roles.setdefault(key.person, set()).add(key.role)
    people = number_people(roles)
    has_train = any(
        name.startswith(f'{root}train/') for name in (*files.names, *(f'{f}/' for f in files.empty_folders))
    )
    splits: dict[str, list[TrackletSource]] = {role: [] for role in (ROLES if has_train else TEST_ROLES)}
    left_out = []
    for key in tracklets:
        if people[key.person] == JUNK and key.role != 'gallery':
            left_out.append(key.name)
        else:
            splits[key.role].append(_tracklet(key, people[key.person], numbered.numbers[key.camera], frames.order[key]))
    _require_people(source, splits, junk=bool(left_out))
    notes = [
        *([f'The data set was found in {root.rstrip("/")}.'] if root else []),
        *([] if has_train else [_NO_TRAIN]),
        *person_notes(people),
        *([f'Junk in train and query is left out: {shortened(left_out)}.'] if left_out else []),
        *camera_notes(numbered),
        *_taken_note(frames.taken),
        *frames.notes,
        *_notes(splits),
        *outside_note(files.names, root),
        *skipped_files_note([*others, *files.system_files]),
    ]
    return RawDataset(
        name=name,
        splits=splits,
        read_frames=partial(read_files, files),
        encoding=_encoding(files, [s.frames[0] for sources in splits.values() for s in sources]),
        layout='roles',
        metadata={'cameras': numbered.numbers, 'frame_order': frames.rules[:_RULES_KEPT]},
        notes=tuple(notes),
    )


def _require_people(source: str | Path, splits: Mapping[str, list[TrackletSource]], junk: bool) -> None:
    """UserError for a split without tracklets, or a train that nothing can be learned from."""
    if missing := [role for role in splits if not splits[role]]:
        raise UserError(f'{source} has no tracklets in {", ".join(missing)}{" but junk" if junk else ""}.')
    trained = {s.person for s in splits.get('train', [])}
    if 'train' in splits and len(trained) < 2:
        raise UserError(
            f'{source}/train has one person only ({trained.pop()}). Learning to distinguish people takes at least two.'
        )


def _taken_note(taken: list[str]) -> Iterator[str]:
    if taken:
        more = f'; and so on for {len(taken) - _TAKEN_SHOWN} more kinds of names' if len(taken) > _TAKEN_SHOWN else ''
        yield f'Frames: ordered by {"; by ".join(taken[:_TAKEN_SHOWN])}{more}. --frame_pattern chooses another number.'


def _encoding(files: FrameFiles, names: list[str]) -> str:
    """What the frames will be stored as, by the names' suffixes and the first frame's content; the build finds out."""
    if len({name.lower().endswith(JPEG_EXTENSIONS) for name in names}) > 1:
        return 'mixed'
    try:
        return 'jpeg' if read_header(files.read(names[0])).format == 'jpeg' else 'png'
    except (ImageError, OSError):
        # The builder reports this frame together with the other bad ones.
        return 'jpeg' if names[0].lower().endswith(JPEG_EXTENSIONS) else 'png'


def _tracklet(key: TrackletKey, person: int, camera: int, frames: list[tuple[int, str]]) -> TrackletSource:
    return TrackletSource(
        name=key.name,
        person=key.person,
        person_id=person,
        camera_id=camera,
        frame_numbers=tuple(number for number, _ in frames),
        frames=tuple(path for _, path in frames),
    )


def _notes(splits: dict[str, list[TrackletSource]]) -> Iterable[str]:
    counts = Counter(s.person for s in splits.get('train', []))
    if single := [p for p, n in counts.items() if n == 1]:
        yield f'{len(single)} people of train have one tracklet: {shortened(single)}.'
    if both := sorted(counts.keys() & {s.person for s in splits['query']}):
        yield (
            f'{len(both)} people of query are in train too: {shortened(both)}. A run is refused, unless '
            '--config.evaluation.trained_people=accept; its results then say so.'
        )
    seen: dict[str, list[TrackletSource]] = {}
    for s in (*splits['gallery'], *splits['query']):
        seen.setdefault(s.person, []).append(s)
    alone = [q.name for q in splits['query'] if not any(_can_match(q, s) for s in seen[q.person])]
    if alone:
        yield f'{len(alone)} queries have no tracklet of another camera in gallery or query: {shortened(alone)}.'


def _can_match(query: TrackletSource, other: TrackletSource) -> bool:
    unknown = UNKNOWN_CAMERA in (query.camera_id, other.camera_id)
    return other.name != query.name and (unknown or other.camera_id != query.camera_id)


def _scan(name: str, options: Options) -> RawDataset:
    numbers = options['camera_numbers']
    given, built = (given_numbers(numbers), None) if isinstance(numbers, str) else (None, numbers)
    return scan_tracklet_folder(options['source'], name, options['frame_pattern'], given, built)


SOURCE = DatasetSource(
    scan=_scan,
    flags=(
        Flag(
            'frame_pattern',
            str,
            '',
            r"a regular expression that finds the frame number in a file's name, in its group frame, such as "
            r"'frame_(?P<frame>\d+)'; empty = the number is found by itself.",
        ),
        Flag(
            'camera_numbers',
            str,
            '',
            "numbers of camera folders, such as 'c0=unknown,entrance=3'; empty = by their names.",
        ),
    ),
)
