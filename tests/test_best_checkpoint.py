"""Which checkpoint is scored: the last, or the best by people held out for validation. Test people never choose."""

import json

import jax
import numpy as np
import pytest

import main
from pvlad_jax.config import CheckpointConfig, freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import read_embeddings, score
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.evaluator import Evaluator
from pvlad_jax.runs.training_evaluation import TrainingEvaluation
from tests.helpers.micro import micro_config_dict

STEPS = 4
FIELDS = {
    'training.steps': STEPS,
    'training.checkpoint_every': 1,
    'training.eval_every': 1,
    'dataset.validation_share': 0.34,
    'model.pooling': 'average',  # traced in a third of the time: six runs, eleven evaluations
}


def latest(workdir) -> dict:
    return json.loads((workdir / 'eval' / 'latest.json').read_text())


@pytest.fixture(scope='module')
def run(micro_data, tmp_path_factory):
    """A finished run whose validation mAP is (by decree) highest at step 2, while the test people's is highest
    elsewhere.
    """
    workdir = tmp_path_factory.mktemp('best') / 'run'
    decreed, tested = {1: 0.3, 2: 0.9, 3: 0.5, 4: 0.7}, {1: 0.1, 2: 0.0, 3: 0.99, 4: 0.2}
    of_people = Evaluator.__call__

    def scored(self, variables, step, role='test'):
        real = of_people(self, variables, step, role)
        real.result.__dict__.update(mAP=(decreed if role == 'validation' else tested)[step])
        return real

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, '__call__', scored)
        config = micro_config_dict(micro_data, **FIELDS, **{'evaluation.checkpoint': 'best'})
        assert main.run(config, workdir, 'train') == 0
    return config, workdir


def test_training_ends_with_the_result_of_the_best_by_validation(run):
    _, workdir = run
    result = latest(workdir)
    assert result['step'] == 2 and result['checkpoint'] == 'best by validation mAP (90.0%)'
    # the last is evaluated too, for the curve
    kinds = [
        (x['kind'], x['step'])
        for x in map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
        if x['kind'] != 'train'
    ]
    assert kinds == [(kind, step) for step in (1, 2, 3, 4) for kind in ('validation', 'eval')]


def test_eval_takes_either_and_says_which(run, capfd):
    config, workdir = run
    assert main.run(config, workdir, 'eval') == 0
    assert latest(workdir)['step'] == 2 and 'best' in latest(workdir)['checkpoint']
    assert 'best by validation' in capfd.readouterr().out.replace('\n', ' ')
    last = config.copy_and_resolve_references()
    last.evaluation.checkpoint = 'last'
    assert main.run(last, workdir, 'eval') == 0
    assert (latest(workdir)['step'], latest(workdir)['checkpoint']) == (STEPS, 'last')


def test_the_best_outlives_newer_ones_and_a_restart(tmp_path):
    like = {'w': jax.device_put(np.arange(3.0, dtype=np.float32))}
    metrics = {1: 0.2, 2: None, 3: 0.8, 4: 0.8, 5: None, 6: 0.1, 7: None, 8: None}
    for step, value in metrics.items():  # a process for each step
        checkpoints = Checkpoints(tmp_path / 'c', CheckpointConfig(keep_latest=2, keep_best=1))
        checkpoints.save(step, {'w': like['w'] + step}, {'next_index': step}, {})
        if value is not None:
            checkpoints.record_evaluation(step, {'validation': {'mAP': value, 'rank_1': 1 - value}})
        checkpoints.close()
    checkpoints = Checkpoints(tmp_path / 'c', CheckpointConfig(keep_latest=2, keep_best=1))
    assert checkpoints.best() == (4, 0.8) and checkpoints.steps() == [4, 7, 8]  # of equals the last
    np.testing.assert_array_equal(checkpoints.restore(like, 4)[0]['w'], np.arange(3.0) + 4)
    checkpoints.close()


