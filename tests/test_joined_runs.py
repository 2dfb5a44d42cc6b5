"""A run on joined data sets: trained, resumed, scored and passed on as any other, with a result of each data set."""

import json
import os
import shutil
import socket

import jax
import numpy as np
import pytest

import main
from configs import run as saved_run
from pvlad_jax.config import freeze
from pvlad_jax.evaluation import read_embeddings
from pvlad_jax.evaluation.result import METRICS
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import prepare
from tests.helpers.forked_run import start_micro
from tests.helpers.micro import build_micro, micro_config_dict
from tests.helpers.micro_joined import JOIN, build_joined, build_sharing

# SGD: Adam's first steps divide gradients by their own size and make any rounding of a zero visible.
FIELDS = {
    'dataset.name': JOIN,
    'dataset.validation_share': 0.34,
    'batch.sampling': 'balanced',
    'model.pooling': 'average',
    'optimizer.name': 'sgd',
    'training.steps': 4,
    'training.checkpoint_every': 1,
    'training.eval_every': 2,
    'checkpoint.keep_latest': 4,
    'evaluation.checkpoint': 'best',
}
NAMES = JOIN.split('+')


def config(data_dir, **fields):
    return micro_config_dict(data_dir, **{**FIELDS, **fields})


def read(workdir, name='latest') -> dict:
    return json.loads((workdir / 'eval' / f'{name}.json').read_text())


def state(settings, workdir):
    frozen = freeze(settings)
    checkpoints = Checkpoints(workdir / 'checkpoints', frozen.checkpoint, read_only=True)
    return gather_to_host(checkpoints.restore(prepare(frozen).state_shapes())[0])


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    return build_joined(tmp_path_factory.mktemp('joined') / 'data')


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
    """Of a finished run on eight devices."""
    folder = tmp_path_factory.mktemp('runs') / 'run'
    assert main.run(config(data_dir), folder, 'train') == 0
    return folder


def test_each_data_set_is_scored_by_its_own_protocol_and_the_mean_is_latest(workdir):
    latest, each = read(workdir), {name: read(workdir, name) for name in NAMES}
    assert latest['data_sets'] == each and latest == read(workdir, f'step_{latest["step"]}')
    assert [each[name]['protocol'] for name in NAMES] == ['mars_official', 'cross_camera']
    assert [each[name]['split'] for name in NAMES] == ['test', 'split 1']
    for metric in METRICS.values():
        assert latest[metric] == pytest.approx(np.mean([one[metric] for one in each.values()]))
    for name in NAMES:
        query = read_embeddings(workdir / 'embeddings' / name / 'query.npz')
        assert len(query.tracklet) == each[name]['n_query'] and not any('/' in tracklet for tracklet in query.tracklet)


def test_the_mean_over_validation_people_of_each_chooses_the_best(workdir):
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    scores = {}
    for step in (2, 4):
        of = {line['kind']: line['mAP'] for line in lines if line['step'] == step and 'mAP' in line}
        assert of.keys() == {f'{kind}{name}' for kind in ('eval', 'validation') for name in ('', '/left', '/right@1')}
        scores[step] = np.mean([of[f'validation/{name}'] for name in NAMES])
        assert of['validation'] == pytest.approx(scores[step])
    best = max(scores, key=lambda step: (scores[step], step))
    assert read(workdir)['step'] == best and 'best by validation mAP' in read(workdir)['checkpoint']


def test_eval_needs_the_working_directory_alone_and_shows_one_table(workdir, tmp_path, capfd):
    before = read(workdir)
    assert main.run(saved_run.get_config(str(workdir)), workdir, 'eval', output=tmp_path / 'out') == 0
    said = capfd.readouterr().out
    rows = [line.split()[1] for line in said.splitlines() if line.startswith('│')]
    assert rows == [*NAMES, 'mean']
    after = read(tmp_path / 'out')
    for name in NAMES:
        assert after['data_sets'][name]['mAP'] == pytest.approx(before['data_sets'][name]['mAP'])


LONG = pytest.mark.skipif('LONG_TESTS' not in os.environ, reason='half a minute; set LONG_TESTS=1 to run it')


@pytest.mark.parametrize(('processes', 'devices'), [(1, 1), pytest.param(2, 4, marks=LONG)])
def test_one_device_or_two_processes_equal_eight_devices(data_dir, workdir, tmp_path, processes, devices):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    several = ('--coordinator', address, '--num_processes', str(processes), '--process_id')
    runs = [
        start_micro(
            data_dir, tmp_path / 'run', *((*several, str(i)) if processes > 1 else ()), fields=FIELDS, devices=devices
        )
        for i in range(processes)
    ]
    for run in runs:
        said = run.communicate(timeout=300)
        assert run.returncode == 0, said
    for a, b in zip(
        *(jax.tree.leaves(state(config(data_dir), folder).params) for folder in (workdir, tmp_path / 'run'))
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)
    for name in NAMES:
        assert read(tmp_path / 'run', name)['n_query'] == read(workdir, name)['n_query']


def test_resumed_equals_uninterrupted(data_dir, workdir, tmp_path, capfd):
    shutil.copytree(workdir, tmp_path / 'run')
    for step in ('2', '3', '4'):
        shutil.rmtree(tmp_path / 'run' / 'checkpoints' / step)
    assert main.run(config(data_dir), tmp_path / 'run', 'train') == 0
    assert 'after step 1 of 4' in capfd.readouterr().out
    for a, b in zip(*(jax.tree.leaves(state(config(data_dir), folder)) for folder in (workdir, tmp_path / 'run'))):
        np.testing.assert_array_equal(a, b)
    assert read(tmp_path / 'run') == read(workdir)


