"""The examples of docs/extending.md work as they stand, and are short."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.datasets import DATASETS
from data_prep.raw_dataset import VERSION
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletDataset

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'extending.md'


def example(heading: str) -> dict[str, Any]:
    """The names that the code under a heading defines."""
    section = PAGE.read_text(encoding='utf-8').partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
    code = re.search(r'```python\n(.*?)```', section, re.DOTALL)[1]
    assert code.count('\n') < 30
    names: dict[str, Any] = {'__name__': 'example'}
    exec(compile(code, f'{PAGE.name}: {heading}', 'exec'), names)
    return names


def test_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, 'parade', example('A data set')['SOURCE'])
    frame = simplejpeg.encode_jpeg(np.full((16, 8, 3), 90, np.uint8))
    for folder in ('train_1_1', 'train_2_1', 'query_3_1', 'gallery_3_2'):
        (tmp_path / 'raw' / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / 'raw' / folder / f'{number:04d}.jpg').write_bytes(frame)

    def build(*arguments: str) -> None:
        values = flags.FlagValues()
        build_tfds.define_flags(values)
        values(['', '--dataset=parade', f'--source={tmp_path / "raw"}', f'--data_dir={tmp_path / "data"}', *arguments])
        build_tfds.run(values, Console(quiet=True))

    build()
    dataset = TrackletDataset(tmp_path / 'data' / 'parade' / VERSION)
    assert {split: len(table) for split, table in dataset.tables.items()} == {'train': 2, 'query': 1, 'gallery': 1}
    with pytest.raises(UserError, match='people in train: expected 3, found 2'):
        build('--documented_people=3', '--name=other')
