"""A run that goes on with more steps: what may change between its sessions, what config.json keeps, and the learning
rate.
"""

import json

import jax
import numpy as np
import pytest

from pvlad_jax.config import Config, OptimizerConfig, differences, flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.settings import describe
from pvlad_jax.launch.preemption import StopRequest
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.splits import _claim_config
from pvlad_jax.runs.training_run import TrainingRun
from pvlad_jax.runs.workdir import (
    check_config,
    config_file,
    fields_at_start,
    planned_ends,
    read_config,
    record_more_steps,
    saved_config,
    write_config,
)
from pvlad_jax.training.schedule import learning_rate, longer_run, steps_of_schedule
from tests.helpers.micro import micro_config


def with_steps(steps: int, **fields) -> Config:
    return micro_config('data', **{'training.steps': steps, **fields})


def folder(tmp_path, config: Config, step: int | None = 6):
    """A working directory of this configuration, in which a step was saved."""
    write_config(tmp_path, config)
    if step is not None:
        (tmp_path / 'checkpoints' / str(step)).mkdir(parents=True)
    return tmp_path


def test_the_number_of_steps_may_grow_and_nothing_else_that_is_computed(tmp_path):
    assert [d.path for d in describe(Config) if d.grows] == ['training.steps']
    workdir = folder(tmp_path, with_steps(6))
    check_config(workdir, with_steps(12))
    check_config(workdir, with_steps(12, **{'training.log_every': 5}))
    with pytest.raises(UserError, match=r'training\.steps: 6 before, 5 now \(it may only grow\)'):
        check_config(workdir, with_steps(5))
    with pytest.raises(UserError, match=rf'model\.clusters: 3 before, 2 now\n.*--config\.init_from={workdir}'):
        check_config(workdir, with_steps(12, **{'model.clusters': 2}))


def test_the_configuration_keeps_what_was_before(tmp_path):
    first = with_steps(6)
    workdir = folder(tmp_path, first)
    plain = (workdir / 'config.json').read_text()
    record_more_steps(workdir, with_steps(6, **{'training.log_every': 5}), 6)
    record_more_steps(workdir, with_steps(5), 6)
    assert (workdir / 'config.json').read_text() == plain and json.loads(plain) == json.loads(
        json.dumps(flatten(first))
    )
    record_more_steps(workdir, with_steps(12, **{'training.log_every': 5}), 4)
    record_more_steps(workdir, with_steps(20, **{'training.log_every': 5}), 12)
    assert read_config(workdir / 'config.json')[1] == [
        {'step': 4, 'before': {'training.log_every': 1, 'training.steps': 6}},
        {'step': 12, 'before': {'training.steps': 12}},
    ]
    assert planned_ends(workdir) == [6, 12, 20]
    assert fields_at_start(workdir) == json.loads(plain)
    assert saved_config(workdir) == with_steps(20, **{'training.log_every': 5})  # for whoever reads a run
    assert differences(read_config(workdir / 'config.json')[0], with_steps(20)) == []
    with pytest.raises(UserError, match=r'20 before, 12 now'):
        check_config(workdir, with_steps(12))


def test_a_run_that_has_saved_nothing_begins_anew(tmp_path):
    assert planned_ends(tmp_path) == [] == planned_ends(folder(tmp_path, with_steps(6), step=None))
    old = json.loads((tmp_path / 'config.json').read_text())
    del old['init_from'], old['training.steps']  # fields that came later have their defaults
    (tmp_path / 'config.json').write_text(json.dumps(old))
    (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
    assert planned_ends(tmp_path) == [Config().training.steps]


def test_a_run_is_read_by_its_own_configuration_and_not_by_that_of_an_evaluation(tmp_path):
    write_config(tmp_path, with_steps(6))
    assert config_file(tmp_path) == 'config.json'
    (tmp_path / 'eval').mkdir()
    (tmp_path / 'eval' / 'config.json').write_text('{}')  # of a network that was scored before any training
    assert config_file(tmp_path) == 'eval/config.json'
    (tmp_path / 'checkpoints').mkdir()
    assert config_file(tmp_path) == 'config.json'


def test_all_splits_go_on_as_one_run(tmp_path):
    class Data(RunData):
        def __init__(self):
            pass

        def check(self, *_):
            pass

        def write(self):
            pass

    workdir = folder(tmp_path, with_steps(6))
    _claim_config(workdir, with_steps(12), 'eval', Data(), print)
    assert planned_ends(workdir) == [6]
    _claim_config(workdir, with_steps(12), 'train', Data(), print)
    assert planned_ends(workdir) == [6, 12]


@pytest.mark.parametrize('schedule', ['constant', 'steps', 'cosine'])
def test_the_learning_rate_goes_on(schedule):
    config = OptimizerConfig(schedule=schedule, warmup_steps=2, learning_rate=1.0)

    def rates(ends, now):
        rate = learning_rate(config, steps_of_schedule(config, ends, now))
        return np.asarray(jax.jit(jax.vmap(rate))(jax.numpy.arange(now)))

    before, after = rates([], 10), rates([10], 20)
    assert steps_of_schedule(config, [10, 20], 30) == (10 if schedule == 'steps' else 30)
    if schedule == 'cosine':
        np.testing.assert_array_equal(after, rates([], 20))  # as a run of that length
    else:  # neither what was before changes, nor does a rate that has fallen rise again
        np.testing.assert_array_equal(after, [*before, *[before[-1]] * 10])
    said = longer_run(config, 10, [10], 20)
    assert said.startswith('20 steps instead of 10: ') and f'goes on at {after[10]:.3g}' in said
    assert ('its new end' in said) == (schedule == 'cosine')


def test_a_finished_run_goes_on_and_says_how(micro_data, tmp_path, monkeypatch):
    monkeypatch.setattr('pvlad_jax.runs.training_run.compile_ahead', lambda *_: None)
    fields, lines = {'model.pooling': 'average', 'optimizer.schedule': 'steps', 'optimizer.warmup_steps': 0}, []
    short, longer = (micro_config(micro_data, **fields, **{'training.steps': steps}) for steps in (4, 8))
    with TrainingRun(prepare(short), tmp_path, lines.append, StopRequest()) as run:
        run.save(4, run.state)
    for _ in range(2):  # the second time, it is a run of 8 steps already
        experiment = prepare(longer, planned_ends(tmp_path))
        assert experiment.schedule_steps == 4
        with TrainingRun(experiment, tmp_path, lines.append, StopRequest()) as run:
            assert run.step == 4 and planned_ends(tmp_path) == [4, 8]
    said = [line for line in lines if 'instead of' in line]
    assert said == [
        '8 steps instead of 4: the learning rate falls at the same steps as before, shares of the first 4, and goes on '
        'at 1e-05.'
    ]
