"""All splits by one command: the same as each alone, done once, taken up after a stop, shared between processes."""

import dataclasses
import json
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import main
from data_prep.import_weights import write_weights
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import EXIT_PREEMPTED, UserError
from pvlad_jax.evaluation import Result, read_embeddings
from pvlad_jax.evaluation.mean_of_splits import mean_of_splits
from pvlad_jax.evaluation.result import METRICS
from pvlad_jax.runs.splits import DONE, all_splits
from pvlad_jax.runs.workdir import InUse, claim, write_config
from tests.helpers.forked_run import start_micro
from tests.helpers.micro import micro_config_dict
from tests.helpers.micro_splits import SPLITS, build_micro_splits
from tests.helpers.small_image_networks import register, weights_2d

ROOT = Path(__file__).resolve().parents[1]
NAMES = [str(i) for i in range(len(SPLITS))]
FIELDS = {
    'dataset.name': 'micro_splits',
    'training.steps': 2,
    'training.checkpoint_every': 1,
    'dataset.split': 'all',
    'model.pooling': 'average',  # which is traced in a third of the time: eleven trainings
}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    build_micro_splits(folder)
    return folder


def latest(workdir: Path) -> dict:
    return json.loads((workdir / 'eval' / 'latest.json').read_text())


def result(split: str, value: float = 0.5, **fields) -> Result:
    return Result(
        **{
            'dataset': 'd',
            'split': f'split {split}',
            'protocol': 'cross_camera',
            'step': 2,
            'n_query': 6,
            'n_query_valid': 6,
            'n_gallery': 6,
            'n_junk': 0,
            'frames': 'all',
            'distance': 'cosine',
            'rerank': False,
            'cmc': [value] * 50,
            **dict.fromkeys(METRICS.values(), value),
            **fields,
        }
    )


class FakeRuns:
    """Stands for training: leaves a checkpoint's folder as a real run does, and counts who did what."""

    def __init__(self, seconds: float = 0.0, fails_at: str = ''):
        self.seconds, self.fails_at, self.begun, self.at_once, self._lock = seconds, fails_at, [], {}, threading.Lock()
        self.trains = True

    def __call__(self, config, folder) -> Result:
        split = config.dataset.split
        with self._lock:
            self.begun.append(split)
            self.at_once[split] = self.at_once.get(split, 0) + 1
            assert self.at_once[split] == 1, f'two work on split {split}'
        time.sleep(self.seconds)
        if self.trains:
            (folder / 'checkpoints' / str(config.training.steps)).mkdir(parents=True, exist_ok=True)
            write_config(folder, config)
        with self._lock:
            self.at_once[split] -= 1
        if split == self.fails_at:
            raise KeyboardInterrupt
        return result(split, int(split) / 10)


