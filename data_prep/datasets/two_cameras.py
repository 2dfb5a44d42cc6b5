"""What iLIDS-VID and PRID 2011 share: two cameras, one tracklet a person in each, and ten splits into training and test people."""

from collections.abc import Sequence

from data_prep.issues import Issues
from data_prep.raw_dataset import Check, TrackletSource

QUERY_CAMERA, GALLERY_CAMERA = 1, 2


def people_metadata(splits: Sequence[dict[str, list[int]]]) -> dict:
    """The metadata of the layout 'people_splits'."""
    return {'people_splits': list(splits), 'query_camera': QUERY_CAMERA, 'gallery_camera': GALLERY_CAMERA}


def check_splits(splits: Sequence[dict[str, list[int]]], people: set[int], each: int, name: str) -> Issues:
    """Every split must divide the people into halves of `each`."""
    issues = Issues()
    for i, split in enumerate(splits):
        train, test = split['train'], split['test']
        if both := set(train) & set(test):
            issues.add(f'Splits of {name} with people in both halves', f'split {i}: {sorted(both)[:5]}')
        if len(set(train)) != each or len(set(test)) != each:
            issues.add(f'Splits of {name} that are not {each}/{each} people', f'split {i}: {len(set(train))}/{len(set(test))}')
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
