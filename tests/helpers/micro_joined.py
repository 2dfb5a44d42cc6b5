"""Data sets to be joined: 'left' (roles, 5 people to train on) and 'right' (splits of 12 people), which share nobody;
'twice' and 'seen' share people of 'left'."""

import dataclasses
from pathlib import Path

from data_prep.builder.build import build
from data_prep.raw_dataset import RawDataset
from tests.helpers.micro import build_micro, micro_raw
from tests.helpers.micro_splits import build_micro_splits

JOIN = 'left+right@1'


def build_joined(data_dir: Path) -> Path:
    build_micro(data_dir, name='left', people=5, seed=1)
    build_micro_splits(data_dir, 'right')
    return data_dir


def train_people(name: str, people: set[int]) -> RawDataset:
    """Of 'left', with these people to train on, whoever they are there; its own test people are others."""
    like, others = micro_raw(people=9, seed=1), micro_raw(people=20, seed=1)
    train = tuple(source for source in like.splits['train'] if source.person_id in people)
    rename = {'train': train, 'query': others.splits['query'], 'gallery': others.splits['gallery']}
    splits = {
        role: [dataclasses.replace(s, name=f'x{s.name}', person=f'x{s.person}') for s in sources]
        for role, sources in rename.items()
    }
    return dataclasses.replace(like, name=name, splits=splits)


def build_sharing(data_dir: Path) -> None:
    """'twice' trains on people 4, 5 and 6, of whom 'left' trains on 4 and 5 and tests 6; 'seen' on 7, 8, whom 'left'
    tests."""
    build(train_people('twice', {4, 5, 6}), data_dir, workers=1, progress=False)
    build(train_people('seen', {7, 8}), data_dir, workers=1, progress=False)
