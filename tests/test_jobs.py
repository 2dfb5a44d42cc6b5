"""A whole run through main.run: what it leaves behind, and how a user's mistakes end."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
import pvlad_jax
from configs import run as saved_run
from data_prep.builder.build import build
from pvlad_jax.config import freeze
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation import read_embeddings, score
from pvlad_jax.images import decode_image
from tests.helpers.micro import micro_config_dict, micro_raw

ROOT = Path(__file__).resolve().parents[1]
FIELDS = (
    'dataset',
    'split',
    'protocol',
    'step',
    'n_query',
    'n_query_valid',
    'n_gallery',
    'frames',
    'distance',
    'mAP',
    'mAP_trapezoidal',
    'rank_1',
    'rank_5',
    'rank_10',
    'rank_20',
)


@pytest.fixture(scope='module')
def run(micro_data, tmp_path_factory):
    """(configuration, working directory) of a finished run."""
    workdir = tmp_path_factory.mktemp('run') / 'work'
    config = micro_config_dict(
        micro_data,
        **{
            'training.eval_untrained': True,
            'training.eval_every': 3,
            'evaluation.strips': 2,
            'dataset.validation_share': 0.34,
            'batch.people': 4,
            'optimizer.ema': 0.5,
        },
    )
    assert main.run(config, workdir, 'train') == 0
    return config, workdir


def test_a_run_leaves_results_embeddings_metrics_and_pictures(run):
    _, workdir = run
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    assert set(FIELDS) <= set(result)
    assert (result['dataset'], result['split'], result['protocol'], result['step']) == (
        'micro',
        'test',
        'mars_official',
        6,
    )
    assert (result['n_query'], result['n_query_valid'], result['n_gallery'], result['frames']) == (8, 8, 16, 'all')
    assert (
        0 <= result['mAP'] <= 1 and result['rank_1'] <= result['rank_5'] <= result['rank_10'] <= result['rank_20'] <= 1
    )
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [(x['kind'], x['step']) for x in lines if x['kind'] == 'eval'] == [('eval', 0), ('eval', 3), ('eval', 6)]
    assert [x['step'] for x in lines if x['kind'] == 'train'] == [1, 2, 3, 4, 5, 6]
    waits = [x['input_wait'] for x in lines if x['kind'] == 'train']
    assert waits[0] == 0 and all(0 <= share < 1 for share in waits) and max(waits) > 0
    assert [x['step'] for x in lines if x['kind'] == 'validation'] == [0, 3, 6]
    assert list((workdir / 'tensorboard').iterdir())
    assert (workdir / 'eval' / 'ranked_strips.png').read_bytes()[:4] == b'\x89PNG'


def test_embeddings_are_what_was_scored(run):
    _, workdir = run
    query, gallery = (read_embeddings(workdir / 'embeddings' / f'{role}.npz') for role in ('query', 'gallery'))
    with np.load(workdir / 'embeddings' / 'query.npz', allow_pickle=False) as raw:
        assert set(raw) == {'embedding', 'person_id', 'camera_id', 'tracklet'}
        assert raw['embedding'].shape == (8, 8) and raw['embedding'].dtype == np.float32
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    again = score(query, gallery, 'mars_official')
    assert again.mAP == pytest.approx(result['mAP'], abs=1e-6) and again.rank_1 == pytest.approx(result['rank_1'])


def test_the_working_directory_is_all_that_the_library_needs(run, micro_data):
    _, workdir = run
    model, dataset = pvlad_jax.load(workdir), TrackletDataset.open(str(micro_data), 'micro')
    tracklets = [
        [decode_image(image) for image in dataset.read('query', row).frames]
        for row in range(len(dataset.tables['query']))
    ]
    expected = read_embeddings(workdir / 'embeddings' / 'query.npz').embedding
    np.testing.assert_allclose(model.embed_many(tracklets), expected, atol=1e-5)


def test_eval_scores_the_last_checkpoint_again(run, capfd):
    config, workdir = run
    before = json.loads((workdir / 'eval' / 'latest.json').read_text())
    assert main.run(config, workdir, 'eval') == 0
    assert json.loads((workdir / 'eval' / 'latest.json').read_text()) == before
    assert 'rank-1' in capfd.readouterr().out


def test_the_working_directory_holds_the_configuration(run):
    config, workdir = run
    given = main.with_saved_config(['main.py', '--mode', 'eval', f'--workdir={workdir}'])
    assert given[1] == f'--config={ROOT / "configs" / "run.py"}:{workdir}' and given[2:] == [
        '--mode',
        'eval',
        f'--workdir={workdir}',
    ]
    assert freeze(saved_run.get_config(str(workdir))) == freeze(config)
    folder = f'--workdir={workdir}'
    assert (
        main.with_saved_config(['main.py', '--workdir=a', '--mode=train', '--mode=eval', folder])[1] == given[1]
    )  # the last, as absl
    for arguments in (['--mode=train', folder], ['--mode=eval', folder, '--config=mine.py'], ['--mode=eval']):
        assert main.with_saved_config(['main.py', *arguments]) == ['main.py', *arguments]


def test_an_evaluation_with_an_output_leaves_the_run_as_it_is(run, tmp_path, capfd):
    config, workdir = run

    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in workdir.rglob('*')}

    (workdir / 'data.json').write_text(json.dumps(json.loads((workdir / 'data.json').read_text()) | {'checked': []}))
    before = state()
    assert main.run(saved_run.get_config(str(workdir)), workdir, 'eval', output=tmp_path / 'out') == 0
    assert state() == before
    first, second = (
        json.loads((folder / 'eval' / 'latest.json').read_text()) for folder in (workdir, tmp_path / 'out')
    )
    assert first == second and (tmp_path / 'out' / 'embeddings' / 'query.npz').is_file()
    capfd.readouterr()
    assert main.run(config, workdir, 'train', output=tmp_path / 'out') == 2
    assert '--output is for --mode=eval' in capfd.readouterr().err
    assert main.run(config, workdir, 'eval', output='') == 2
    assert '--output is empty' in capfd.readouterr().err
    (tmp_path / 'file').touch()
    assert main.run(config, workdir, 'eval', output=tmp_path / 'file') == 2
    assert 'is a file. Give another --output.' in capfd.readouterr().err


@pytest.mark.parametrize('content', ['[1]', '{"model'])
def test_a_damaged_configuration_in_the_working_directory_is_told(micro_data, tmp_path, capfd, content):
    (tmp_path / 'config.json').write_text(content)
    assert 'config.json is damaged' in fails(capfd, micro_config_dict(micro_data), tmp_path)


def test_a_report_shows_the_frames_of_the_data_set(run, tmp_path):
    pytest.importorskip('jinja2')
    config, workdir = run
    assert main.run(config, workdir, 'report', output=tmp_path / 'report') == 0
    text = (tmp_path / 'report' / 'index.html').read_text(encoding='utf-8')
    assert text.count('<section') == 8 and 'class="none"' not in text and 'part_masks.png' in text
    assert len(list((tmp_path / 'report' / 'pictures').iterdir())) >= 8


def test_other_data_sets_are_scored_beside_the_own_one(run, micro_data, tmp_path, capfd):
    """By its name, the own one gives the own result; one without train is enough; the run is only read."""
    _, workdir = run
    shutil.copytree(micro_data / 'micro', tmp_path / 'data' / 'micro')
    strangers = micro_raw(name='strangers', seed=3)
    build(
        dataclasses.replace(strangers, splits={role: strangers.splits[role] for role in ('query', 'gallery')}),
        tmp_path / 'data',
        workers=1,
        progress=False,
    )
    config = saved_run.get_config(str(workdir))
    config.dataset.data_dir, config.evaluation.dataset, out = (
        str(tmp_path / 'data'),
        'micro,strangers',
        tmp_path / 'out',
    )
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob('*')}
    assert main.run(config, workdir, 'eval', output=out) == 0
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob('*')} == before and not (
        out / 'eval' / 'latest.json'
    ).exists()
    own, again, other = (
        json.loads(path.read_text())
        for path in (workdir / 'eval' / 'latest.json', out / 'eval' / 'micro.json', out / 'eval' / 'strangers.json')
    )
    assert again == own and (other['dataset'], other['n_query'], other['step']) == ('strangers', 8, 6)
    for name, result in (('micro', again), ('strangers', other)):
        query, gallery = (read_embeddings(out / 'embeddings' / name / f'{role}.npz') for role in ('query', 'gallery'))
        assert score(query, gallery, 'mars_official').mAP == pytest.approx(result['mAP'], abs=1e-6)
        assert (out / 'eval' / name / 'ranked_strips.png').is_file()
    said = capfd.readouterr().out
    assert 'micro (its own)' in said and said.rstrip().count('strangers') > 1
    assert 'no training people, so it can only be tested on' in fails(
        capfd, micro_config_dict(tmp_path / 'data', **{'dataset.name': 'strangers'}), tmp_path / 'new'
    )


def test_a_finished_run_given_again_only_reports(run, capfd):
    config, workdir = run
    before = (workdir / 'metrics.jsonl').read_text().splitlines()
    assert main.run(config, workdir, 'train') == 0
    assert 'after step 6 of 6' in capfd.readouterr().out
    assert (workdir / 'metrics.jsonl').read_text().splitlines()[: len(before)] == before


def fails(capfd, config, workdir, mode='train') -> str:
    """The message of a run that must end with exit code 2 and no traceback."""
    assert main.run(config, workdir, mode) == 2
    said = capfd.readouterr()
    assert said.err.startswith('Error: ') and 'Traceback' not in said.err + said.out
    return said.err


def test_mistakes_in_the_data_set_are_told(micro_data, tmp_path, capfd):
    assert 'No data set' in fails(capfd, micro_config_dict(tmp_path / 'nowhere'), tmp_path / 'a')
    shutil.copytree(micro_data / 'micro', tmp_path / 'data' / 'micro')
    metadata = next((tmp_path / 'data' / 'micro').glob('*/metadata.json'))
    intact = metadata.read_text()
    metadata.write_text(intact.replace('"format_version": 1', '"format_version": 99'))
    assert 'data format 99' in fails(capfd, micro_config_dict(tmp_path / 'data'), tmp_path / 'b')
    metadata.write_text(intact)
    table = next((tmp_path / 'data' / 'micro').glob('*/tracklets_train.npz'))
    table.write_bytes(table.read_bytes()[:100])
    assert 'tracklets_train.npz cannot be read' in fails(capfd, micro_config_dict(tmp_path / 'data'), tmp_path / 'c')


def test_one_person_is_an_error_and_one_tracklet_is_not(tmp_path, capfd):
    whole = micro_raw(people=3)
    for name, train in (
        ('alone', [t for t in whole.splits['train'] if t.person_id == 1]),
        ('single', [t for t in whole.splits['train'] if t.person_id > 1 or t.name == 'p1c1t1']),
    ):
        raw = type(whole)(**{**vars(whole), 'name': name, 'splits': {**whole.splits, 'train': train}})
        build(raw, tmp_path, workers=1, progress=False)
    config = micro_config_dict(tmp_path, **{'dataset.name': 'alone', 'batch.people': 2, 'batch.tracklets': 4})
    assert 'holds 1 person' in fails(capfd, config, tmp_path / 'a')
    config = micro_config_dict(
        tmp_path,
        **{'dataset.name': 'single', 'batch.people': 2, 'batch.tracklets': 4, 'training.steps': 2, 'augment.flip': 0.0},
    )
    assert main.run(config, tmp_path / 'b', 'train') == 0


@pytest.mark.parametrize(
    ('fields', 'says'),
    [
        ({'model.pooling': 'vlad'}, "model.pooling = 'vlad' is unknown; choose one of: person_vlad"),
        ({'model.backbone.name': 'resnet'}, "'resnet'"),
        ({'model.backbone.weights': 'none.safetensors'}, 'none.safetensors (config.model.backbone.weights)'),
        ({'clips.height': 2}, 'smaller than the stride'),
        ({'batch.people': 32}, 'holds 6 people'),
        ({'batch.people': 3, 'batch.tracklets': 2}, 'cannot be split evenly over 8'),
        ({'evaluation.clips_per_step': 12}, 'cannot be split evenly over 8'),
        ({'model.words': 5000}, 'words'),
        ({'dataset.split': '7'}, "split = '7'"),
        ({'loss.identity': -1.0}, 'must not be negative'),
        ({'training.steps': 0}, 'at least 1'),
        ({'augment.erase_area': (3,)}, 'two shares'),
        ({'augment.flip': 1.5}, 'must lie in [0, 1]'),
        ({'input.prefetch': -1}, 'must not be negative'),
        ({'mesh.data': 3}, 'does not fit 8 device'),
        ({'dataset.validation_share': 0.99}, 'validation_share'),
    ],
)
def test_fields_that_do_not_fit_are_told(micro_data, tmp_path, capfd, fields, says):
    assert says in fails(capfd, micro_config_dict(micro_data, **fields), tmp_path / 'run')
    assert not list((tmp_path / 'run').glob('checkpoints/*'))


def test_another_configuration_leaves_the_run_alone(run, capfd):
    config, workdir = run
    before = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
    other = config.copy_and_resolve_references()
    other.model.words = 2
    assert 'model.words: 3 before, 2 now' in fails(capfd, other, workdir)
    assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == before


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
        (['--config=configs/synthetic.py'], '--workdir=... must be given'),
        (['--config=configs/synthetic.py', '--workdir=w', '--mode=test'], 'train|eval'),
    ],
)
def test_mistakes_on_the_command_line_are_told(arguments, says):
    ended = subprocess.run(
        [sys.executable, 'main.py', *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and says in ended.stderr and 'Traceback' not in ended.stderr, ended.stderr
