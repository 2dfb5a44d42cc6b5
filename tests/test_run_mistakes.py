"""A user's mistakes in a run's fields, files, data and command line end it with a message, not a traceback."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import main
from data_prep.builder.build import build
from pvlad_jax.core.errors import UserError
from tests.helpers.failed_run import fails
from tests.helpers.micro import micro_config_dict, micro_raw

ROOT = Path(__file__).resolve().parents[1]


def test_mistakes_in_the_data_set_are_told(micro_data, tmp_path, capfd):
    assert 'No data set' in fails(capfd, micro_config_dict(tmp_path / 'nowhere'), tmp_path / 'a')
    shutil.copytree(micro_data / 'micro', tmp_path / 'data' / 'micro')
    metadata = next((tmp_path / 'data' / 'micro').glob('*/metadata.json'))
    intact = metadata.read_text()
    metadata.write_text(intact.replace('"format_version": 1', '"format_version": 99'))
    assert 'data format 99' in fails(capfd, micro_config_dict(tmp_path / 'data'), tmp_path / 'b')
    metadata.write_text('[]')
    assert 'metadata.json cannot be read' in fails(capfd, micro_config_dict(tmp_path / 'data'), tmp_path / 'b')
    metadata.write_text(intact)
    table = next((tmp_path / 'data' / 'micro').glob('*/tracklets_train.npz'))
    table.write_bytes(table.read_bytes()[:100])
    assert 'tracklets_train.npz cannot be read' in fails(capfd, micro_config_dict(tmp_path / 'data'), tmp_path / 'c')


def test_a_data_set_that_was_built_otherwise_is_told_in_terms_of_the_run(micro_data, tmp_path):
    fields = {'dataset.build_options': {'train_people': 2, 'test_people': 2}}
    said = r'exists already, .* Give another --config\.dataset\.name; .* or remove it, and it is built anew\.'
    with pytest.raises(UserError, match=said) as refused:
        main.build(micro_config_dict(micro_data, **fields))
    assert '--name' not in str(refused.value) and '--overwrite' not in str(refused.value)
    (tmp_path / 'micro' / next((micro_data / 'micro').iterdir()).name).mkdir(parents=True)
    with pytest.raises(UserError, match=r'no whole data set\. Give another --config\.dataset\.name'):
        main.build(micro_config_dict(tmp_path, **fields))


def test_one_person_is_an_error_and_one_tracklet_is_not(tmp_path, capfd):
    whole = micro_raw(people=3)
    for name, train in (
        ('alone', [t for t in whole.splits['train'] if t.person_id == 1]),
        ('single', [t for t in whole.splits['train'] if t.person_id > 1 or t.name == 'p1c1t1']),
    ):
        raw = type(whole)(**{**vars(whole), 'name': name, 'splits': {**whole.splits, 'train': train}})
        build(raw, tmp_path, workers=1, progress=False)
    fields = {'dataset.name': 'alone', 'batch.identities': 2, 'batch.tracklets': 4, 'model.pooling': 'average'}
    config = micro_config_dict(tmp_path, **fields)
    assert 'holds 1 person' in fails(capfd, config, tmp_path / 'a')
    config.dataset.name, config.training.steps, config.augment.flip = 'single', 2, 0.0
    assert main.run(config, tmp_path / 'b', 'train') == 0


TWO = 'config.dataset.validation_share = 0.01 holds out 2, never fewer than two'


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'model.pooling': 'vlad'}, "model.pooling = 'vlad' is unknown; choose one of: person_vlad"),
        ({'model.backbone.name': 'resnet'}, "'resnet'"),
        ({'model.backbone.weights': 'none.safetensors'}, 'none.safetensors (config.model.backbone.weights)'),
        ({'clips.height': 2}, 'smaller than the stride'),
        ({'batch.identities': 32}, 'holds 6 people'),
        ({'batch.identities': 3, 'batch.tracklets': 2}, 'cannot be split evenly over 8'),
        ({'evaluation.clips_per_step': 12}, 'cannot be split evenly over 8'),
        ({'model.clusters': 5000}, 'clusters'),
        ({'dataset.split': '7'}, "split = '7'"),
        ({'loss.identity': -1.0}, 'must not be negative'),
        ({'training.steps': 0}, 'at least 1'),
        ({'augment.erase_area': (3,)}, 'two shares'),
        ({'augment.flip': 1.5}, 'must lie in [0, 1]'),
        ({'input.prefetch': -1}, 'must not be negative'),
        ({'mesh.data': 3}, 'does not fit 8 device'),
        (
            {'dataset.validation_share': 0.99},
            'must leave two to train on; the training set has 6 such people, 6 in all. L',
        ),
        ({'dataset.validation_share': 0.01, 'batch.identities': 8}, f'the training set holds 4 people ({TWO}). Set'),
        (
            {'dataset.validation_share': 0.01, 'dataset.train_people': 3},
            f'the training set holds 3 people ({TWO}, config.dataset.train_people = 3 keeps no more). Set',
        ),
        (
            {'dataset.train_people': 1},
            'The training set holds 1 person(s) (config.dataset.train_people = 1 keeps no more)',
        ),
        (
            {'dataset.validation_share': 0.01, 'dataset.train_people': 5},
            f'there are 4 people to train on ({TWO}). Lower it',
        ),
    ],
)
def test_fields_that_do_not_fit_are_told(micro_data, tmp_path, capfd, fields, says):
    assert says in fails(capfd, micro_config_dict(micro_data, **fields), tmp_path / 'run')
    assert not list((tmp_path / 'run').glob('checkpoints/*'))


@pytest.mark.parametrize('content', ['[1]', '{"model', '{"history": 3}', '{"history": [3]}'])
def test_a_damaged_configuration_in_the_working_directory_is_told(micro_data, tmp_path, capfd, content):
    (tmp_path / 'config.json').write_text(content)
    assert 'config.json is damaged' in fails(capfd, micro_config_dict(micro_data), tmp_path)


def test_a_corrupt_record_ends_the_run_with_its_name(micro_data, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(
        'pvlad_jax.data.tracklet_dataset._LazyFrames.__getitem__', lambda self, index: b'\xff\xd8 no image'
    )
    said = fails(capfd, micro_config_dict(micro_data, **{'model.pooling': 'average'}), tmp_path / 'run')
    assert 'Tracklet' in said and 'cannot be decoded' in said


def test_nothing_to_evaluate_and_nowhere_to_write(micro_data, tmp_path, capfd):
    assert 'no checkpoint to evaluate' in fails(capfd, micro_config_dict(micro_data), tmp_path / 'empty', 'eval')
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in fails(capfd, micro_config_dict(micro_data), tmp_path / 'file' / 'run')


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--config=configs/synthetic.py', '--workdir=w', '--config.model.part=3'], 'Did you mean model.parts'),
        (
            ['--config=configs/synthetic.py', '--workdir=w', '--config.model.bacbone.name=c3d'],
            "Unknown config field 'model.bacbone.name'",
        ),
        (['--config=configs/synthetic.py:pool=max', '--workdir=w'], "'pool=max' is not NAME=VALUE"),
        (['--config=configs/synthetic.py', '--workdir=w', '--config.model.parts=many'], 'invalid literal'),
        (['--config=configs/mars.py:seed=x', '--workdir=w'], "'seed=x': config.seed must be a whole number"),
        (
            ['--config=configs/mars.py:position=maybe', '--workdir=w'],
            'config.model.position_term must be true or false',
        ),
        (['--config=configs/none.py', '--workdir=w'], 'configs/none.py cannot be loaded: there is no such file'),
        (['--config', 'README.md', '--workdir=w'], 'README.md cannot be loaded: it is not Python'),
        (['--config=configs', '--workdir=w'], 'configs cannot be loaded'),
        (['--config=configs/synthetic.py'], 'Error: --workdir=... must be given'),
        ([], 'Error: --config=... and --workdir=... must be given'),
        (['--mode=eval'], 'Error: --workdir=... must be given'),
        (['--mode', 'export', '--workdir='], 'Error: --workdir=... must be given'),
        (['--mode=report'], 'Error: --workdir=... must be given'),
        (['--config=configs/synthetic.py', '--workdir=w', '--mode=test'], 'train|eval'),
    ],
)
def test_mistakes_on_the_command_line_are_told(arguments, says):
    ended = subprocess.run(
        [sys.executable, 'main.py', *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and says in ended.stderr and 'Traceback' not in ended.stderr, ended.stderr
