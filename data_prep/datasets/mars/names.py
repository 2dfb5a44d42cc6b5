"""The names of MARS: which split, person, camera, tracklet and frame a file belongs to.

`0001C1T0001F001.jpg` is person 0001, camera 1, tracklet 0001, frame 001. Junk people are `00-1`, distractors `0000`.
"""

import re
from collections.abc import Iterable
from typing import no_type_check

from data_prep.issues import Issues
from data_prep.sources.frame_suffixes import is_frame
from pvlad_jax.data.dataset_format import LAYOUTS

SPLITS = LAYOUTS['query_rows']
JUNK = '00-1'
GRAMMAR = re.compile(r'(\d{4}|00-1)C(\d)T(\d{4})F(\d+)\.jpg')
_FOLDERS = {'bbox_train': 'train', 'bbox_test': 'test'}


def split_paths(paths: Iterable[str]) -> tuple[dict[str, dict[str, str]], Issues, list[str]]:
    """Assigns paths to splits: (split -> name -> path, issues, files that are no frames).

    Any folders may stand above bbox_train and bbox_test, the same ones included (bbox_train/bbox_train). Files
    elsewhere are not looked at.
    """
    found: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    issues, others = Issues(), []
    match = GRAMMAR.fullmatch
    for path in paths:
        parts = path.split('/')
        place = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] in _FOLDERS), None)
        if place is None:
            continue
        names = found[_FOLDERS[parts[place]]]
        name = parts[-1]
        if match(name) is None and not is_frame(name):
            others.append(path)
        elif match(name) is None:
            issues.add('Files not named PERSON C# T#### F###.jpg', path)
        elif len(parts) - place != 3 or parts[-2] != name.partition('C')[0]:
            issues.add('Files that do not lie in the folder of their person', path)
        elif name in names:
            issues.add('Files of the same name', f'{names[name]} = {path}')
        else:
            names[name] = path
    return found, issues, others


# The functions so marked are called for each of the 1.2 million names: checking their types in the tests took five
# times as long as the work itself.
@no_type_check
def tracklet_of(name: str) -> str:
    """'0001C1T0001F001.jpg' -> '0001C1T0001'."""
    return name.partition('F')[0]


@no_type_check
def person_name(name: str) -> str:
    """The person's folder: '0001', '0000' or '00-1'."""
    return name.partition('C')[0]


def person_number(name: str) -> int:
    """The person's number as the official tables have it: -1 junk, 0 distractors."""
    person = person_name(name)
    return -1 if person == JUNK else int(person)


def camera_number(name: str) -> int:
    return int(name.partition('C')[2][0])


@no_type_check
def frame_number(name: str) -> int:
    return int(name.rpartition('F')[2].removesuffix('.jpg'))


def group_tracklets(names: Iterable[str]) -> dict[str, list[str]]:
    """Tracklet -> its names in the order of their frame numbers; tracklets in sorted order, which is that of the
    official tables."""
    tracklets: dict[str, list[str]] = {}
    for name in sorted(names):
        tracklets.setdefault(tracklet_of(name), []).append(name)
    for frames in tracklets.values():
        frames.sort(key=frame_number)
    return tracklets
