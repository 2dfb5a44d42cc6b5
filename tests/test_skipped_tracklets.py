"""config.input.on_error = 'skip': tracklets that cannot be decoded are replaced in training, and left out and counted
in evaluation.
"""

import dataclasses
import shutil

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import CorruptRecord
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.embedding import tracklets as embedding
from pvlad_jax.evaluation.mean_of_splits import mean_of_splits
from pvlad_jax.evaluation.result import print_table
from pvlad_jax.runs.evaluator import Evaluator
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.skipped_records import SkippedRecords
from tests.helpers.micro import micro_config

SKIP = {'input.on_error': 'skip'}
STEPS = range(12)


class Damaged(TrackletDataset):
    """A data set some of whose tracklets cannot be decoded: {name: damaged frames, None = all}."""

    def __init__(self, dataset, damage: dict):
        vars(self).update(vars(dataset), _dataset=dataset, _damage=damage)

    def read(self, split, row):
        record = self._dataset.read(split, row)
        if record.tracklet not in self._damage:
            return record
        frames, bad = list(record.frames), self._damage[record.tracklet]
        for i in range(len(frames)) if bad is None else bad:
            frames[i] = frames[i][:20]
        return dataclasses.replace(record, frames=frames)


@pytest.fixture(scope='module')
def opened(micro_data):
    dataset = TrackletDataset.open(str(micro_data), 'micro')
    return dataset, partition(dataset).train


def batches(opened, micro_data, damage, *share, **fields):
    dataset, train = opened
    return TrainBatches(Damaged(dataset, damage), train, micro_config(micro_data, **{**SKIP, **fields}), *share)


def names(made, batch):
    return made.train.tracklet[batch['row']].tolist()


def test_another_tracklet_of_the_same_identity_takes_the_place(opened, micro_data):
    bad = {'p1c1t1': None, 'p2c2t1': [0, 1, 2]}
    whole, made = batches(opened, micro_data, {}), batches(opened, micro_data, bad)
    replaced = 0
    for step in STEPS:
        drawn, batch = whole[step], made[step]
        assert batch['valid'][:, 0].any(1).all() and batch['clips'].any((1, 2, 3, 4, 5)).all()  # no blank clip
        np.testing.assert_array_equal(batch['label'], drawn['label'])  # the batch keeps its identities
        np.testing.assert_array_equal(made.identities.labels[batch['row']], batch['label'])
        assert not set(names(made, batch)) & set(bad)
        np.testing.assert_array_equal(batch['replaced'], np.isin(names(made, drawn), list(bad)))
        kept = ~batch['replaced']
        for key in ('clips', 'valid', 'row'):
            np.testing.assert_array_equal(batch[key][kept], drawn[key][kept])
        replaced += batch['replaced'].sum()
    assert replaced > 3 and made.skipped == set(bad)


def test_tracklets_that_the_batch_does_not_hold_come_first(opened, micro_data):
    made = batches(opened, micro_data, {'p1c1t1': None})  # K = 2 of 4, so there is always another
    assert all(len(set(names(made, made[step]))) == 8 for step in STEPS)


def test_two_places_of_a_person_take_two_tracklets(opened, micro_data):
    made = batches(opened, micro_data, {'p1c1t1': None, 'p1c2t1': None})
    both = 0
    for step in range(24):
        batch = made[step]
        assert len(set(names(made, batch))) == 8
        both += batch['replaced'].sum() == 2
    assert both


def test_a_tracklet_with_one_bad_frame_replaces_none(opened, micro_data):
    """A replacement is intact in whole, so that it does not depend on which of its frames would be drawn."""
    bad = {'p1c1t1': None, 'p1c1t2': [0], 'p1c2t1': [1]}
    made = batches(opened, micro_data, bad)
    for step in STEPS:
        batch = made[step]
        assert all(name == 'p1c2t2' for name, new in zip(names(made, batch), batch['replaced']) if new)


