"""The micro experiment as a data set of splits into training and test people: two cameras, one tracklet a person in
each.
"""

from functools import partial
from pathlib import Path

from data_prep.builder.build import build
from data_prep.datasets.two_cameras import people_metadata
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.data.dataset_format import EVERYONE
from tests.helpers.micro import _frames

PEOPLE = range(1, 13)
SPLITS = (
    {'train': [1, 2, 3, 4, 5, 6], 'test': [7, 8, 9, 10, 11, 12]},
    {'train': [1, 3, 5, 7, 9, 11], 'test': [2, 4, 6, 8, 10, 12]},
    {'train': [7, 8, 9, 10, 11, 12], 'test': [1, 2, 3, 4, 5, 6]},
)


def build_micro_splits(data_dir: Path, name: str = 'micro_splits', **metadata) -> Path:
    sources = [
        TrackletSource(
            f'p{p}c{c}', str(p), p, c, tuple(range(1, 4 + p % 4)), tuple(f'p{p}c{c}f{f}' for f in range(1, 4 + p % 4))
        )
        for p in PEOPLE
        for c in (1, 2)
    ]
    raw = RawDataset(
        name=name,
        splits={EVERYONE: sources},
        read_frames=partial(_frames, 0),
        encoding='jpeg',
        layout='people_splits',
        metadata=people_metadata(SPLITS, seed=None) | metadata,
    )
    return build(raw, data_dir, workers=1, progress=False)
