"""Scans MARS (Zheng 2016): bbox_train, bbox_test and the official tables.

The source may be the folder that holds them, with any folders above or doubled ones, or the archives as they are
downloaded.
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int

from data_prep.datasets.dataset_source import INFO_DIR, DatasetSource, Options
from data_prep.datasets.mars.counts import Labels, mars_checks
from data_prep.datasets.mars.names import SPLITS, frame_number, person_name, split_paths
from data_prep.datasets.mars.tables import Row, SplitReport, compare_split, misplaced_people
from data_prep.issues import Issues
from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from data_prep.sources.annotations import find_annotation, read_lines, read_matlab, require_annotation
from data_prep.sources.archives import FrameFiles, open_files, read_files
from data_prep.sources.system_files import skipped_files_note
from pvlad_jax.core.errors import UserError

FRAME_SIZE = (128, 256)  # pixels, width and height of every frame
SOURCE_HINT = (
    'It comes with MARS in the folder info/ (MARS-evaluation/info on GitHub); put it there or give --info_dir.'
)


def scan_mars(source: str | Path, name: str = 'mars', info_dir: str | Path | None = None) -> RawDataset:
    """Scans MARS. What differs from the official tables and counts is in `issues`, `inconsistencies` and `checks`: see
    `require_complete`.

    Raises UserError where no MARS folders or tables are found at all.
    """
    files = open_files(source)
    return check_mars(
        files,
        {s: _table_of_tracklets(files, info_dir, s) for s in SPLITS},
        require_matlab(files, info_dir, 'query_IDX.mat', 'query_IDX').ravel(),
        {s: _name_list(files, info_dir, f'{s}_name.txt') for s in SPLITS},
        name,
    )


def check_mars(
    files: FrameFiles,
    tables: dict[str, np.ndarray],
    query_idx: np.ndarray,
    lists: dict[str, list[str] | None],
    name: str = 'mars',
) -> RawDataset:
    """Compares the names of the files with the official tables; opens no frame.

    Arguments:
      files: Anything with `names`, `empty_folders`, `system_files` and `read`.
      tables: Split -> (rows, 4): first and last line, person, camera.
      query_idx: 1-based rows of the test table.
      lists: Split -> official name list, or None: it is rebuilt.
    """
    found, issues, others = split_paths(files.names)
    if not any(found.values()):
        raise UserError(
            'No MARS frames (bbox_train/PERSON/PERSON C# T#### F###.jpg) were found. '
            f'{"; ".join(issues.lines())}'.strip()
        )
    issues.extend(
        'Empty folders',
        [f for f in files.empty_folders if '/' in f and f.split('/')[-2] in ('bbox_train', 'bbox_test')],
    )
    misplaced, swapped = misplaced_people(found, tables)
    if swapped:
        reports = {s: SplitReport([], Issues(), swapped) for s in SPLITS}
    else:
        reports = {s: compare_split(s, found[s], tables[s], lists[s]) for s in SPLITS}
    inconsistencies = list(dict.fromkeys(line for s in SPLITS for line in reports[s].inconsistencies.lines()))
    wrong_rows = [str(i) for i in query_idx.tolist() if not 1 <= i <= len(tables['test'])]
    if wrong_rows:
        inconsistencies.append(
            f'query_IDX.mat names rows that tracks_test_info.mat has not: {", ".join(wrong_rows[:8])}'
        )
    rows, query_rows = _present(reports['test'].rows, [] if wrong_rows else (query_idx - 1).tolist())
    train_rows, _ = _present(reports['train'].rows, [])
    checks = tuple(mars_checks(_labels(train_rows), _labels(rows), np.array(query_rows, dtype=np.int64)))
    if not inconsistencies:
        inconsistencies += _wrong_queries(checks, reports, whole=len(query_rows) == len(query_idx))
    absences = issues.lines() + misplaced.lines() + [line for s in SPLITS for line in reports[s].absent.lines()]
    return RawDataset(
        name=name,
        splits={'train': _sources(train_rows, found['train']), 'test': _sources(rows, found['test'])},
        read_frames=partial(read_files, files),
        encoding='jpeg',
        layout='query_rows',
        metadata={'query_rows': query_rows},
        checks=checks,
        issues=tuple(dict.fromkeys(absences)),
        inconsistencies=tuple(inconsistencies),
        frame_size=FRAME_SIZE,
        notes=(
            *(f'{s}_name.txt was not there and was rebuilt from the files.' for s in SPLITS if lists[s] is None),
            *skipped_files_note([*others, *files.system_files]),
        ),
    )


def recount_mars(tables: dict[str, dict[str, np.ndarray]], metadata: dict) -> list[Check]:
    """The counts of a data set that was built, from its tables (split -> columns of tracklets_SPLIT.npz)."""
    labels = {s: Labels(t['person_id'], t['camera_id'], t['n_frames']) for s, t in tables.items()}
    return mars_checks(labels['train'], labels['test'], np.array(metadata['query_rows'], dtype=np.int64))


def require_matlab(files: FrameFiles, info_dir: str | Path | None, name: str, key: str) -> np.ndarray:
    return read_matlab(require_annotation(files, info_dir, name, SOURCE_HINT), name, key)


def _name_list(files: FrameFiles, info_dir: str | Path | None, name: str) -> list[str] | None:
    content = find_annotation(files, info_dir, name)
    return None if content is None else read_lines(name, content)


def _table_of_tracklets(files: FrameFiles, info_dir: str | Path | None, split: str) -> Int[np.ndarray, 'rows 4']:
    name = f'tracks_{split}_info.mat'
    table = require_matlab(files, info_dir, name, f'track_{split}_info')
    if table.ndim != 2 or table.shape[1] != 4 or not len(table):
        raise UserError(f'{name} has not the shape (tracklets, 4) but {table.shape}. {SOURCE_HINT}')
    return table


def _present(rows: list[Row], query_rows: list[int]) -> tuple[list[Row], list[int]]:
    """Drops tracklets without any frame and renumbers the queries."""
    kept = [i for i, row in enumerate(rows) if row.names]
    place = {i: k for k, i in enumerate(kept)}
    return [rows[i] for i in kept], [place[i] for i in query_rows if i in place]


def _labels(rows: list[Row]) -> Labels:
    columns = zip(*((r.person, r.camera, len(r.names)) for r in rows)) if rows else ((), (), ())
    return Labels(*(np.array(c, dtype=np.int64) for c in columns))


def _wrong_queries(checks: tuple[Check, ...], reports: dict[str, SplitReport], whole: bool) -> list[str]:
    """A query list that breaks its own law, while nothing is absent that could be the reason."""
    laws = ('queries that are junk or distractors', 'people and cameras with other than one query')
    broken = [c for c in checks if c.name in laws and not c.holds]
    if not broken or not whole or reports['test'].absent:
        return []
    return [
        'query_IDX.mat is not the official one: ' + '; '.join(f'{c.name}: {c.found}, not {c.expected}' for c in broken)
    ]


def _sources(rows: list[Row], paths: dict[str, str]) -> list[TrackletSource]:
    return [
        TrackletSource(
            name=row.tracklet,
            person=person_name(row.tracklet),
            person_id=row.person,
            camera_id=row.camera,
            frame_numbers=tuple(frame_number(n) for n in row.names),
            frames=tuple(paths[n] for n in row.names),
        )
        for row in rows
    ]


def _scan(name: str, options: Options) -> RawDataset:
    return scan_mars(options['source'], name, options['info_dir'])


SOURCE = DatasetSource(scan=_scan, flags=(INFO_DIR,), recount=recount_mars)
