"""An evaluation that fails costs no training step, and is not tried again for ever at the same one."""

import json

import main
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.data import tracklet_dataset as records
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.training_evaluation import TrainingEvaluation
from tests.helpers.micro import micro_config_dict

# Saved at 2 because it is evaluated then, and at 3 because it is the last; checkpoint_every asks for none.
FIELDS = {
    'training.steps': 3,
    'training.eval_every': 2,
    'training.checkpoint_every': 100,
    'dataset.validation_share': 0.34,
    'model.pooling': 'average',
}


def damage(monkeypatch, *tracklets: str) -> None:
    read = records.TrackletDataset.read

    def damaged(self, split, row):
        whole = read(self, split, row)
        frames = [b'no image'] * len(whole.frames) if whole.tracklet in tracklets else whole.frames
        return records.EncodedTracklet(whole.tracklet, frames)

    monkeypatch.setattr(records.TrackletDataset, 'read', damaged)
    monkeypatch.setattr('pvlad_jax.runs.run_start.check_frames', lambda *_: None)  # as of damage that no header shows


def logged(workdir) -> list[tuple[str, int]]:
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [(line['kind'], line['step']) for line in lines if line['kind'] != 'train']


def test_a_bad_test_frame_costs_no_step_and_the_result_can_be_had_afterwards(micro_data, tmp_path, capfd, monkeypatch):
    config, workdir = micro_config_dict(micro_data, **FIELDS), tmp_path / 'run'
    damage(monkeypatch, 'p8c2t2')
    assert main.run(config, workdir, 'train') == 2
    said = capfd.readouterr()
    assert 'step     2  the evaluation failed, and training continues' in said.out
    assert "'p8c2t2'" in said.err and 'state of step 3 is saved' in said.err and 'on_error=skip' in said.err
    assert 'Traceback' not in said.err
    assert (workdir / 'checkpoints' / '3').is_dir() and not (workdir / 'eval').exists()
    assert logged(workdir) == [('validation', 2), ('evaluation_failed', 2), ('validation', 3)]
    assert json.loads((workdir / 'checkpoints' / '2' / 'evaluation.json').read_text()).keys() == {
        'validation',
        'failed',
    }

    assert main.run(config, workdir, 'train') == 2  # nothing is trained again, and the message is the same
    again = capfd.readouterr()
    assert 'after step 3 of 3' in again.out and again.err == said.err
    assert main.run(config, workdir, 'eval') == 2
    assert "evaluation of step 3 failed: Tracklet 'p8c2t2'" in capfd.readouterr().err

    config.input.on_error = 'skip'
    assert main.run(config, workdir, 'eval') == 0
    result = json.loads((workdir / 'eval' / 'latest.json').read_text())
    assert (result['step'], result['skipped_query'], result['skipped_gallery']) == (3, 0, 1)
    said = capfd.readouterr().out
    assert 'tracklets p8c2t2' in said and 'LEFT OUT' in said


def test_an_evaluation_that_breaks_off_is_not_repeated_at_the_same_step(micro_data, tmp_path, capfd, monkeypatch):
    """Such as for want of memory: the run ends, and the same command resumes after it."""
    config, workdir = micro_config_dict(micro_data, **{**FIELDS, 'dataset.validation_share': 0.0}), tmp_path / 'run'
    test, tried = TrainingEvaluation._test, []

    def breaks(self, state, step):
        tried.append(step)
        if step == 2:
            raise MemoryError('no memory for this')
        return test(self, state, step)

    monkeypatch.setattr(TrainingEvaluation, '_test', breaks)
    assert main.run(config, workdir, 'train') == 2
    assert 'memory' in capfd.readouterr().err
    checkpoints = Checkpoints(workdir / 'checkpoints', freeze(config).checkpoint, read_only=True)
    assert checkpoints.steps() == [2] and 'no memory for this' in checkpoints.evaluation(2)['failed']
    assert main.run(config, workdir, 'train') == 0
    assert tried == [2, 3]


def test_a_last_step_that_could_not_be_saved_is_not_said_to_be_saved(micro_data, tmp_path, capfd, monkeypatch):
    config = micro_config_dict(micro_data, **FIELDS | {'training.steps': 1, 'training.eval_every': 0})

    def full(self):
        raise UserError('No space left for the checkpoint of step 1.')

    monkeypatch.setattr(Checkpoints, 'wait', full)
    assert main.run(config, tmp_path / 'run', 'train') == 2
    said = capfd.readouterr().err
    assert said.splitlines()[-1] == 'Error: No space left for the checkpoint of step 1.'
    assert 'is saved' not in said
