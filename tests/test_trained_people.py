"""Test people who are in a run's own training set are refused, or every result says how many there are."""

import dataclasses
import json

import pytest

import main
from data_prep.builder.build import build
from tests.helpers.micro import micro_config_dict, micro_raw

FIELDS = {'dataset.name': 'seen', 'training.steps': 2, 'vlad_init.batches': 1, 'optimizer.warmup_steps': 1}


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
    """The micro data set, of which two of the four test people are people 1 and 2 of the training set."""
    raw = micro_raw(name='seen')
    known = {7: 1, 8: 2}

    def renamed(source):
        person = known.get(source.person_id, source.person_id)
        return dataclasses.replace(source, person=str(person), person_id=person)

    splits = {split: [renamed(source) for source in sources] for split, sources in raw.splits.items()}
    data_dir = tmp_path_factory.mktemp('data')
    build(dataclasses.replace(raw, splits=splits), data_dir, workers=1, progress=False)
    return data_dir


def test_they_are_refused_before_anything_is_written(seen, tmp_path, capfd):
    assert main.run(micro_config_dict(seen, **FIELDS), tmp_path / 'run', 'train') == 2
    said = capfd.readouterr().err
    assert "2 of the 4 people of the test set of 'seen' (test) are trained on" in said and '1, 2.' in said
    assert 'build the data set again' in said and '--config.evaluation.trained_people=accept' in said
    assert not (tmp_path / 'run' / 'config.json').exists()


def test_accepted_every_result_says_how_many(seen, tmp_path, capfd):
    config = micro_config_dict(seen, **FIELDS, **{'evaluation.trained_people': 'accept'})
    workdir = tmp_path / 'run'
    assert main.run(config, workdir, 'train') == 0
    said = capfd.readouterr().out
    assert 'test people, 2 of whom were trained on: rank-1' in said and 'never seen' not in said
    assert 'TRAINED ON 2 of the test people' in ' '.join(said.split())
    assert json.loads((workdir / 'eval' / 'latest.json').read_text())['trained_people'] == 2
    assert main.run(config, workdir, 'export') == 0
    assert 'TRAINED ON 2 of the test people' in next((workdir / 'export').rglob('MODEL_CARD.md')).read_text()
