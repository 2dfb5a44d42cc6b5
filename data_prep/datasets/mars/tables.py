"""Compares the files of a MARS split with its official table and name list. Pure: names and numbers in, findings out.

The table has one row a tracklet: first and last line (1-based, inclusive) in the name list, person, camera. The name
list is the sorted names of the files, so it can be rebuilt from whole folders; it is what says which frames are absent
from others.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from data_prep.datasets.mars.names import (
    GRAMMAR,
    JUNK,
    camera_number,
    frame_number,
    group_tracklets,
    person_name,
    person_number,
    tracklet_of,
)
from data_prep.issues import Issues


class Row(NamedTuple):
    """A tracklet as found: what is absent is not in `names`."""

    tracklet: str
    person: int
    camera: int
    names: list[str]


class SplitReport(NamedTuple):
    rows: list[Row]  # one a table row; without frames where the whole tracklet is absent
    absent: Issues  # files that are missing or should not be there
    inconsistencies: Issues  # tables and lists that do not describe the files


def compare_split(
    split: str, found: Collection[str], table: Int[np.ndarray, 'rows 4'], official: Sequence[str] | None
) -> SplitReport:
    """Compares the names found in bbox_SPLIT with the table and, where there is one, the official name list."""
    absent, inconsistencies = Issues(), Issues()
    _check_table(split, table, None if official is None else len(official), inconsistencies)
    if official is not None:
        _check_list(split, official, inconsistencies)
    if inconsistencies:
        return SplitReport([], absent, inconsistencies)
    if official is not None:
        rows = _rows_of_list(split, table, official, inconsistencies)
        _compare_names(split, set(found), rows, absent)
        present = set(found)
        rows = [row._replace(names=[n for n in row.names if n in present]) for row in rows]
        return SplitReport(rows, absent, inconsistencies)
    return SplitReport(
        _rows_of_files(split, table, group_tracklets(found), absent, inconsistencies), absent, inconsistencies
    )


def misplaced_people(
    found: dict[str, Collection[str]], tables: dict[str, Int[np.ndarray, 'rows 4']]
) -> tuple[Issues, Issues]:
    """People who lie in one folder and belong to the other: (absent and too many, inconsistencies); all of them =
    swapped folders."""
    issues, swapped = Issues(), Issues()
    people = {split: {person_number(p): p for p in {person_name(n) for n in names}} for split, names in found.items()}
    owners = {split: set(table[:, 2].tolist()) for split, table in tables.items()}
    wrong = {
        split: sorted(
            name for number, name in people[split].items() if number not in owners[split] and number in owners[other]
        )
        for split, other in (('train', 'test'), ('test', 'train'))
    }
    if all(people[s] and len(wrong[s]) == len(people[s]) for s in wrong):
        swapped.add('bbox_train and bbox_test are swapped: each holds the people of the other', 'all of them')
        return issues, swapped
    for split, other in (('train', 'test'), ('test', 'train')):
        issues.extend(f'People in bbox_{split} who belong to bbox_{other}', wrong[split])
    return issues, swapped


def _check_table(split: str, table: Int[np.ndarray, 'rows 4'], n_lines: int | None, issues: Issues) -> None:
    name = f'tracks_{split}_info.mat'
    first, last = table[:, 0], table[:, 1]
    for i in np.flatnonzero(first > last)[:100]:
        issues.add(f'Tracklets of zero length in {name}', f'row {i + 1}: lines {first[i]} to {last[i]}')
    for i in np.flatnonzero(first != np.concatenate([[1], last[:-1] + 1]))[:100]:
        issues.add(f'Rows of {name} that do not begin behind the one before', f'row {i + 1}')
    if n_lines is not None and last[-1] != n_lines:
        issues.add(f'{name} ends at another line than {split}_name.txt', f'{last[-1]} and {n_lines}')


def _check_list(split: str, official: Sequence[str], issues: Issues) -> None:
    name = f'{split}_name.txt'
    issues.extend(f'Lines of {name} that are no MARS names', [n for n in official if GRAMMAR.fullmatch(n) is None])
    unsorted = [i for i, (a, b) in enumerate(pairwise(official)) if a >= b]
    for i in unsorted[:100]:
        what = 'repeated' if official[i] == official[i + 1] else 'not sorted'
        where = f'line {i + 2}: {official[i + 1]} after {official[i]}'
        issues.add(f'{name} is {what}, while the tables count lines of the sorted list', where)


def _rows_of_list(split: str, table, official: Sequence[str], issues: Issues) -> list[Row]:
    rows = []
    for i, (first, last, person, camera) in enumerate(table.tolist()):
        names = list(official[first - 1 : last])
        tracklet = tracklet_of(names[0])
        if any(not n.startswith(tracklet + 'F') for n in (names[-1], *names)):
            what = f'Rows of tracks_{split}_info.mat over several tracklets of {split}_name.txt'
            issues.add(what, f'row {i + 1}: {names[0]} to {names[-1]}')
        _check_labels(split, i, tracklet, person, camera, issues)
        names.sort(key=frame_number)
        rows.append(Row(tracklet, person, camera, names))
    return rows


def _check_labels(split: str, i: int, tracklet: str, person: int, camera: int, issues: Issues) -> None:
    compared = {'person': (person, person_number(tracklet)), 'camera': (camera, camera_number(tracklet))}
    for what, (listed, named) in compared.items():
        if listed != named:
            where = f'row {i + 1}: {what} {listed} for {tracklet}'
            issues.add(f'Rows of tracks_{split}_info.mat with another {what} than their files', where)


def _compare_names(split: str, found: set[str], rows: list[Row], issues: Issues) -> None:
    expected = {row.tracklet: row.names for row in rows}
    people: dict[str, list[str]] = {}
    for tracklet in expected:
        people.setdefault(person_name(tracklet), []).append(tracklet)
    found_people = {person_name(n) for n in found}
    for person, tracklets in people.items():
        frames = sum(len(expected[t]) for t in tracklets)
        if person not in found_people:
            what = {JUNK: 'Junk is missing', '0000': 'Distractors are missing'}.get(person, 'People are missing')
            issues.add(f'{what} in bbox_{split}', f'{person} ({len(tracklets):,} tracklets, {frames:,} frames)')
            continue
        for tracklet in tracklets:
            lacking = [n for n in expected[tracklet] if n not in found]
            if len(lacking) == len(expected[tracklet]):
                issues.add(f'Tracklets are missing in bbox_{split}', f'{tracklet} ({len(lacking)} frames)')
            else:
                issues.extend(f'Frames are missing in bbox_{split}', lacking)
    extra = group_tracklets(found - {n for names in expected.values() for n in names})
    for person in sorted({person_name(t) for t in extra} - people.keys()):
        frames = sum(len(names) for t, names in extra.items() if person_name(t) == person)
        issues.add(f'People who are not in MARS in bbox_{split}', f'{person} ({frames:,} frames)')
    for tracklet, names in extra.items():
        if person_name(tracklet) in people:
            issues.extend(f'Frames that are not in MARS in bbox_{split}', names)


def _rows_of_files(
    split: str, table, tracklets: dict[str, list[str]], absent: Issues, inconsistencies: Issues
) -> list[Row]:
    """Without a name list, rows are assigned to tracklets by their order, which takes as many of one as of the
    other."""
    expected, found = Counter(table[:, 2].tolist()), Counter(person_number(t) for t in tracklets)
    if expected != found:
        for person in sorted(expected.keys() - found.keys()):
            what = {-1: 'Junk is missing', 0: 'Distractors are missing'}.get(person, 'People are missing')
            absent.add(f'{what} in bbox_{split}', f'{_name(person)} ({expected[person]:,} tracklets)')
        for person in sorted(found.keys() - expected.keys()):
            absent.add(f'People who are not in MARS in bbox_{split}', f'{_name(person)} ({found[person]:,} tracklets)')
        for person in sorted(p for p in expected.keys() & found.keys() if expected[p] != found[p]):
            what = f'People with another number of tracklets in bbox_{split}'
            absent.add(what, f'{_name(person)} (expected {expected[person]}, found {found[person]})')
        inconsistencies.add(
            f'Rows of tracks_{split}_info.mat cannot be assigned to the tracklets of bbox_{split} without the official '
            'name list; put it into info/ or --info_dir',
            f'{split}_name.txt',
        )
        return []
    rows = []
    for i, ((first, last, person, camera), (tracklet, names)) in enumerate(zip(table.tolist(), tracklets.items())):
        _check_labels(split, i, tracklet, person, camera, inconsistencies)
        if (length := last - first + 1) != len(names):
            gaps = sorted(set(range(1, frame_number(names[-1]) + 1)) - {frame_number(n) for n in names})
            where = f'; no frame {", ".join(map(str, gaps[:5]))}' if gaps else ''
            what = f'{tracklet} (expected {length}, found {len(names)}{where})'
            absent.add(f'Tracklets of another length in bbox_{split}', what)
        rows.append(Row(tracklet, person, camera, names))
    return rows


def _name(person: int) -> str:
    return JUNK if person == -1 else f'{person:04d}'
