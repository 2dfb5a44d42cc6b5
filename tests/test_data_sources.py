"""The tables of raw data and of published weights: an entry is all that a command needs to know of one."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.datasets import DATASETS
from data_prep.datasets.given_flags import refuse_flags_without_effect
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


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (
            '--dataset=tracklet_folder --source=x --bit_depth=16 --people=3 --draw_splits=4',
            '--draw_splits is for --dataset=ilids_vid or prid2011, not for tracklet_folder; --people is for '
            '--dataset=synthetic, not for tracklet_folder. Leave them out.',
        ),
        (
            '--dataset=synthetic --source=/tmp --people=6',
            '--source is for raw data in files, and synthetic is drawn. Leave it out.',
        ),
        ('--dataset=synthetic --bit_depth=8', '--bit_depth is for raw data in files'),
        ('--dataset=synthetic --allow_partial --workers=1', '--allow_partial is for data sets whose counts are'),
        ('--dataset=mars --source=x --jpeg_quality=9', '--jpeg_quality is for --dataset=ilids_vid or prid2011, not'),
        ('--dataset=mars --source=x --notwins', '--twins is for --dataset=synthetic, not for mars'),
        ('--dataset=mars --source=x --beam_options=y', '--beam_options is for --beam. Leave'),
        ('--dataset=mars --source=x --beam --workers=2', '--workers is for a build without --beam'),
        ('--dataset=mars --source=x --verify --overwrite', '--overwrite is for building, not for --verify'),
        ('--dataset=mars --source=x --verify --nodecode_frames', '--decode_frames is for building'),
        ('--dataset=mars --source=x --verify --beam', '--beam is for building'),
        (
            '--dataset=mars --verify --allow_partial',
            '--allow_partial is for building: a partial data set is verified by its name, --name=mars_partial.',
        ),
        ('--dataset=ilids_vid --verify --draw_splits=0', '--draw_splits is for reading raw data'),
        ('--dataset=synthetic --verify --people=6', '--people is for reading raw data'),
        ('--dataset=ilids_vid --source=x --info_dir=y --draw_splits=0', '--info_dir is the folder of the published'),
        ('--dataset=prid2011 --source=x --info_dir=y --draw_splits=0', '--info_dir is the folder of the published'),
    ],
)
def test_flags_without_effect_are_refused_by_name(arguments, says, tmp_path):
    with pytest.raises(UserError) as refused:
        build_tfds.run(parsed(*arguments.split(), f'--data_dir={tmp_path}'), Console(quiet=True))
    assert str(refused.value).startswith(says), refused.value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'arguments',
    [
        '--dataset=mars --source=x --info_dir=y --people=40 --bit_depth=8 --allow_partial --overwrite --workers=2',
        '--dataset=mars --source=x --beam --beam_options=y --nodecode_frames --jpeg_quality=0',
        '--dataset=mars --source=x --verify --info_dir=y --allow_partial --name=z',
        '--dataset=ilids_vid --source=x --jpeg_quality=9 --draw_splits=0',
        '--dataset=tracklet_folder --source=x --verify --camera_numbers=a=1 --bit_depth=16',
        '--dataset=synthetic --people=6 --test_people=4 --notwins --seed=1 --workers=1 --overwrite --decode_frames',
        '--dataset=synthetic --verify --name=x',
    ],
)
def test_flags_with_an_effect_or_at_their_default_are_none_of_them(arguments):
    refuse_flags_without_effect(parsed(*arguments.split()), DATASETS)


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
    with pytest.raises(UserError, match='--data_dir tells where the data set of --dataset lies'):
        read_source('torchreid-onnx', 'x.onnx', data_dir='data')


def test_imports_define_no_flags():
    script = (
        'from absl import flags\nbefore = set(flags.FLAGS)\nimport data_prep.build_tfds, data_prep.import_weights\n'
        'import data_prep.synthetic_walkers.contact_sheet\n'
        'assert not {"dataset", "source", "output", "people"} & set(flags.FLAGS), set(flags.FLAGS) - before'
    )
    subprocess.run([sys.executable, '-c', script], check=True, timeout=100, cwd=ROOT)
