"""Every count that is known of MARS, and the same counts of what was found. Counted from the official tables."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from data_prep.raw_dataset import Check
from pvlad_jax.core.labels import DISTRACTOR, JUNK

EXPECTED: dict[str, int | str] = {
    'train: people': 625,
    'train: tracklets': 8298,
    'train: frames': 509_914,
    'train: shortest, longest, median tracklet': '5, 900, 36',
    'train: people with one camera': 6,
    'train: people with under 4 tracklets': 45,
    'train: fewest and most tracklets of a person': '1, 271',
    'test: people': 634,
    'test: tracklets': 12_180,
    'test: frames': 681_089,
    'test: shortest, longest, median tracklet': '2, 920, 30',
    'test: tracklets under 4, 8, 16 frames': '3, 209, 2647',
    'test: junk tracklets': 870,
    'test: junk frames': 23_380,
    'test: distractor tracklets': 3248,
    'people in both train and test': 0,
    'cameras': '1 2 3 4 5 6',
    'queries': 1980,
    'people with queries': 626,
    'queries that are junk or distractors': 0,
    'people and cameras with other than one query': 0,
    'tracklets of the same person in other cameras, a query: fewest, most, median': '1, 207, 8',
    'gallery without queries and junk': 9330,
    'queries without a match in it': 140,
    'people of those': 126,
    'queries left with it': 1840,
}


class Labels(NamedTuple):
    """One entry a tracklet."""

    person: Int[np.ndarray, 'n']
    camera: Int[np.ndarray, 'n']
    length: Int[np.ndarray, 'n']  # frames


def mars_checks(train: Labels, test: Labels, query_rows: Int[np.ndarray, 'q']) -> list[Check]:
    """All counts, expected and found. `query_rows` are 0-based rows of `test`."""
    found = mars_counts(train, test, query_rows)
    return [Check(name, expected, found[name]) for name, expected in EXPECTED.items()]


def mars_counts(train: Labels, test: Labels, query_rows: Int[np.ndarray, 'q']) -> dict[str, int | str]:
    """The counts of EXPECTED as found."""
    real = test.person > 0
    tracklets = Counter(train.person.tolist())
    cameras_of: dict[int, set[int]] = {}
    for person, camera in zip(train.person.tolist(), train.camera.tolist()):
        cameras_of.setdefault(person, set()).add(camera)
    people = set(train.person.tolist()), set(test.person[real].tolist())
    counts = {
        'train: people': len(people[0]),
        'train: tracklets': len(train.person),
        'train: frames': int(train.length.sum()),
        'train: shortest, longest, median tracklet': _spread(train.length),
        'train: people with one camera': sum(len(c) == 1 for c in cameras_of.values()),
        'train: people with under 4 tracklets': sum(n < 4 for n in tracklets.values()),
        'train: fewest and most tracklets of a person': f'{min(tracklets.values(), default=0)}, '
        f'{max(tracklets.values(), default=0)}',
        'test: people': len(people[1]),
        'test: tracklets': len(test.person),
        'test: frames': int(test.length.sum()),
        'test: shortest, longest, median tracklet': _spread(test.length),
        'test: tracklets under 4, 8, 16 frames': ', '.join(str(int((test.length < n).sum())) for n in (4, 8, 16)),
        'test: junk tracklets': int((test.person == JUNK).sum()),
        'test: junk frames': int(test.length[test.person == JUNK].sum()),
        'test: distractor tracklets': int((test.person == DISTRACTOR).sum()),
        'people in both train and test': len(people[0] & people[1]),
        'cameras': ' '.join(map(str, sorted(set(train.camera.tolist()) | set(test.camera.tolist())))),
    }
    return counts | _query_counts(test, query_rows)


def _query_counts(test: Labels, query_rows: Int[np.ndarray, 'q']) -> dict[str, int | str]:
    pairs = list(zip(test.person.tolist(), test.camera.tolist()))
    queries = [pairs[i] for i in query_rows.tolist()]
    of_pair, of_person = Counter(pairs), Counter(test.person.tolist())
    cameras = Counter(person for person, _ in of_pair if person > 0)
    asked = Counter(queries)
    wanted = {pair for pair in of_pair if pair[0] > 0 and cameras[pair[0]] >= 2}
    good = np.array([of_person[p] - of_pair[p, c] for p, c in queries], dtype=np.int64)
    rest = np.ones(len(pairs), dtype=bool)
    rest[query_rows] = False
    rest &= test.person != JUNK
    left = [pair for pair, kept in zip(pairs, rest.tolist()) if kept]
    left_of_pair, left_of_person = Counter(left), Counter(p for p, _ in left)
    alone = [(p, c) for p, c in queries if left_of_person[p] == left_of_pair[p, c]]
    return {
        'queries': len(queries),
        'people with queries': len({p for p, _ in queries}),
        'queries that are junk or distractors': sum(p <= 0 for p, _ in queries),
        'people and cameras with other than one query': sum(
            asked[pair] != (pair in wanted) for pair in wanted | asked.keys()
        ),
        'tracklets of the same person in other cameras, a query: fewest, most, median': _spread(good),
        'gallery without queries and junk': len(left),
        'queries without a match in it': len(alone),
        'people of those': len({p for p, _ in alone}),
        'queries left with it': len(queries) - len(alone),
    }


def _spread(values: np.ndarray) -> str:
    return f'{values.min()}, {values.max()}, {np.median(values):g}' if len(values) else 'none'