@pytest.fixture(scope='module')
def everything(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('all') / 'run'
    config = micro_config_dict(data_dir, **FIELDS)
    assert main.run(config, workdir, 'train') == 0
    return config, workdir


def test_all_is_each_alone(everything, data_dir, tmp_path):
    _, workdir = everything
    alone = micro_config_dict(data_dir, **{**FIELDS, 'dataset.split': '1'})
    assert main.run(alone, tmp_path / 'one', 'train') == 0
    of_all, of_one = latest(workdir)['splits']['1'], latest(tmp_path / 'one')
    assert of_all == of_one and of_one['split'] == 'split 1' and of_one['n_query'] == of_one['n_gallery'] == 6
    for role in ('query', 'gallery'):
        a, b = (read_embeddings(w / 'embeddings' / f'{role}.npz') for w in (workdir / 'split_1', tmp_path / 'one'))
        np.testing.assert_array_equal(a.embedding, b.embedding)


def test_the_report_is_the_mean_of_the_splits(everything):
    _, workdir = everything
    report = latest(workdir)
    each = [latest(workdir / f'split_{n}') for n in NAMES]
    assert [report['splits'][n] for n in NAMES] == each
    for name in METRICS.values():
        values = [r[name] for r in each]
        assert report[name] == report['mean'][name] == pytest.approx(sum(values) / 3)
        assert report['std'][name] == pytest.approx((sum((v - report[name]) ** 2 for v in values) / 2) ** 0.5)
    assert (report['protocol'], report['split'], report['convention']) == (
        'cross_camera',
        'mean of 3 splits',
        'halves as the table of splits has them',
    )
    assert 'n - 1' in report['std_kind']


def test_given_again_it_only_reports_and_eval_follows_its_settings(everything, capfd):
    config, workdir = everything
    before = latest(workdir)
    for mode in ('train', 'eval'):
        assert main.run(config, workdir, mode) == 0
        said = capfd.readouterr().out
        assert 'not done again: split 0, 1, 2' in said and 'mean' in said and 'Resuming' not in said
        assert latest(workdir) == before
    other = config.copy_and_resolve_references()
    other.evaluation.frames = 'first:1'
    assert main.run(other, workdir, 'eval') == 0
    assert latest(workdir)['frames'] == 'first:1' and all(
        r['frames'] == 'first:1' for r in latest(workdir)['splits'].values()
    )
    assert main.run(config, workdir, 'eval') == 0
    assert latest(workdir) == before


def test_splits_are_scored_again_where_a_result_may_be_another(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / 'data')
    runs = FakeRuns()

    def done(mode='eval', **fields) -> list[str]:
        runs.begun.clear()
        config = freeze(micro_config_dict(tmp_path / 'data', **{**FIELDS, **fields}))
        all_splits(config, tmp_path / 'run', mode, runs, lambda text: None)
        return runs.begun

    assert done('train') == NAMES and done() == []
    for other in ({'flip': True}, {'frames': 'first:1'}, {'distance': 'euclidean'}, {'rerank': True}):
        assert done(**{f'evaluation.{name}': value for name, value in other.items()}) == NAMES
    assert done() == NAMES and done(**{'evaluation.strips': 0, 'evaluation.trained_people': 'accept'}) == []
    (path,) = (tmp_path / 'data').rglob('*.array_record-*')
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    next((tmp_path / 'data').rglob('content.json')).unlink()
    assert done(**{'dataset.on_change': 'accept'}) == NAMES


def test_an_untrained_network_is_scored_again_with_other_weights(data_dir, tmp_path, monkeypatch):
    register(monkeypatch)
    drawn = weights_2d('small_resnet')
    name, first = next(iter(drawn.tensors.items()))
    other = dataclasses.replace(drawn, tensors={**drawn.tensors, name: first + 1})
    files = {'': ''}
    for file, weights in {'a': drawn, 'a_again': drawn, 'b': other}.items():
        files[file] = str(write_weights(weights, tmp_path / f'{file}.safetensors'))
    runs, begun = FakeRuns(), []
    runs.trains = False
    fields = {**FIELDS, 'model.backbone.name': 'small_resnet', 'evaluation.checkpoint': 'untrained'}
    for file, inflation in (
        ('a', 'centre'),
        ('a', 'centre'),
        ('a_again', 'centre'),
        ('b', 'centre'),
        ('b', 'mean'),
        ('', 'mean'),
    ):
        backbone = {'model.backbone.weights': files[file], 'model.backbone.inflation': inflation}
        runs.begun.clear()
        config = freeze(micro_config_dict(data_dir, **fields, **backbone))
        all_splits(config, tmp_path / 'run', 'eval', runs, lambda text: None)
        begun.append(list(runs.begun))
    assert begun == [NAMES, [], [], NAMES, NAMES, NAMES]


def test_the_folder_belongs_to_one_configuration(everything, capfd):
    config, workdir = everything
    for field, value in (('model.embedding_dim', 2), ('dataset.split', '1')):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({field: value})
        assert main.run(other, workdir, 'train') == 2
        assert f'{field}: ' in capfd.readouterr().err


def test_a_data_set_without_splits_is_told(micro_data, tmp_path, capfd):
    assert main.run(micro_config_dict(micro_data, **{'dataset.split': 'all'}), tmp_path / 'run', 'train') == 2
    assert "'micro' has no splits to go through" in capfd.readouterr().err


def test_nothing_to_evaluate_is_told(data_dir, tmp_path, capfd):
    assert main.run(micro_config_dict(data_dir, **FIELDS), tmp_path / 'run', 'eval') == 2
    assert 'holds no checkpoint to evaluate' in capfd.readouterr().err


def test_a_stop_loses_no_split(data_dir, tmp_path):
    config, said = freeze(micro_config_dict(data_dir, **FIELDS)), []
    with pytest.raises(KeyboardInterrupt):
        all_splits(config, tmp_path / 'run', 'train', FakeRuns(fails_at='1'), said.append)
    assert not (tmp_path / 'run' / 'eval' / 'latest.json').exists()
    again = FakeRuns()
    report = all_splits(config, tmp_path / 'run', 'train', again, said.append)
    assert again.begun == ['1', '2'] and report['rank_1'] == pytest.approx(0.1)


def test_a_longer_training_is_not_done_by_a_shorter(data_dir, tmp_path):
    """A split scored at an earlier step by mode eval does not count as trained, and newer checkpoints are scored
    again.
    """
    config, runs = freeze(micro_config_dict(data_dir, **FIELDS)), FakeRuns()
    all_splits(config, tmp_path / 'run', 'train', runs, lambda text: None)
    (tmp_path / 'run' / 'split_2' / 'checkpoints' / '2').rename(tmp_path / 'run' / 'split_2' / 'checkpoints' / '1')
    for mode in ('eval', 'train'):
        runs.begun.clear()
        runs.trains = mode == 'train'
        all_splits(config, tmp_path / 'run', mode, runs, lambda text: None)
        assert runs.begun == ['2']
    (tmp_path / 'run' / 'split_0' / DONE).write_text('{"evaluation": ')  # cut off
    runs.begun.clear()
    all_splits(config, tmp_path / 'run', 'train', runs, lambda text: None)
    assert runs.begun == ['0']


def test_two_share_the_splits(data_dir, tmp_path):
    """Each split is done once, by one of them; whoever ends last reports, and the report is there."""
    config, runs, reports = freeze(micro_config_dict(data_dir, **FIELDS)), FakeRuns(seconds=0.1), {}

    def work(who):
        reports[who] = all_splits(config, tmp_path / 'run', 'train', runs, lambda text: None)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(runs.begun) == NAMES
    assert any(reports.values()) and latest(tmp_path / 'run')['mAP'] == pytest.approx(0.1)


def test_real_runs_are_stopped_locked_and_taken_up(data_dir, tmp_path, capfd):
    """A process is stopped in the midst of split 0; the next resumes it, leaves split 1, which is held, and the last
    ends it.
    """
    workdir, fields = tmp_path / 'run', {**FIELDS, 'training.steps': 4}
    stopped = start_micro(data_dir, workdir, '--step_seconds', '0.5', fields=fields, devices=8)
    while not list(workdir.glob('split_0/checkpoints/2')):
        assert stopped.poll() is None, stopped.communicate()
        time.sleep(0.02)
    with pytest.raises(InUse, match='is using'):
        claim(workdir / 'split_0')
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == EXIT_PREEMPTED

    config = micro_config_dict(data_dir, **fields)
    with claim(workdir / 'split_1'):
        assert main.run(config, workdir, 'train') == 0
    said = capfd.readouterr().out
    assert (
        'split_0 after step' in said
        and 'Split 2 of' in said
        and 'Split 1 of' not in said
        and 'Other processes work on split 1' in said
    )
    assert not (workdir / 'eval' / 'latest.json').exists()
    assert main.run(config, workdir, 'train') == 0
    said = capfd.readouterr().out
    assert 'not done again: split 0, 2' in said and 'Split 1 of' in said
    assert set(latest(workdir)['splits']) == set(NAMES) and all(
        r['step'] == 4 for r in latest(workdir)['splits'].values()
    )


def test_splits_scored_differently_have_no_mean():
    report = mean_of_splits({'0': result('0', 0.2).to_json(), '1': result('1', 0.4).to_json()})
    assert report['std']['mAP'] == pytest.approx(0.02**0.5) and report['cmc'] == pytest.approx([0.3] * 50)
    with pytest.raises(UserError, match='frames differ'):
        mean_of_splits({'0': result('0').to_json(), '1': result('1', frames='first:1').to_json()})
