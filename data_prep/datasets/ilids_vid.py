"""Scans iLIDS-VID (Wang, ECCV 2014): `sequences/cam{1,2}/personNNN/cam1_personNNN_FFFFF.png` and the ten splits.

Of a row of `ls_set` (1-based indices into the sorted people) the first 150 are test people, as in Wang's protocol.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import no_type_check

import numpy as np
from jaxtyping import Int

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
from data_prep.issues import Issues
from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from data_prep.sources.annotations import find_annotation, read_matlab, require_annotation
from data_prep.sources.archives import FrameFiles, open_files
from data_prep.sources.system_files import skipped_files_note
from pvlad_jax.core.errors import UserError
from pvlad_jax.images import FRAME_SUFFIX

SPLITS_FILE = 'train_test_splits_ilidsvid.mat'
NAMED_SPLITS_FILE = 'splits.json'  # of torchreid, who makes it from the file above
TEST_PEOPLE = 150
PEOPLE = 300
NUMBERS = '1, 319'  # lowest and highest number of a person; there are gaps
LENGTHS = '23, 192'  # shortest and longest tracklet, frames
_PERSON = re.compile(r'person(\d{3})')
_GRAMMAR = re.compile(rf'cam([12])_person(\d{{3}})_(\d+)(?i:{FRAME_SUFFIX})')
SOURCE_HINT = (
    "It comes with iLIDS-VID in the folder 'train-test people splits'; put it there or give --info_dir. torchreid's "
    'splits.json is read as well. Or draw ten splits of your own with --draw_splits=0.'
)


def scan_ilids_vid(
    source: str | Path,
    name: str = 'ilids_vid',
    info_dir: str | Path | None = None,
    jpeg_quality: int = 0,
    draw: int | None = None,
) -> RawDataset:
    """Scans the folder or archive. What differs from the documented counts is in `issues`, `inconsistencies` and
    `checks`.

    draw: seed of splits to be drawn; None = those of the file.

    Raises UserError where no sequences or no splits are found.
    """
    files = open_files(source)
    splits = read_splits(files, info_dir) if draw is None else drawn_splits(draw)
    return check_ilids_vid(files, splits, name, jpeg_quality)


def read_splits(files: FrameFiles, info_dir: str | Path | None) -> SplitSource:
    """The data set's own table, or torchreid's list where there is no table."""
    if find_annotation(files, info_dir, SPLITS_FILE) is None:
        if named := find_annotation(files, info_dir, NAMED_SPLITS_FILE):
            return named_splits(named, NAMED_SPLITS_FILE, _PERSON, 'person001')
    table = require_annotation(files, info_dir, SPLITS_FILE, SOURCE_HINT)
    return wang_splits(read_matlab(table, SPLITS_FILE, 'ls_set'))


def check_ilids_vid(
    files: FrameFiles, source: SplitSource, name: str = 'ilids_vid', jpeg_quality: int = 0
) -> RawDataset:
    """Checks the names of the files and the splits; opens no frame."""
    tracklets, issues, others = group_sequences(files.names)
    if not tracklets:
        looked = 'sequences/cam1/personNNN/cam1_personNNN_FFFFF.png'
        raise UserError(f'No frames of iLIDS-VID ({looked}) were found. {"; ".join(issues.lines())}')
    issues.extend('Empty folders', [f for f in files.empty_folders if '/sequences/' in f'/{f}'])
    people = sorted({person for person, _ in tracklets})
    missing = [f'person{p:03d} in cam{c}' for p in people for c in (1, 2) if (p, c) not in tracklets]
    issues.extend('Sequences are missing', missing)
    splits, inconsistencies = source.halves(people, TEST_PEOPLE)
    sources = [
        tracklet(f'person{p:03d}', p, c, f'cam{c}_person{p:03d}', frames)
        for (p, c), frames in sorted(tracklets.items())
    ]
    return two_camera_dataset(
        files,
        sources,
        splits,
        source,
        jpeg_quality,
        {'halves': 'wang2014'},
        name=name,
        checks=tuple(ilids_counts(*label_columns(sources), splits)),
        notes=(*_notes(sources), *skipped_files_note([*others, *files.system_files])),
        issues=tuple(issues.lines()),
        inconsistencies=tuple(inconsistencies.lines()),
    )


def group_sequences(paths: Iterable[str]) -> tuple[Frames, Issues, list[str]]:
    """Groups the paths below `sequences`: see `group_frames`."""
    return group_frames(paths, 'sequences', _locate)


@no_type_check  # called for every frame of the data set
def _locate(parts: list[str]) -> tuple[int, int, int] | str:
    match = _GRAMMAR.fullmatch(parts[-1])
    if match is None:
        return 'Files not named camC_personNNN_FFFFF.png'
    if parts[-3:-1] != [f'cam{match[1]}', f'person{match[2]}']:
        return 'Files that do not lie in the folder of their camera and person'
    return int(match[2]), int(match[1]), int(match[3])


def wang_splits(ls_set: Int[np.ndarray, 'splits people']) -> SplitSource:
    """Those of the table `ls_set`."""
    return SplitSource(SPLITS_FILE, lambda people: _people_of(ls_set, people))


def _people_of(ls_set: Int[np.ndarray, 'splits people'], people: list[int]) -> tuple[Splits, Issues]:
    """Turns rows of indices into the people's numbers: the first 150 of a row are test people. Returns (splits,
    inconsistencies)."""
    issues = Issues()
    if ls_set.ndim != 2 or ls_set.shape[1] != PEOPLE:
        issues.add(f'ls_set of {SPLITS_FILE} has not the shape (10, {PEOPLE})', str(ls_set.shape))
        return [], issues
    for i, row in enumerate(ls_set):
        if sorted(row.tolist()) != list(range(1, PEOPLE + 1)):
            issues.add(f'Rows of ls_set that do not name each of the {PEOPLE} people once', f'row {i + 1}')
    if issues:
        return [], issues
    if len(people) != PEOPLE:
        # Indices into another list of people would name the wrong ones.
        what = f'ls_set counts {PEOPLE} people in sorted order; with others its indices name other people'
        issues.add(what, f'{len(people)} people found')
        return [], issues
    named = [[people[i - 1] for i in row] for row in ls_set.tolist()]
    return [{'train': sorted(row[TEST_PEOPLE:]), 'test': sorted(row[:TEST_PEOPLE])} for row in named], issues


def ilids_counts(people: list[int], cameras: list[int], lengths: list[int], splits: Splits) -> list[Check]:
    """All counts, expected and found, from columns of labels with one entry a tracklet."""
    numbers = sorted(set(people))
    seen = {camera: {p for p, c in zip(people, cameras) if c == camera} for camera in (1, 2)}
    return [
        Check('people', PEOPLE, len(numbers)),
        Check('lowest and highest number of a person', NUMBERS, f'{numbers[0]}, {numbers[-1]}'),
        Check('people in cam1', PEOPLE, len(seen[1])),
        Check('people in cam2', PEOPLE, len(seen[2])),
        Check('tracklets', 2 * PEOPLE, len(people)),
        Check('shortest and longest tracklet', LENGTHS, f'{min(lengths)}, {max(lengths)}'),
        *split_checks(splits, TEST_PEOPLE),
    ]


def _notes(sources: list[TrackletSource]) -> Iterable[str]:
    gaps = [s.name for s in sources if s.frame_numbers[-1] - s.frame_numbers[0] + 1 != len(s.frame_numbers)]
    if gaps:
        yield f'{len(gaps)} tracklets have gaps in their frame numbers, such as {gaps[0]}.'


recount_ilids_vid = partial(recount, ilids_counts)


def _scan(name: str, options: Options) -> RawDataset:
    check_splits_options(options)
    return scan_ilids_vid(options['source'], name, options['info_dir'], options['jpeg_quality'], options['draw_splits'])


SOURCE = DatasetSource(scan=_scan, flags=(INFO_DIR, JPEG_QUALITY, DRAW_SPLITS), recount=recount_ilids_vid)
