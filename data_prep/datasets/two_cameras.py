"""What iLIDS-VID and PRID 2011 share: two cameras, one tracklet a person in each, ten splits into training and test
people."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from data_prep.datasets.dataset_source import Flag
from data_prep.issues import Issues
from data_prep.raw_dataset import EVERYONE, Check, RawDataset, TrackletSource
from data_prep.sources.archives import FrameFiles, read_files
from data_prep.sources.frame_suffixes import is_frame
from pvlad_jax.core.errors import UserError

QUERY_CAMERA, GALLERY_CAMERA = 1, 2
SPLITS = 10
DRAW_SPLITS = Flag(
    'draw_splits',
    int,
    None,
    'seed by which ten splits into halves are drawn, where the published ones are not at hand.',
    lower=0,
)
Splits = list[dict[str, list[int]]]  # people's numbers, 'train' and 'test'
SplitRule = Callable[[list[int]], tuple[Splits, Issues]]  # all people in sorted order -> (splits, inconsistencies)


def people_metadata(splits: Sequence[dict[str, list[int]]], drawn: int | None) -> dict:
    """The metadata of the layout 'people_splits'. drawn: the seed of drawn splits."""
    where = {} if drawn is None else {'splits_drawn_by_seed': drawn}
    return {'people_splits': list(splits), 'query_camera': QUERY_CAMERA, 'gallery_camera': GALLERY_CAMERA} | where


def drawn_splits(seed: int, people: list[int]) -> tuple[Splits, Issues]:
    """A SplitRule: ten random divisions of the people into halves (half of an odd number, rounded down, is trained
    on)."""
    orders = [np.random.default_rng([seed, split]).permutation(people).tolist() for split in range(SPLITS)]
    half = len(people) // 2
    return [{'train': sorted(order[:half]), 'test': sorted(order[half:])} for order in orders], Issues()


def drawn_note(seed: int | None) -> Sequence[str]:
    """What the build says of drawn splits."""
    if seed is None:
        return ()
    return (f'The ten splits are drawn with seed {seed}. They are not the published ones, and every result says so.',)


def named_splits(content: bytes, file: str, person: re.Pattern, _people: list[int]) -> tuple[Splits, Issues]:
    """A SplitRule: those of a JSON list of {"train": [names], "test": [names]}, as torchreid and AP3D write them.

    person: matches a name; its group 1 is the number. Raises UserError for anything but such a list.
    """
    try:
        entries = json.loads(content)
        splits = [
            {half: sorted(int(person.fullmatch(name)[1]) for name in entry[half]) for half in ('train', 'test')}
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        example = person.pattern.replace(r'(\d{4})', '0001').replace(r'(\d{3})', '001')
        raise UserError(f'{file} is not a list of {{"train": ["{example}"...], "test": [...]}}: {error!r}') from error
    issues = Issues()
    if len(splits) != SPLITS:
        issues.add(f'{file} has not ten splits', str(len(splits)))
    return splits, issues


def check_splits(splits: Sequence[dict[str, list[int]]], people: set[int], each: int, name: str) -> Issues:
    """Every split must divide the people into halves of `each`."""
    issues = Issues()
    for i, split in enumerate(splits):
        train, test = split['train'], split['test']
        if both := set(train) & set(test):
            issues.add(f'Splits of {name} with people in both halves', f'split {i}: {sorted(both)[:5]}')
        if len(set(train)) != each or len(set(test)) != each:
            issues.add(f'Splits of {name} that are not {each}/{each} people',
                       f'split {i}: {len(set(train))}/{len(set(test))}')
        if unknown := (set(train) | set(test)) - people:
            issues.add(f'People in {name} who are not in the data set', f'split {i}: {sorted(unknown)[:5]}')
    return issues


def split_checks(splits: Sequence[dict[str, list[int]]], each: int) -> list[Check]:
    halves = sorted({(len(set(s['train'])), len(set(s['test']))) for s in splits})
    found = ', '.join(f'{a}/{b}' for a, b in halves)
    return [Check('splits', 10, len(splits)), Check('people in train/test of a split', f'{each}/{each}', found)]


def tracklet(person: str, person_id: int, camera: int, name: str, frames: dict[int, str]) -> TrackletSource:
    """A tracklet from its frames by number."""
    numbers = sorted(frames)
    return TrackletSource(name, person, person_id, camera, tuple(numbers), tuple(frames[n] for n in numbers))


Frames = dict[tuple[int, int], dict[int, str]]  # (person, camera) -> frame number -> path


def group_frames(
    paths: Iterable[str], top: str, locate: Callable[[list[str]], tuple[int, int, int] | str]
) -> tuple[Frames, Issues, list[str]]:
    """Groups the paths below the folder `top`, at any depth: (frames, issues, files that are no frames).

    Args:
      locate: (folders and name of a file) -> person, camera and frame number, or what is wrong with such files.
    """
    tracklets: Frames = {}
    issues, others = Issues(), []
    for path in paths:
        parts = path.split('/')
        if top not in parts[:-1]:
            continue
        if not is_frame(path):
            others.append(path)
            continue
        found = locate(parts)
        if isinstance(found, str):
            issues.add(found, path)
            continue
        person, camera, number = found
        frames = tracklets.setdefault((person, camera), {})
        if number in frames:
            issues.add('Files of the same frame', f'{frames[number]} = {path}')
        else:
            frames[number] = path
    return tracklets, issues, others


def two_camera_dataset(
    files: FrameFiles,
    sources: list[TrackletSource],
    splits: Sequence[dict[str, list[int]]],
    drawn: int | None,
    jpeg_quality: int,
    metadata: dict,
    **found: Any,
) -> RawDataset:
    """The scanned data set. drawn: the seed of drawn splits. found: the other fields of RawDataset."""
    return RawDataset(
        splits={EVERYONE: sources},
        read_frames=partial(read_files, files),
        encoding='jpeg' if jpeg_quality else 'png',
        layout='people_splits',
        metadata=people_metadata(splits, drawn) | metadata | ({'jpeg_quality': jpeg_quality} if jpeg_quality else {}),
        jpeg_quality=jpeg_quality,
        **found,
    )


def recount(count: Callable[..., list[Check]], tables: dict[str, dict[str, np.ndarray]], metadata: dict) -> list[Check]:
    """The counts of a data set that was built; `count` takes columns of people, cameras and lengths, and the splits."""
    columns = (tables[EVERYONE][name].tolist() for name in ('person_id', 'camera_id', 'n_frames'))
    return count(*columns, metadata['people_splits'])
