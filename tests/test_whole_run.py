"""A whole run through main.run: what it leaves behind, and what a second one in its directory does."""

import dataclasses
import json
import shutil
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
from tests.helpers.failed_run import fails
from tests.helpers.micro import micro_config_dict, micro_raw

ROOT = Path(__file__).resolve().parents[1]
FIELDS = (
    'dataset split protocol step n_query n_query_valid n_gallery frames distance '
    'mAP mAP_trapezoidal rank_1 rank_5 rank_10 rank_20'
).split()


@pytest.fixture(scope='module')
def run(micro_data, tmp_path_factory):
    """(configuration, working directory) of a finished run."""
    workdir = tmp_path_factory.mktemp('run') / 'work'
    fields = {'training.eval_untrained': True, 'training.eval_every': 3, 'evaluation.strips': 2}
    fields |= {'dataset.validation_share': 0.34, 'batch.identities': 4, 'optimizer.ema': 0.5}
    config = micro_config_dict(micro_data, **fields)
    assert main.run(config, workdir, 'train') == 0
    return config, workdir


def test_a_run_leaves_results_embeddings_metrics_and_pictures(run):
    _, workdir = run
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    assert set(FIELDS) <= set(result)
    said = [result[field] for field in ('dataset', 'split', 'protocol', 'step')]
    assert said == ['micro', 'test', 'mars_official', 6]
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
        assert set(raw) == {'embedding', 'person_id', 'camera_id', 'tracklet', 'fingerprint'}
        assert raw['fingerprint'] == gallery.fingerprint == pvlad_jax.load(workdir).fingerprint
        assert raw['embedding'].shape == (8, 8) and raw['embedding'].dtype == np.float32
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    again = score(query, gallery, 'mars_official')
    assert again.mAP == pytest.approx(result['mAP'], abs=1e-6) and again.rank_1 == pytest.approx(result['rank_1'])


def test_a_learned_distance_is_evaluated_and_reported(run, tmp_path):
    config, workdir = run
    learned = config.copy_and_resolve_references()
    learned.evaluation.distance = 'kissme'
    out = tmp_path / 'out'
    assert main.run(learned, workdir, 'eval', output=out) == 0
    query, gallery, train = (read_embeddings(out / 'embeddings' / f'{r}.npz') for r in ('query', 'gallery', 'train'))
    result = json.loads((out / 'eval' / 'latest.json').read_text())
    again = score(query, gallery, 'mars_official', 'kissme', train=train)
    assert result['distance'] == 'kissme' and again.rank_1 == pytest.approx(result['rank_1'])


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
    # The last one counts, as in absl.
    assert main.with_saved_config(['main.py', '--workdir=a', '--mode=train', '--mode=eval', folder])[1] == given[1]
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
    (tmp_path / 'link').symlink_to(workdir)  # the same folder, not another training's
    assert main.run(config, tmp_path / 'link', 'eval', output=workdir) == 0
    capfd.readouterr()
    assert main.run(config, workdir, 'train', output=tmp_path / 'out') == 2
    assert '--output is for --mode=eval' in capfd.readouterr().err
    assert main.run(config, workdir, 'eval', output='') == 2
    assert '--output is empty' in capfd.readouterr().err
    (tmp_path / 'file').touch()
    assert main.run(config, workdir, 'eval', output=tmp_path / 'file') == 2
    assert 'is a file. Give another --output.' in capfd.readouterr().err


def test_pictures_of_a_former_evaluation_are_removed(run, tmp_path):
    config, workdir = run
    other, eval_folder = config.copy_and_resolve_references(), tmp_path / 'out' / 'eval'
    drawn = [eval_folder / name for name in ('ranked_strips.png', 'part_masks.png', 'codeword_use.json')]
    for strips in (2, 0):
        other.evaluation.strips = strips
        assert main.run(other, workdir, 'eval', output=tmp_path / 'out') == 0
        assert [path.is_file() for path in drawn] == [strips > 0] * 3


def test_a_report_shows_the_frames_of_the_data_set(run, tmp_path):
    pytest.importorskip('jinja2')
    config, workdir = run
    assert main.run(config, workdir, 'report', output=tmp_path / 'report') == 0
    text = (tmp_path / 'report' / 'index.html').read_text(encoding='utf-8')
    assert text.count('<section') == 8 and 'class="none"' not in text and 'part_masks.png' in text
    assert 'codewords are in use' in text and 'is missing' not in text
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


def test_another_configuration_leaves_the_run_alone(run, capfd):
    config, workdir = run
    before = sorted(p.name for p in (workdir / 'checkpoints').iterdir())
    other = config.copy_and_resolve_references()
    other.model.clusters = 2
    assert 'model.clusters: 3 before, 2 now' in fails(capfd, other, workdir)
    assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == before