def test_an_identity_without_any_is_replaced_by_another_one(opened, micro_data):
    bad = {f'p3c{c}t{t}': None for c in (1, 2) for t in (1, 2)}
    whole, made = batches(opened, micro_data, {}), batches(opened, micro_data, bad)
    seen = 0
    for step in STEPS:
        drawn, batch = whole[step], made[step]
        gone = drawn['label'] == 2
        np.testing.assert_array_equal(batch['replaced'], gone)
        assert batch['valid'][:, 0].any(1).all() and not (batch['label'] == 2).any()
        np.testing.assert_array_equal(made.identities.labels[batch['row']], batch['label'])
        if gone.any():
            (other,) = set(batch['label'][gone].tolist())  # one identity for all its places, so that positives remain
            assert other not in drawn['label'] and len(set(batch['row'][gone].tolist())) == 2
            seen += 1
    assert seen > 3


def test_replacements_are_the_same_after_a_restart_and_for_any_threads_and_processes(opened, micro_data):
    bad = {'p1c1t1': None, 'p2c1t1': None, 'p2c1t2': [2], **{f'p5c{c}t{t}': None for c in (1, 2) for t in (1, 2)}}
    through = batches(opened, micro_data, bad)
    first = [through[step] for step in STEPS]
    late = batches(opened, micro_data, bad, **{'input.threads': 1})
    halves = [batches(opened, micro_data, bad, process, 2) for process in (0, 1)]
    for step in (11, 5, 2):  # in another order, and with nothing known of the steps before
        for key, value in first[step].items():
            np.testing.assert_array_equal(late[step][key], value)
            np.testing.assert_array_equal(np.concatenate([half[step][key] for half in halves]), value)


def test_nothing_to_train_on_is_an_error(opened, micro_data):
    _, train = opened
    with pytest.raises(UserError, match='no tracklet of the training set can be decoded'):
        batches(opened, micro_data, dict.fromkeys(train.tracklet.tolist()))[0]
    with pytest.raises(CorruptRecord, match='p1c1t1'):
        made = batches(opened, micro_data, {'p1c1t1': None}, **{'input.on_error': 'stop'})
        [made[step] for step in STEPS]


@pytest.fixture(scope='module')
def scored(micro_data):
    """Evaluations of one state: (damage, distance, on_error) -> (Scored, lines)."""
    experiment = prepare(micro_config(micro_data, **SKIP, **{'evaluation.clips_per_step': 8}))
    variables = experiment.initial_state().variables()

    def score(damage, **fields):
        lines = []
        config = micro_config(micro_data, **{**SKIP, **fields})
        evaluator = Evaluator(
            dataclasses.replace(experiment, config=config, dataset=Damaged(experiment.dataset, damage)), lines.append
        )
        return evaluator(variables, 3), lines

    return score


def test_evaluation_leaves_out_counts_and_names(scored, capsys):
    whole, _ = scored({})
    bad = {'p7c1t1': [1], 'p8c2t2': None, 'p9c2t2': [0]}  # query, gallery, gallery
    some, lines = scored(bad)
    assert (some.result.skipped_query, some.result.skipped_gallery) == (1, 2)
    assert (whole.result.skipped_query, whole.result.skipped_gallery) == (0, 0)
    # The gallery has the queries in it.
    assert (some.result.n_query, some.result.n_gallery) == (whole.result.n_query - 1, whole.result.n_gallery - 3)
    for name, (before, after) in {'query': (whole.query, some.query), 'gallery': (whole.gallery, some.gallery)}.items():
        kept = ~np.isin(before.tracklet, list(bad))
        assert after.tracklet.tolist() == before.tracklet[kept].tolist(), name
        np.testing.assert_allclose(after.embedding, before.embedding[kept], atol=1e-6)  # the others are what they were
    assert any('p7c1t1' in line for line in lines) and any('p8c2t2, p9c2t2' in line for line in lines)
    print_table(some.result)
    assert 'LEFT OUT, cannot be decoded: 1 query, 2 gallery' in ' '.join(capsys.readouterr().out.split())
    means = mean_of_splits({'0': some.result.to_json(), '1': whole.result.to_json()})
    assert (means['skipped_query'], means['skipped_gallery']) == (1, 2)


def test_evaluation_stops_at_the_first_where_it_is_told_to(scored):
    with pytest.raises(CorruptRecord, match="'p8c2t1', frame"):
        scored({'p8c2t1': None}, **{'input.on_error': 'stop'})
    with pytest.raises(UserError, match='none of the tracklets to embed'):
        scored({f'p{p}c{c}t1': None for p in range(7, 11) for c in (1, 2)})


