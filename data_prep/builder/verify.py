"""Checks a data set on disk to the frame: every record against its table, every frame by decoding it, and against the
source."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from data_prep.builder.build import is_built
from data_prep.builder.built_options import refuse_other_options
from data_prep.builder.frame_reader import MAX_REPORTED, BadFrames, CheckedReader, checked_reader
from data_prep.builder.stored_frame import same_pixels
from data_prep.builder.summary import print_checks
from data_prep.builder.tfds_builder import tracklet_table
from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.content_hash import CONTENT, fits_content
from pvlad_jax.data.dataset_format import (
    ENCODINGS,
    EVERYONE,
    FORMAT_VERSION,
    LABEL_COLUMNS,
    LAYOUTS,
    METADATA_FILE,
    Tables,
    open_records,
    read_columns,
    read_metadata,
    table_file,
)
from pvlad_jax.images import ImageError, decode_image

_AGAIN = 'Build the data set again with --overwrite.'


def verify(
    path: Path,
    console: Console,
    raw: RawDataset | None = None,
    recount: Callable[[Tables, dict], list[Check]] | None = None,
    progress: bool = True,
) -> int:
    """Returns the number of frames that were found to be right.

    Arguments:
      path: Folder of the data set.
      console: Where the table of counts goes.
      raw: The source, scanned again with the same options: tables and every frame's bytes must be its own.
      recount: (tables, metadata) -> the documented counts of this data set.
    Raises UserError with what is wrong; in a partial data set counts may differ.
    """
    if not is_built(path):
        raise UserError(f'There is no data set in {path}. Build it first, or give its --name and --data_dir.')
    metadata = _metadata(path)
    records_of = open_records(path, _AGAIN)
    # A data set to test on alone has no train.
    splits = [split for split in LAYOUTS[metadata['layout']] if split != 'train' or split in records_of]
    tables = {split: read_columns(path / table_file(split), _AGAIN) for split in splits}
    issues = _layout_issues(metadata, tables)
    if recount is not None and not issues:
        checks = recount(tables, metadata)
        print_checks(checks, console)
        if not metadata['partial']:
            issues += [f'{c.name}: expected {c.expected}, found {c.found}' for c in checks if not c.holds]
    sources: dict[str, list[TrackletSource | None]] = {s: [None] * len(t['tracklet']) for s, t in tables.items()}
    if raw is not None:
        refuse_other_options(path, metadata, raw)
        for split, found in raw.splits.items():
            if _same(tables.get(split, {}), tracklet_table(found)):
                sources[split] = list(found)
            else:
                issues.append(f'{table_file(split)} does not list the tracklets of the source')
    frames = 0
    read = None if raw is None else checked_reader(raw)
    for split, table in tables.items():
        records = records_of[split]
        if len(records) != len(table['tracklet']):
            issues.append(f'Split {split} has {len(records)} records and {len(table["tracklet"])} rows in its table')
            continue
        check = partial(_record_issues, records, table, sources[split], read)
        shown = track(
            _ahead(check, len(records)),
            f'{path.parent.name}: {split}',
            len(records),
            console=console,
            disable=not progress,
        )
        for i, found in enumerate(shown):
            issues += [f'{split} record {i}, {table["tracklet"][i].decode()}: {issue}' for issue in found]
            frames += int(table['n_frames'][i])
            if len(issues) >= MAX_REPORTED:
                break
    if not issues and not fits_content(path, splits):
        issues.append(f'Its record files are not those that the build wrote ({CONTENT}): some are of another data set')
    if issues:
        listed = '\n  '.join(issues[:MAX_REPORTED])
        raise UserError(f'{path} is not what it should be:\n  {listed}\nBuild it again with --overwrite.')
    return frames


def _metadata(path: Path) -> dict:
    metadata = read_metadata(path, _AGAIN)
    if metadata.get('format_version') != FORMAT_VERSION:
        found = metadata.get('format_version')
        raise UserError(
            f'{path} has format {found}, this program reads {FORMAT_VERSION}. Build it again with --overwrite.'
        )
    if metadata.get('layout') not in LAYOUTS or metadata.get('encoding') not in ENCODINGS:
        raise UserError(f'{path}/{METADATA_FILE} names an unknown layout or encoding. {_AGAIN}')
    return metadata


def _layout_issues(metadata: dict, tables: Tables) -> list[str]:
    issues = []
    names = np.concatenate([t['tracklet'] for t in tables.values()])
    if len(np.unique(names)) != len(names):
        issues.append('Tracklet names are not unique')
    if metadata['layout'] == 'query_rows':
        rows = metadata.get('query_rows', [])
        if len(set(rows)) != len(rows) or not all(0 <= r < len(tables['test']['tracklet']) for r in rows):
            issues.append('query_rows names rows twice or rows that are not there')
    if metadata['layout'] == 'people_splits':
        people = set(tables[EVERYONE]['person_id'].tolist())
        for i, split in enumerate(metadata.get('people_splits', [])):
            train, test = set(split['train']), set(split['test'])
            if train & test or not train | test <= people:
                issues.append(f'Split {i} has people in both halves or people who are not there')
    return issues


def _record_issues(
    records, table: dict[str, np.ndarray], sources: list[TrackletSource | None], read: CheckedReader | None, i: int
) -> list[str]:
    try:
        record = records[i]
    except Exception as error:  # whatever the reader makes of damaged bytes
        return [f'cannot be read ({error})']
    issues = [f'{k} is {record[k]!r}, in the table {table[k][i]!r}' for k in LABEL_COLUMNS if record[k] != table[k][i]]
    numbers, frames = list(record['frame_numbers']), [f['image'] for f in record['frames']]
    if not len(numbers) == len(frames) == table['n_frames'][i]:
        issues.append(f'has {len(frames)} frames and {len(numbers)} numbers, in the table {table["n_frames"][i]}')
    if any(a >= b for a, b in pairwise(numbers)):
        issues.append('frame numbers do not rise')
    issues += [
        f'frame {n} cannot be decoded: it {issue}'
        for n, frame in zip(numbers, frames)
        if (issue := _frame_issue(frame))
    ]
    if read is not None and (source := sources[i]) is not None:
        try:
            expected = read(source).frames
        except BadFrames as error:
            return issues + error.args[0]
        if tuple(numbers) != source.frame_numbers:
            issues.append('frame numbers are not those of the source')
        pairs = zip(numbers, source.frames, frames, expected)
        issues += [
            f'frame {n} is not that of the source ({key})' for n, key, a, b in pairs if a != b and not same_pixels(a, b)
        ]
    return issues


def _frame_issue(frame: bytes) -> str:
    try:
        decode_image(frame)
    except ImageError as error:
        return str(error)
    return ''


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(k in a and np.array_equal(a[k], v) for k, v in b.items())


def _ahead(job: Callable[[int], list[str]], n: int) -> Iterator[list[str]]:
    """Results of job(0) ... job(n - 1) in order, computed by threads (decoding and reading release the interpreter)."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as executor:
        ahead: deque = deque()
        try:
            for i in range(n):
                ahead.append(executor.submit(job, i))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
