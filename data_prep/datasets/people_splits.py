"""Ten splits of the people into training and test people: of a published file, or drawn by a seed."""

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.datasets.dataset_source import Flag, Options
from data_prep.issues import Issues
from data_prep.raw_dataset import Check
from pvlad_jax.core.errors import UserError

SPLITS = 10
DRAW_SPLITS = Flag(
    'draw_splits',
    int,
    None,
    'seed by which ten splits into halves are drawn, where the published ones are not at hand.',
    lower=0,
)
Splits = Sequence[dict[str, list[int]]]  # people's numbers, 'train' and 'test'


class SplitSource(NamedTuple):
    """Where splits come from.

    Attributes:
      name: As messages call it, such as a file's name.
      split: All people, sorted -> (splits, inconsistencies).
      seed: By which they are drawn; None = they are published.
    """

    name: str
    split: Callable[[list[int]], tuple[Splits, Issues]]
    seed: int | None = None

    def halves(self, people: Sequence[int], each: int) -> tuple[Splits, Issues]:
        """The splits, and what is wrong with them: each must divide the people into halves of `each`."""
        splits, inconsistencies = self.split(sorted(people))
        return splits, inconsistencies or _check_halves(splits, set(people), each, self.name)

    def notes(self) -> Sequence[str]:
        """What the build says of them."""
        if self.seed is None:
            return ()
        drawn = f'The ten splits are drawn with seed {self.seed}.'
        return (f'{drawn} They are not the published ones, and every result says so.',)


def drawn_splits(seed: int) -> SplitSource:
    """Random halves; of an odd number of people the smaller part is trained on."""

    def split(people: list[int]) -> tuple[Splits, Issues]:
        orders = [np.random.default_rng([seed, number]).permutation(people).tolist() for number in range(SPLITS)]
        half = len(people) // 2
        return [{'train': sorted(order[:half]), 'test': sorted(order[half:])} for order in orders], Issues()

    return SplitSource(f'The splits drawn with seed {seed}', split, seed)


def check_splits_options(options: Options) -> None:
    """UserError where --info_dir, of which the published splits alone are read, is given and other splits are drawn."""
    if options['info_dir'] and options['draw_splits'] is not None:
        raise UserError(
            '--info_dir is the folder of the published splits, and --draw_splits draws others in their place. Leave '
            'one of the two out.'
        )


def named_splits(content: bytes, file: str, person: re.Pattern, example: str) -> SplitSource:
    """Those of a JSON list of {"train": [names], "test": [names]}, as torchreid and AP3D write them.

    Arguments:
      person: Matches a name; its group 1 is the number.
      example: A name, for messages.
    Raises UserError for anything but such a list.
    """
    try:
        entries = json.loads(content)
        splits = [
            {half: sorted(int(person.fullmatch(name)[1]) for name in entry[half]) for half in ('train', 'test')}
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f'{file} is not a list of {{"train": ["{example}"...], "test": [...]}}: {error!r}') from error
    issues = Issues()
    if len(splits) != SPLITS:
        issues.add(f'{file} has not ten splits', str(len(splits)))
    return SplitSource(file, lambda _people: (splits, issues))


def _check_halves(splits: Splits, people: set[int], each: int, name: str) -> Issues:
    issues = Issues()
    for i, split in enumerate(splits):
        train, test = split['train'], split['test']
        if both := set(train) & set(test):
            issues.add(f'{name}: splits with people in both halves', f'split {i}: {sorted(both)[:5]}')
        if len(set(train)) != each or len(set(test)) != each:
            found = f'{len(set(train))}/{len(set(test))}'
            issues.add(f'{name}: splits that are not {each}/{each} people', f'split {i}: {found}')
        if unknown := (set(train) | set(test)) - people:
            issues.add(f'{name}: people who are not in the data set', f'split {i}: {sorted(unknown)[:5]}')
    return issues


def split_checks(splits: Splits, each: int) -> list[Check]:
    """The counts that are printed, expected and found."""
    halves = sorted({(len(set(s['train'])), len(set(s['test']))) for s in splits})
    found = ', '.join(f'{a}/{b}' for a, b in halves)
    return [Check('splits', SPLITS, len(splits)), Check('people in train/test of a split', f'{each}/{each}', found)]
