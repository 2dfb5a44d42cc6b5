"""The card of an export: results of its own checkpoint, the data behind it, and no markup out of names."""

import json
from pathlib import Path

import jax
import pytest

from pvlad_jax.evaluation import Result, write_result
from pvlad_jax.export.model_card import model_card
from tests.helpers.small_models import copied, exported, write_workdir


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model') / 'work')


@pytest.fixture(scope='module')
def folder(workdir) -> Path:
    return exported(workdir)


def test_the_card_has_the_results_of_its_checkpoint_and_no_markup_of_names(folder, workdir, tmp_path, monkeypatch):
    traced = jax.export.deserialize((folder / 'model.jax').read_bytes())
    monkeypatch.setattr('pvlad_jax.runs.export.exported_program', lambda *_: traced)
    numbers = {name: 0.5 for name in ('mAP', 'mAP_trapezoidal', 'mINP', 'rank_1', 'rank_5', 'rank_10', 'rank_20')}
    about = {
        'dataset': '`<script>|\n# x',
        'split': '<b>test',
        'protocol': 'mars_official',
        'step': 2,
        'cmc': [0.5],
        **numbers,
    }
    counts = {
        'n_query': 3,
        'n_query_valid': 3,
        'n_gallery': 4,
        'n_junk': 0,
        'frames': 'all',
        'distance': 'cosine',
        'rerank': False,
    }
    changed = copied(workdir, tmp_path / 'work')
    write_result(changed / 'eval' / 'latest.json', Result(**about, **counts))
    card = (exported(changed, flip=True) / 'MODEL_CARD.md').read_text()
    assert (
        '| rank-1 | 50.00 % |' in card and '3 of 3 queries valid' in card and 'another setting of mirror images' in card
    )
    assert 'lacks a part of the benchmark' not in card
    assert "`'<script>/ # x`" in card and r'\<b\>test' in card
    write_result(changed / 'eval' / 'latest.json', Result(**{**about, 'step': 1}, **counts))
    manifest = json.loads((exported(changed) / 'model.json').read_text())
    assert manifest['evaluation'] is None  # of another checkpoint
    training = {**manifest['training'], 'people': 6, 'counts': [24, 6, 1234]}
    card = model_card(
        {**manifest, 'evaluation': Result(**about, **counts, partial=True).to_json(), 'training': training}
    )
    assert 'lacks a part of the benchmark' in card and 'frames of the training split | 24, 1,234 |' in card
    held_out = {**manifest, 'training': {**training, 'people': 5}}
    assert '| 24, 1,234, of 6 people; not all were trained on |' in model_card(held_out)
    weights = {'file': 'osnet.safetensors', 'origin': 'somewhere', 'licence': 'MIT.'}
    assert 'Origin: somewhere. Licence: MIT.\n' in model_card({**manifest, 'imported_weights': weights})


def test_the_card_tells_the_run_whose_weights_it_began_with(folder, workdir, tmp_path, monkeypatch):
    """Also where it went on with more steps, and neither that run nor what it was trained on is there any more."""
    traced = jax.export.deserialize((folder / 'model.jax').read_bytes())
    monkeypatch.setattr('pvlad_jax.runs.export.exported_program', lambda *_: traced)
    assert 'began with random numbers' in (folder / 'MODEL_CARD.md').read_text()
    longer = copied(workdir, tmp_path / 'work')
    flat = json.loads((longer / 'config.json').read_text())
    before = {'training.steps': 1, 'init_from': '/home/me/runs/mars@900'}
    (longer / 'config.json').write_text(json.dumps({**flat, 'history': [{'step': 1, 'before': before}]}))
    mars = {'data_set': 'mars', 'labels': '', 'people': ['1'], 'inherited': True}
    own = {**mars, 'data_set': 'own', 'inherited': False}
    (longer / 'data.json').write_text(json.dumps({'trained_on': [own, mars]}))
    card = (exported(longer) / 'MODEL_CARD.md').read_text()
    assert 'random numbers' not in card and 'weights of another run, `runs/mars`. The terms of its data' in card
    assert '| weights it began with | those of another run, `runs/mars`, trained on `mars` |' in card
