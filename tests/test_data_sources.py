"""The tables of raw data and of published weights: an entry is all that a command needs to know of one."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.datasets import DATASETS
from data_prep.import_weights import read_source
from data_prep.weights import WEIGHT_SOURCES, ImportedWeights, WeightSource
from pvlad_jax.core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def parsed(*arguments: str) -> flags.FlagValues:
    values = flags.FlagValues()
    build_tfds.define_flags(values)
    values(['build_tfds.py', *arguments])
    return values


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
    assert read_source('mine', 'x.pth', channels='rgb').origin == 'here' and taken == {
        'file': 'x.pth',
        'channels': 'rgb',
    }
    with pytest.raises(
        UserError,
        match='--backbone belongs to --source=torchreid, torchreid-onnx or torchvision-2d, not to --source=mine',
    ):
        read_source('mine', 'x.pth', backbone='osnet_x0_25')
    with pytest.raises(
        UserError, match=r'--source = .other. is unknown; choose one of: i3d-kinetics, torchvision, c3d'
    ):
        read_source('other', 'x.pth')


def test_imports_define_no_flags():
    script = (
        'from absl import flags\nbefore = set(flags.FLAGS)\nimport data_prep.build_tfds, data_prep.import_weights\n'
        'import data_prep.synthetic_walkers.contact_sheet\n'
        'assert not {"dataset", "source", "output", "people"} & set(flags.FLAGS), set(flags.FLAGS) - before'
    )
    subprocess.run([sys.executable, '-c', script], check=True, timeout=100, cwd=ROOT)