def test_scores_of_a_former_version_choose_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(keep_latest=2))
    for step, value in ((1, 0.9), (2, 0.4)):
        checkpoints.save(step, {'w': jax.device_put(np.ones(1, np.float32))}, {'next_index': step}, {})
        checkpoints.wait()
        (tmp_path / str(step) / 'metrics').mkdir()
        (tmp_path / str(step) / 'metrics' / 'metrics').write_text(json.dumps({'mAP': value, 'rank_1': 1.0}))
    checkpoints.close()
    assert Checkpoints(tmp_path, CheckpointConfig(), read_only=True).best() == (1, 0.9)


def test_validation_before_the_first_step_is_nobodys(micro_data, tmp_path):
    config = micro_config_dict(
        micro_data, **{**FIELDS, 'training.steps': 2, 'training.eval_every': 0, 'training.eval_untrained': True}
    )
    assert main.run(config, tmp_path / 'run', 'train') == 0
    checkpoints = Checkpoints(tmp_path / 'run' / 'checkpoints', freeze(config).checkpoint)
    assert checkpoints.steps() == [1, 2] and checkpoints.best()[0] == 2  # step 1 has none, and not that of step 0
    checkpoints.close()


def test_a_best_that_nothing_was_chosen_by_is_told(micro_data, tmp_path, capfd):
    config = micro_config_dict(micro_data, **{**FIELDS, 'training.steps': 2, 'training.eval_every': 0})
    with pytest.MonkeyPatch.context() as patch:  # as where a run was stopped before its first evaluation
        patch.setattr(TrainingEvaluation, '_validate', lambda self, state, step: {})
        assert main.run(config, tmp_path / 'run', 'train') == 0
    config.evaluation.checkpoint = 'best'
    assert main.run(config, tmp_path / 'run', 'eval') == 2
    said = capfd.readouterr().err
    assert 'no checkpoint in' in said and 'scored on validation people' in said and 'Traceback' not in said


@pytest.mark.parametrize('fields', [{'dataset.validation_share': 0.0}, {'checkpoint.keep_best': 0}])
def test_best_needs_validation_people(micro_data, fields):
    with pytest.raises(UserError, match="'best' needs people to choose it by"):
        freeze(micro_config_dict(micro_data, **{**FIELDS, 'evaluation.checkpoint': 'best', **fields}))


@pytest.mark.parametrize('frames', ['even:0', 'even:x', 'even:', 'first', 'first:-1', 'foo', 'all:3', '', 'even:٣'])
def test_frame_policies_that_are_none_are_told(micro_data, frames):
    with pytest.raises(UserError, match="is not 'all', 'even:N', 'every:N' or 'first:N'"):
        freeze(micro_config_dict(micro_data, **{'evaluation.frames': frames}))


def test_frames_distances_and_reranking_through_the_configuration(run, capfd):
    """Each is another result of the same checkpoint, says what it is, and is what the library computes from embeddings
    of those frames.
    """
    config, workdir = run
    seen = {}
    for fields in (
        {},
        {'frames': 'first:1'},
        {'frames': 'even:2'},
        {'distance': 'euclidean'},
        {'distance': 'xqda'},
        {'distance': 'kissme'},
        {'rerank': True},
        {'distance': 'xqda', 'rerank': True, 'flip': True},
    ):
        other = config.copy_and_resolve_references()
        for name, value in fields.items():
            other.evaluation[name] = value
        assert main.run(other, workdir, 'eval') == 0, capfd.readouterr().err
        result = latest(workdir)
        assert result['frames'] == fields.get('frames', 'all') and result['distance'] == fields.get(
            'distance', 'cosine'
        )
        assert result['rerank'] == fields.get('rerank', False)
        with np.load(workdir / 'embeddings' / 'query.npz') as table:
            seen[str(fields)] = table['embedding'].copy()
        if result['distance'] in ('cosine', 'euclidean'):
            tables = (read_embeddings(workdir / 'embeddings' / f'{role}.npz') for role in ('query', 'gallery'))
            again = score(*tables, 'mars_official', result['distance'], result['rerank'])
            assert (again.mAP, again.rank_1) == pytest.approx((result['mAP'], result['rank_1']))
    first, alle = seen["{'frames': 'first:1'}"], seen['{}']
    assert not np.allclose(first, alle, atol=1e-4) and not np.allclose(seen["{'frames': 'even:2'}"], first, atol=1e-4)
    np.testing.assert_array_equal(seen["{'distance': 'xqda'}"], alle)