def test_a_longer_run_goes_on(data_dir, workdir, tmp_path, capfd):
    shutil.copytree(workdir, tmp_path / 'run')
    assert main.run(config(data_dir, **{'training.steps': 5}), tmp_path / 'run', 'train') == 0
    assert 'after step 4 of 5' in capfd.readouterr().out and 'data_sets' in read(tmp_path / 'run')


def test_a_rebuilt_data_set_is_noticed_and_named(data_dir, workdir, tmp_path, capfd):
    shutil.copytree(data_dir, tmp_path / 'data')
    assert main.run(config(tmp_path / 'data'), workdir, 'eval', output=tmp_path / 'copied') == 0
    shutil.rmtree(tmp_path / 'data' / 'left')
    build_micro(tmp_path / 'data', name='left', people=5, seed=2)
    for mode in ('train', 'eval'):
        assert main.run(config(tmp_path / 'data'), workdir, mode) == 2
        assert "trained on: in 'left', the same labels as before, but other frames" in capfd.readouterr().err


def test_its_test_people_may_be_tested_on_and_others_are_known(data_dir, workdir, tmp_path, capfd):
    given = saved_run.get_config(str(workdir))
    given.evaluation.dataset, given.evaluation.checkpoint = 'right@1,left', 'last'
    assert main.run(given, workdir, 'eval', output=tmp_path / 'out') == 0
    assert 'left (its own)' in capfd.readouterr().out
    given.evaluation.dataset = 'right@2'
    assert main.run(given, workdir, 'eval', output=tmp_path / 'out') == 2
    assert "of the test set of 'right' (split 2) are trained on" in capfd.readouterr().err
    given.evaluation.dataset = JOIN
    assert main.run(given, workdir, 'eval', output=tmp_path / 'out') == 2
    assert 'Separate them by commas' in capfd.readouterr().err


def test_other_runs_begin_with_its_weights_and_know_its_people(data_dir, workdir, tmp_path, capfd):
    fields = {'dataset.name': 'right', 'dataset.split': '2', 'init_from': str(workdir), 'training.steps': 1}
    alone = {'batch.sampling': 'proportional', 'evaluation.checkpoint': 'last', 'dataset.validation_share': 0.0}
    assert main.run(config(data_dir, **alone, **fields), tmp_path / 'new', 'train') == 2
    assert 'are trained on, by this run or by the one that it began with' in capfd.readouterr().err
    accepted = config(data_dir, **alone, **fields, **{'evaluation.trained_people': 'accept'})
    assert main.run(accepted, tmp_path / 'new', 'train') == 0
    trained_on = json.loads((tmp_path / 'new' / 'data.json').read_text())['trained_on']
    assert [(one['data_set'], one['inherited']) for one in trained_on] == [
        ('right', False),
        ('left', True),
        ('right', True),
    ]
    fields = {'init_from': str(tmp_path / 'new'), 'training.steps': 1, 'dataset.name': 'left+right@0'}
    assert main.run(config(data_dir, **fields), tmp_path / 'joined', 'train') == 2
    assert "Of the joined data sets, 'right@0': " in capfd.readouterr().err


def test_export_and_report_show_each_data_set(workdir, tmp_path):
    pytest.importorskip('jinja2', reason='reports need Jinja2')
    given = saved_run.get_config(str(workdir))
    assert main.run(given, workdir, 'export', output=tmp_path / 'export') == 0
    card = (tmp_path / 'export' / 'MODEL_CARD.md').read_text()
    assert all(f'On `{name}`' in card for name in ('left', 'right')) and 'cross\\_camera' in card
    manifest = json.loads((tmp_path / 'export' / 'model.json').read_text())
    assert manifest['evaluation'] is None and len(manifest['evaluations']) == 2
    for _ in range(2):  # a former one is replaced
        assert main.run(given, workdir, 'report', output=tmp_path / 'report') == 0
    assert {path.parent.name for path in (tmp_path / 'report').glob('*/index.html')} == set(NAMES)


def test_test_people_of_one_in_the_training_set_of_another_are_refused_or_counted(data_dir, tmp_path, capfd):
    shutil.copytree(data_dir, tmp_path / 'data')
    build_sharing(tmp_path / 'data')
    fields = {'dataset.name': 'left+seen', 'dataset.validation_share': 0.0, 'evaluation.checkpoint': 'last'}
    fields |= {'training.steps': 1, 'training.eval_every': 0}
    assert main.run(config(tmp_path / 'data', **fields), tmp_path / 'run', 'train') == 2
    assert 'accept it with --config.evaluation.trained_people=accept' in capfd.readouterr().err
    assert not (tmp_path / 'run' / 'config.json').exists()
    accepting = config(tmp_path / 'data', **fields, **{'evaluation.trained_people': 'accept'})
    assert main.run(accepting, tmp_path / 'run', 'train') == 0
    assert read(tmp_path / 'run', 'left')['trained_people'] == 2 == read(tmp_path / 'run')['trained_people']
    assert read(tmp_path / 'run', 'seen')['trained_people'] == 0
    assert main.run(config(tmp_path / 'data', **fields), tmp_path / 'run', 'eval') == 2
    assert "2 of the 4 people of the test set of 'left' (test) are trained on" in capfd.readouterr().err
