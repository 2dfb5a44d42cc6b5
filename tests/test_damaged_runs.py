"""The files of a working directory, damaged in any way: one sentence that names the file, or it is left out where the
program can do without, and nothing else is lost.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pvlad_jax.config import CheckpointConfig, Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.folder_lock import Locked, lock_folder
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation import Result, write_result
from pvlad_jax.evaluation.mean_of_data_sets import MeanResult, read_data_sets
from pvlad_jax.evaluation.mean_of_splits import mean_of_splits
from pvlad_jax.evaluation.result import METRICS, protocol_line, read_result
from pvlad_jax.evaluation.side_by_side import print_side_by_side
from pvlad_jax.report.codeword_use import codeword_use, read_codeword_use, write_codeword_use
from pvlad_jax.report.page import _charts
from pvlad_jax.report.query_outcomes import QueryOutcomes
from pvlad_jax.runs import splits
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.checkpoint_digests import DIGESTS
from pvlad_jax.runs.metric_writer import MetricWriter
from pvlad_jax.runs.other_datasets import _own
from pvlad_jax.runs.report import _history
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.workdir import (
    check_config,
    fields_at_start,
    planned_ends,
    record_more_steps,
    saved_config,
    write_config,
)
from tests.helpers.damaged_files import TEXTS, told_or_read
from tests.helpers.micro import micro_config
from tests.helpers.micro_splits import build_micro_splits
from tests.helpers.small_models import copied, write_workdir

KEEP = CheckpointConfig(keep_latest=1, keep_best=1)


def result(**fields) -> Result:
    said = {'dataset': 'd', 'split': 'test', 'protocol': 'p', 'step': 2, 'frames': 'all', 'distance': 'cosine'}
    counts = dict.fromkeys(('n_query', 'n_query_valid', 'n_gallery', 'n_junk'), 6)
    return Result(**{**said, **counts, **dict.fromkeys(METRICS.values(), 0.5), 'rerank': False, 'cmc': [0.5], **fields})


@pytest.fixture(scope='module')
def work(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('work') / 'run')


@pytest.fixture(scope='module')
def split_data(tmp_path_factory) -> Path:
    return build_micro_splits(tmp_path_factory.mktemp('splits'))


def test_data_json(micro_data, tmp_path):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    data = RunData(tmp_path, dataset, 6)
    data.was_trained_on([{'data_set': 'a', 'labels': 'b', 'people': ['1'], 'inherited': False}])
    data.write()
    whole = (tmp_path / 'data.json').read_bytes()

    def read():
        data = RunData(tmp_path, dataset, 6, read_only=True)
        data.check(data.now.to_json(), 'accept', lambda text: None)
        data.was_trained_on([])
        data.mark_checked('everything')

    told_or_read(tmp_path / 'data.json', read, r'data\.json is damaged \(.*Restore it, or remove it', 'The data set')
    for name, value in (('fingerprint', []), ('accepted', 3), ('checked', 3), ('trained_on', [{'people': 3}])):
        (tmp_path / 'data.json').write_text(json.dumps({**json.loads(whole), name: value}))
        with pytest.raises(UserError, match=rf'data\.json is damaged \(.* at `\$\.{name}'):
            RunData(tmp_path, dataset, 6)
        assert json.loads((tmp_path / 'data.json').read_bytes())[name] == value  # left for who may mend it


def test_config_json(work, tmp_path):
    folder = copied(work, tmp_path / 'run')
    record_more_steps(folder, more_steps(saved_config(work)), 2)
    few = ('training.', 'augment.', 'dataset.', 'model.parts', 'clips.', 'history')
    fields = json.loads((folder / 'config.json').read_text())
    fields = {name: value for name, value in fields.items() if name.startswith(few)}
    (folder / 'config.json').write_text(json.dumps(fields))
    (tmp_path / 'other').mkdir()
    config = saved_config(folder)

    def read():
        saved_config(folder)
        planned_ends(folder)
        fields_at_start(folder)
        check_config(folder, more_steps(config))
        shutil.copy(folder / 'config.json', tmp_path / 'other')
        record_more_steps(tmp_path / 'other', more_steps(config), 2)

    says = r'config\.json is damaged \(.*Restore it from a copy'
    told_or_read(folder / 'config.json', read, says, folder)


def test_checkpoints_without_their_configuration_are_of_no_known_run(work, tmp_path):
    folder = copied(work, tmp_path / 'run')
    config = saved_config(folder)
    (folder / 'config.json').unlink()
    with pytest.raises(UserError, match=r'run holds checkpoints, but no config\.json.*Restore that file .* --workdir'):
        check_config(folder, config)
    shutil.rmtree(folder / 'checkpoints')
    check_config(folder, config)


def more_steps(config: Config) -> Config:
    training = config.training
    return dataclasses.replace(config, training=dataclasses.replace(training, steps=training.steps + 5))


def test_what_a_checkpoint_says_of_itself(work, tmp_path):
    folder = copied(work / 'checkpoints', tmp_path / 'checkpoints')

    def read():
        checkpoints = Checkpoints(folder, KEEP, read_only=True)
        try:
            about = checkpoints.about(checkpoints.latest_step())
            assert about['data']['next_index'] >= -1
        finally:
            checkpoints.close()

    (folder / '2' / DIGESTS).unlink()
    (path,) = (folder / '2' / 'about').rglob('metadata')
    path.write_text(json.dumps({**json.loads(path.read_text()), 'config': {}}))
    told_or_read(path, read, 'does not fit this network or is damaged', folder)


def test_what_an_evaluation_has_added_to_a_checkpoint(work, tmp_path):
    folder = copied(work / 'checkpoints', tmp_path / 'checkpoints')
    path = folder / '2' / 'evaluation.json'
    path.write_text('{"validation": {"mAP": 0.5, "rank_1": 0.25}}')

    def best():
        checkpoints = Checkpoints(folder, KEEP, read_only=True)
        checkpoints.close()
        return checkpoints.best()

    assert best() == (2, 0.5)
    told_or_read(path, best, None)
    for content in (*TEXTS.values(), b'{"validation": 3}', b'{"validation": {"mAP": "x"}}'):
        path.write_bytes(content)
        assert best() is None


def test_results(tmp_path):
    path = tmp_path / 'eval' / 'latest.json'
    write_result(path, result(convention='c'))

    def read():
        if (found := read_result(path)) is not None:
            protocol_line(found)
        print_side_by_side(_own(tmp_path))

    told_or_read(path, read, None)
    assert list(_own(tmp_path)) == ['d (its own)'] and read_result(path)['convention'] == 'c'
    path.write_text(json.dumps(MeanResult('a+b', {'a': result(), 'b': result()}).to_json()))
    assert list(_own(tmp_path)) == ['a (its own)', 'b (its own)']
    told_or_read(path, lambda: [protocol_line(one) for one in read_data_sets(path).values()], None)
    path.write_text(json.dumps(mean_of_splits({'0': result().to_json(), '1': result().to_json()})))
    assert list(_own(tmp_path)) == ['d (its own)']
    for content in TEXTS.values():
        path.write_bytes(content)
        assert read_result(path) is None and read_data_sets(path) == _own(tmp_path) == {}


def test_a_split_whose_result_is_damaged_is_scored_again(split_data, tmp_path):
    config = micro_config(str(split_data.parents[1]), **{'dataset.name': 'micro_splits', 'dataset.split': 'all'})
    scored = []

    def score(config, folder):
        (folder / 'checkpoints' / str(config.training.steps)).mkdir(parents=True, exist_ok=True)
        write_config(folder, config)
        scored.append(config.dataset.split)
        return result(split=config.dataset.split)

    def go_on(mode='eval'):
        scored.clear()
        splits.all_splits(config, tmp_path, mode, score, lambda text: None)
        return scored

    assert go_on('train') == ['0', '1', '2'] and go_on() == []
    path = tmp_path / 'split_1' / splits.DONE
    done = json.loads(path.read_text())
    lacking = [{**done, 'result': value} for value in (None, 3, [], {}, {**done['result'], 'mAP': 'x'})]
    for content in (*TEXTS.values(), *(json.dumps(one).encode() for one in (*lacking, {}))):
        path.write_bytes(content)
        assert go_on() == ['1']
        assert json.loads(path.read_text()) == done and go_on() == []


def test_use_of_codewords(tmp_path):
    path, notes = tmp_path / 'use.json', []
    write_codeword_use(path, codeword_use(np.ones((2, 4)), 64), 2)

    def read():
        notes.clear()
        found = read_codeword_use(path, 2, notes.append)
        assert found is None or np.isfinite(found.effective).all()
        assert (found is None) == bool(notes)

    told_or_read(path, read, None)
    path.write_text('{"step": 2, "clips": 1, "shares": [[1, 1], [0, 0]]}')
    read()
    assert 'damaged' in notes[0]


def test_a_lock_whose_content_is_no_text_still_locks(tmp_path):
    with lock_folder(tmp_path):
        (tmp_path / '.lock').write_bytes(b'\xff')
        with pytest.raises(Locked):
            lock_folder(tmp_path)


DAMAGED_LINES = [
    b'\xff\xfe',
    b'[' * 100_000,
    b'[]',
    b'3',
    b'{"step": "x"}',
    b'{"step": null}',
    b'{"step": ' + b'9' * 400 + b'}',
]


@pytest.mark.parametrize('number', range(len(DAMAGED_LINES)))
def test_a_line_of_metrics_that_is_damaged_is_left_out_alone(tmp_path, number):
    lines = [json.dumps({'step': step, 'kind': 'train', 'loss': 0.5}).encode() for step in (1, 2, 3)]
    (tmp_path / 'metrics.jsonl').write_bytes(
        b'\n'.join([lines[0], DAMAGED_LINES[number], *lines[1:], b'{"step": 4, "'])
    )
    assert [line['step'] for line in _history(tmp_path, '')] == [1, 2, 3]
    writer = MetricWriter(tmp_path, 2)
    writer.write(3, 'eval', {'mAP': 0.5})
    writer.close()
    read = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_bytes().splitlines()]
    assert [(line['step'], line['kind']) for line in read] == [(1, 'train'), (2, 'train'), (3, 'eval')]


def test_a_run_that_begins_anew_forgets_what_an_interrupted_one_wrote(tmp_path, monkeypatch):
    """It ended before its first checkpoint; the next evaluates the untrained network once more."""
    purged = []
    board = SimpleNamespace(add_scalar=lambda *_: None, close=lambda: None)
    monkeypatch.setattr('tensorboardX.SummaryWriter', lambda folder, purge_step: purged.append(purge_step) or board)
    for steps in (3, 2):
        writer = MetricWriter(tmp_path, 0)
        for step in range(steps):
            writer.write(step, 'eval', {'mAP': 0.5})
        writer.close()
    assert [line['step'] for line in _history(tmp_path, '')] == [0, 1]
    assert purged == [0, 0]  # TensorBoard leaves out what earlier sessions wrote from there on


@pytest.mark.parametrize('before', [{'step': 2, 'loss': 10**400}, {'step': 3, 'loss': 0.125}], ids=['huge', 'repeated'])
def test_a_loss_that_cannot_be_drawn_or_is_not_the_last_of_its_step_is_left_out(before):
    lines = [{'step': 1, 'loss': 0.5}, before, {'step': 3, 'loss': 0.25}]
    history = [{'kind': 'train', **line} for line in lines]
    outcomes = object.__new__(QueryOutcomes)
    for name, value in (('edges', np.linspace(0, 1, 3)), ('one_person', np.ones(2)), ('two_people', np.ones(2))):
        object.__setattr__(outcomes, name, value)
    drawn, expected = (_charts(result().to_json(), outcomes, lines)[2] for lines in (history, history[::2]))
    assert repr(drawn) == repr(expected)