class _Sent(Exception):
    """What a process has put into a collective."""


def gathered(monkeypatch, parts: list[dict]) -> list:
    """What `_gather` gives, or raises, in each of several processes that hold these parts of a table of five rows."""
    shares = [np.array([0, 3, 4]), np.array([1, 2])]
    mine = [np.full((len(share), 2), i + 1, np.float32) for i, share in enumerate(shares)]
    asked = [
        (
            mine[i],
            np.isin(shares[i], part.get('skipped', [])),
            shares,
            5,
            part.get('stopped', False),
            part.get('failure'),
        )
        for i, part in enumerate(parts)
    ]
    sent, results = [], []

    def send(tree):
        raise _Sent(tree)

    monkeypatch.setattr(embedding.multihost_utils, 'process_allgather', send)
    for arguments in asked:
        with pytest.raises(_Sent) as here:
            embedding._gather(*arguments)
        sent.append(here.value.args[0])
    monkeypatch.setattr(
        embedding.multihost_utils, 'process_allgather', lambda tree: tuple(np.stack(x) for x in zip(*sent))
    )
    for arguments in asked:
        try:
            results.append(embedding._gather(*arguments))
        except Exception as error:
            results.append(error)
    return results


def test_processes_agree_on_what_is_left_out_and_on_failures(monkeypatch):
    for whole, skipped in gathered(monkeypatch, [{'skipped': [3]}, {'skipped': [1]}]):
        assert whole[:, 0].tolist() == [1, 2, 2, 1, 1] and skipped.tolist() == [False, True, False, True, False]
    # The others hear the reason of the one that failed, and none waits.
    failure = CorruptRecord('Tracklet é, frame 3 cannot be decoded')
    for error in gathered(monkeypatch, [{}, {'failure': failure}]):
        assert isinstance(error, UserError) and str(error) == str(failure)
    for error in gathered(monkeypatch, [{'failure': CorruptRecord('x' * 5000)}, {'stopped': True}]):
        assert isinstance(error, UserError) and set(str(error)) == {'x'}
    assert all(
        isinstance(error, embedding.EmbeddingStopped) for error in gathered(monkeypatch, [{'stopped': True}, {}])
    )


def test_training_tracklets_of_a_learned_distance_are_left_out(scored):
    some, _ = scored({'p1c1t1': None}, **{'evaluation.distance': 'kissme'})
    assert some.result.skipped_train == 1 and some.result.skipped_query == 0 and len(some.train) == 23


def test_replacements_count_over_interruptions_and_each_tracklet_is_named_once():
    lines = []
    skipped = SkippedRecords(lines.append, possible=True)
    skipped.before = 3  # up to the checkpoint
    skipped.count({'replaced': np.array([True, False, True])})
    assert skipped.total() == 5
    skipped.report(['b', 'a'])
    skipped.report(['a', 'c'])
    assert [line.split()[1] for line in lines] == ['a', 'b', 'c']
    skipped.report([f'x{i:02}' for i in range(30)])
    assert len(lines) == 20 and lines[-1].startswith('Tracklet x16 ')


def test_a_damaged_file_is_a_damaged_record(micro_data, tmp_path):
    """Bytes of the ArrayRecord file itself, as a failing disk leaves them: whatever its reader raises is a
    CorruptRecord.
    """
    shutil.copytree(micro_data / 'micro', tmp_path / 'micro')
    shard = next(tmp_path.rglob('micro-train.array_record-*'))
    content = bytearray(shard.read_bytes())
    content[200:400] = bytes(200)
    shard.write_bytes(content)
    dataset, failed = TrackletDataset.open(str(tmp_path), 'micro'), 0
    for row in range(len(dataset.tables['train'])):
        try:
            frames = list(dataset.read('train', row).frames)
            assert frames
        except CorruptRecord as error:
            assert 'is damaged' in str(error) and str(dataset.tables['train'].tracklet[row]) in str(error)
            failed += 1
    assert 0 < failed < len(dataset.tables['train'])
