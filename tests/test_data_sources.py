"""The tables of raw data and of published weights: an entry is all that a command needs to know of one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.datasets import DATASETS
from data_prep.datasets.dataset_source import DatasetSource, Flag
from data_prep.import_weights import read_source
from data_prep.raw_dataset import VERSION, RawDataset, TrackletSource
from data_prep.weights import WEIGHT_SOURCES, ImportedWeights, WeightSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletDataset

ROOT = Path(__file__).resolve().parents[1]
ROLES = ('train', 'query', 'gallery')
FRAME = simplejpeg.encode_jpeg(np.full((16, 8, 3), 90, np.uint8))


def parsed(*arguments: str) -> flags.FlagValues:
    values = flags.FlagValues()
    build_tfds.define_flags(values)
    values(['build_tfds.py', *arguments])
    return values


def read(source: TrackletSource) -> list[bytes]:
    return [FRAME] * len(source.frames)


def scan(name: str, options) -> RawDataset:
    people = range(1, 1 + options['walkers'])
    splits = {role: [TrackletSource(f'{role}/{p}', f'{p}', p, 1, (0, 1), ('a', 'b')) for p in people] for role in ROLES}
    return RawDataset(name=name, splits=splits, read_frames=read, encoding='jpeg', layout='roles')


def test_a_new_data_set_is_an_entry_with_its_own_flags(tmp_path, monkeypatch):
    flag = Flag('walkers', int, 2, 'how many walk.', lower=2)
    monkeypatch.setitem(DATASETS, 'parade', DatasetSource(scan=scan, flags=(flag,), needs_source=False))
    values = parsed('--dataset=parade', f'--data_dir={tmp_path}', '--walkers=3')
    build_tfds.run(values, Console(quiet=True))
    assert len(TrackletDataset(tmp_path / 'parade' / VERSION).tables['train']) == 3
    assert values['walkers'].help == 'parade: how many walk.'


def test_a_source_is_asked_for_where_it_is_needed(tmp_path):
    for name in [name for name, source in DATASETS.items() if source.needs_source]:
        with pytest.raises(UserError, match='needs --source'):
            build_tfds.run(parsed(f'--dataset={name}', f'--data_dir={tmp_path}'), Console(quiet=True))


def test_data_sets_that_share_a_flag_share_its_definition():
    flags = [flag for source in DATASETS.values() for flag in source.flags]
    assert len({flag.name for flag in flags}) == len(set(flags))


def test_weights_take_the_options_that_they_declare(monkeypatch):
    taken = {}

    def read_mine(file, **options):
        taken.update(options, file=file)
        return ImportedWeights({}, ('r3d_18',), 'here', 'none', '0', (0.5,) * 3, (0.5,) * 3)

    monkeypatch.setitem(WEIGHT_SOURCES, 'mine', WeightSource(read_mine, ('channels',)))
    assert read_source('mine', 'x.pth', channels='rgb').origin == 'here' and taken == {'file': 'x.pth', 'channels': 'rgb'}
    with pytest.raises(UserError, match='--backbone belongs to --source=torchreid or torchvision-2d, not to --source=mine'):
        read_source('mine', 'x.pth', backbone='osnet_x0_25')
    with pytest.raises(UserError, match=r'--source = .other. is unknown; choose one of: i3d-kinetics, torchvision, c3d'):
        read_source('other', 'x.pth')


def test_imports_define_no_flags():
    script = ('from absl import flags\nbefore = set(flags.FLAGS)\nimport data_prep.build_tfds, data_prep.import_weights\n'
              'import data_prep.synthetic_walkers.contact_sheet\n'
              'assert not {"dataset", "source", "output", "people"} & set(flags.FLAGS), set(flags.FLAGS) - before')
    subprocess.run([sys.executable, '-c', script], check=True, timeout=100, cwd=ROOT)
