"""Mistakes in what a trained network is to be scored on (config.evaluation.dataset) are told before anything is
embedded.
"""

import json

import pytest

import main
from pvlad_jax.data.fingerprint import fingerprint
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from tests.helpers.micro import micro_config_dict
from tests.helpers.micro_splits import build_micro_splits
from tests.helpers.small_models import write_workdir

PEOPLE = {'data_set': 'micro', 'labels': 'of another', 'people': ['1', '8'], 'inherited': False}


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = write_workdir(tmp_path_factory.mktemp('trained') / 'run')
    (folder / 'data.json').write_text(json.dumps({'trained_on': [PEOPLE]}))
    return folder


@pytest.fixture(autouse=True)
def nothing_is_embedded(monkeypatch):
    monkeypatch.setattr('pvlad_jax.runs.other_datasets.Evaluator', lambda *_: pytest.fail('embedded'))


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'evaluation.dataset': 'micro,'}, 'names of data sets by commas, each once'),
        ({'evaluation.dataset': 'micro,micro'}, 'each once'),
        ({'evaluation.dataset': 'step_6'}, 'would overwrite eval/step_6.json'),
        ({'evaluation.dataset': 'none'}, "No data set 'none'"),
        ({'evaluation.dataset': 'micro@3'}, "names 'micro@3': data set 'micro' has the splits 0"),
        ({'evaluation.dataset': 'micro@'}, "names 'micro@': data set 'micro' has the splits 0"),
        ({'evaluation.dataset': '@3'}, "'@3' is no name of a folder"),
        ({'evaluation.dataset': '../data/micro'}, 'is no name of a folder'),  # results would leave eval/
        ({'evaluation.dataset': 'micro', 'evaluation.checkpoint': 'untrained'}, 'is for a trained network'),
        ({'evaluation.dataset': 'micro', 'dataset.split': 'all'}, 'such as WORKDIR/split_0'),
        (
            {
                'evaluation.dataset': 'micro',
                'evaluation.protocol': 'cross_camera',
                'evaluation.checkpoint': 'best',
                'dataset.validation_share': 0.5,
            },
            'validation_share: 0.0 before',
        ),
        ({'evaluation.dataset': 'micro'}, "1 of the 4 people of the test set of 'micro' (test) are trained on"),
    ],
)
def test_mistakes_are_told_before_anything_is_embedded(micro_data, workdir, capfd, fields, says):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob('*') if path.name != '.lock'}
    assert main.run(micro_config_dict(micro_data, **{'compile_cache': '', **fields}), workdir, 'eval') == 2
    said = capfd.readouterr().err
    assert said.startswith('Error: ') and says in said
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob('*') if path.name != '.lock'} == before


def test_a_training_takes_its_data_set_elsewhere(micro_data, tmp_path, capfd):
    assert main.run(micro_config_dict(micro_data, **{'evaluation.dataset': 'micro'}), tmp_path / 'new', 'train') == 2
    assert 'in training the data set is config.dataset.name' in capfd.readouterr().err


def test_another_split_of_the_same_data_set_was_trained_on(tmp_path, capfd):
    """Of a run of split 0, split 1 tests on three people, split 2 on all that were trained on, split 0 on none of
    them.
    """
    build_micro_splits(tmp_path)
    config = micro_config_dict(tmp_path, **{'compile_cache': '', 'dataset.name': 'micro_splits'})
    folder = write_workdir(tmp_path / 'run', **{'dataset.name': 'micro_splits'})
    (folder / 'data.json').write_text(
        json.dumps({'trained_on': [{**PEOPLE, 'data_set': 'micro_splits', 'people': [str(p) for p in range(1, 7)]}]})
    )
    for split, says in (('1', '3 of the 6 people'), ('2', '6 of the 6 people')):
        config.evaluation.dataset = f' micro_splits @ {split}'
        assert main.run(config, folder, 'eval') == 2
        assert f"{says} of the test set of 'micro_splits' (split {split}) are trained on" in capfd.readouterr().err


def test_people_of_other_splits_and_of_swapped_halves_were_trained_on(tmp_path, capfd):
    """Also where data.json says that the run was trained on this very data set."""
    dataset = TrackletDataset(build_micro_splits(tmp_path))
    data = fingerprint(dataset).to_json()
    config = micro_config_dict(tmp_path, **{'compile_cache': '', 'dataset.name': 'micro_splits'})
    for halves, trained, split in (('wang2014', range(1, 7), '2'), ('swapped', range(7, 13), '0')):
        folder = write_workdir(tmp_path / halves, **{'dataset.name': 'micro_splits', 'dataset.halves': halves})
        people = {**PEOPLE, 'data_set': 'micro_splits', 'people': [str(p) for p in trained]}
        (folder / 'data.json').write_text(json.dumps({'fingerprint': data, 'trained_on': [people]}))
        config.dataset.halves, config.evaluation.dataset = halves, f'micro_splits@{split}'
        assert main.run(config, folder, 'eval') == 2
        assert f"6 of the 6 people of the test set of 'micro_splits' (split {split})" in capfd.readouterr().err
