"""Scans PRID 2011 (Hirzer 2011), multi_shot: `multi_shot/cam_{a,b}/person_NNNN/FFFF.png`, and the ten splits.

Of the 200 people whom both cameras saw, the 178 with at least 27 frames in each are used, as is usual with video.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import no_type_check

from data_prep.datasets.dataset_source import INFO_DIR, JPEG_QUALITY, DatasetSource, Options
from data_prep.datasets.people_splits import (
    DRAW_SPLITS,
    Splits,
    SplitSource,
    check_splits_options,
    drawn_splits,
    named_splits,
    split_checks,
)
from data_prep.datasets.two_cameras import Frames, group_frames, label_columns, recount, tracklet, two_camera_dataset
from data_prep.issues import Issues, shortened
from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from data_prep.sources.annotations import require_annotation
from data_prep.sources.archives import FrameFiles, open_files
from data_prep.sources.system_files import skipped_files_note
from pvlad_jax.core.errors import UserError
from pvlad_jax.images import FRAME_SUFFIX

SPLITS_FILE = 'splits_prid2011.json'
SHARED_PEOPLE = 200  # people 1 to 200 are the same in both cameras
MIN_FRAMES = 27
NOT_USED = (6, 19, 31, 52, 57, 62, 71, 94, 106, 120, 136, 138, 139, 142, 145, 158, 159, 166, 183, 190, 199, 200)
TEST_PEOPLE = 89
_CAMERAS = {'cam_a': 1, 'cam_b': 2}
_PERSON = re.compile(r'person_(\d{4})')
_FRAME = re.compile(rf'(\d+)(?i:{FRAME_SUFFIX})')
SOURCE_HINT = (
    'PRID 2011 has no official splits; this file holds ten, each {"train": [89 of "person_0001"...], "test": [89]}, '
    'and circulates with video re-identification code (deep-person-reid, AP3D). Put it next to multi_shot/ or give '
    '--info_dir; or draw ten of your own with --draw_splits=0.'
)


def scan_prid2011(
    source: str | Path,
    name: str = 'prid2011',
    info_dir: str | Path | None = None,
    jpeg_quality: int = 0,
    draw: int | None = None,
) -> RawDataset:
    """Scans the folder or archive; only the 178 people are kept. What differs stands in `issues`, `inconsistencies` and
    `checks`.

    draw: seed of splits to be drawn; None = those of the file.

    Raises UserError where no multi_shot frames or no splits are found.
    """
    files = open_files(source)
    if draw is not None:
        return check_prid2011(files, drawn_splits(draw), name, jpeg_quality)
    content = require_annotation(files, info_dir, SPLITS_FILE, SOURCE_HINT)
    return check_prid2011(files, read_splits(content), name, jpeg_quality)


def read_splits(content: bytes) -> SplitSource:
    """Those of `splits_prid2011.json`."""
    return named_splits(content, SPLITS_FILE, _PERSON, 'person_0001')


def check_prid2011(files: FrameFiles, source: SplitSource, name: str = 'prid2011', jpeg_quality: int = 0) -> RawDataset:
    """Checks the names of the files and the splits; opens no frame."""
    tracklets, issues, others = group_multi_shot(files.names)
    if not tracklets:
        looked = 'multi_shot/cam_a/person_NNNN/FFFF.png'
        raise UserError(f'No frames of PRID 2011 ({looked}) were found. {"; ".join(issues.lines())}')
    issues.extend('Empty folders', [f for f in files.empty_folders if '/multi_shot/' in f'/{f}'])
    seen = {camera: {p for p, c in tracklets if c == camera} for camera in (1, 2)}
    shared = set(range(1, SHARED_PEOPLE + 1))
    enough = {p for p in shared if all(len(tracklets.get((p, c), ())) >= MIN_FRAMES for c in (1, 2))}
    used = shared - set(NOT_USED)
    too_few, too_many = ([f'person_{p:04d}' for p in sorted(people)] for people in (used - enough, enough - used))
    issues.extend(f'People with under {MIN_FRAMES} frames in a camera', too_few)
    issues.extend('People with enough frames who are known to have fewer', too_many)
    splits, inconsistencies = source.halves(sorted(used), TEST_PEOPLE)
    kept = sorted(enough & used)
    if len(kept) < len(used):  # a partial data set: the splits name only people who are there
        splits = [{half: [p for p in ids if p in enough] for half, ids in split.items()} for split in splits]
    names = {1: 'cam_a', 2: 'cam_b'}
    sources = [
        tracklet(f'person_{p:04d}', p, c, f'{names[c]}/person_{p:04d}', tracklets[p, c]) for p in kept for c in (1, 2)
    ]
    people_found = [
        Check('people in cam_a', 385, len(seen[1])),
        Check('people in cam_b', 749, len(seen[2])),
        Check(f'of the first {SHARED_PEOPLE}, people in both cameras', SHARED_PEOPLE, len(shared & seen[1] & seen[2])),
    ]
    return two_camera_dataset(
        files,
        sources,
        splits,
        source,
        jpeg_quality,
        {},
        name=name,
        checks=(*people_found, *prid_counts(*label_columns(sources), splits)),
        notes=(*_notes(sources, len(tracklets)), *skipped_files_note([*others, *files.system_files])),
        issues=tuple(issues.lines()),
        inconsistencies=tuple(inconsistencies.lines()),
    )


def group_multi_shot(paths: Iterable[str]) -> tuple[Frames, Issues, list[str]]:
    """Groups the paths below `multi_shot`: see `group_frames`."""
    return group_frames(paths, 'multi_shot', _locate)


@no_type_check  # called for every frame of the data set
def _locate(parts: list[str]) -> tuple[int, int, int] | str:
    person, frame = _PERSON.fullmatch(parts[-2]), _FRAME.fullmatch(parts[-1])
    camera = _CAMERAS.get(parts[-3]) if len(parts) > 2 else None
    if person is None or frame is None or camera is None:
        return 'Files not named cam_{a,b}/person_NNNN/FFFF.png'
    return int(person[1]), camera, int(frame[1])


def prid_counts(people: list[int], cameras: list[int], lengths: list[int], splits: Splits) -> list[Check]:
    """The counts of the 178 people, from columns of labels with one entry a tracklet."""
    return [
        Check('people used', 178, len(set(people))),
        Check('people used who should not be', 0, len(set(people) & set(NOT_USED))),
        Check('tracklets', 356, len(people)),
        Check('tracklets in cam_a, cam_b', '178, 178', f'{cameras.count(1)}, {cameras.count(2)}'),
        Check(f'tracklets under {MIN_FRAMES} frames', 0, sum(n < MIN_FRAMES for n in lengths)),
        *split_checks(splits, TEST_PEOPLE),
    ]


def _notes(sources: list[TrackletSource], found: int) -> Iterable[str]:
    yield f'{found - len(sources):,} tracklets of other people are not part of the video protocol and are left out.'
    if gaps := [s.name for s in sources if s.frame_numbers != tuple(range(1, len(s.frame_numbers) + 1))]:
        yield f'{len(gaps)} tracklets have gaps in their frame numbers: {shortened(gaps)}.'


recount_prid2011 = partial(recount, prid_counts)


def _scan(name: str, options: Options) -> RawDataset:
    check_splits_options(options)
    return scan_prid2011(options['source'], name, options['info_dir'], options['jpeg_quality'], options['draw_splits'])


SOURCE = DatasetSource(scan=_scan, flags=(INFO_DIR, JPEG_QUALITY, DRAW_SPLITS), recount=recount_prid2011)
