"""A run that is asked to stop says what the same command will do: go on after a step that is saved, or begin."""

import shutil
import signal

import pytest

import main
from tests.helpers.killed_runs import start, wait_for
from tests.helpers.micro import micro_config_dict
from tests.helpers.micro_splits import build_micro_splits
from tests.helpers.small_models import write_workdir

AVERAGE = {'model.pooling': 'average'}  # traced in a third of the time, where the network does not matter


def test_sigterm_before_the_first_step_of_a_resumed_run_says_where_it_resumes(micro_data, tmp_path):
    folder = tmp_path / 'run' / 'checkpoints'
    killed = start(micro_data, tmp_path / 'run', '--step_seconds', '1', fields=AVERAGE)
    wait_for(lambda: [*folder.glob('[0-9]')], killed)
    killed.kill()
    killed.communicate()
    last = max(int(path.name) for path in folder.glob('[0-9]'))
    process = start(micro_data, tmp_path / 'run', '--step_seconds', '60', fields=AVERAGE)
    wait_for(lambda: 'Resuming' in process.printed(), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f'Asked to stop: nothing to save yet. The same command resumes after step {last}.' in err, err


@pytest.mark.parametrize(
    ('mode', 'saved', 'says'),
    [('train', True, 'resumes after step 2.'), ('train', False, 'starts again.'), ('eval', True, 'starts again.')],
)
def test_ctrl_c_says_what_the_same_command_will_do(micro_data, tmp_path, capfd, monkeypatch, mode, saved, says):
    def interrupted(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(f'pvlad_jax.runs.run.{"train" if mode == "train" else "evaluate"}', interrupted)
    workdir = write_workdir(tmp_path / 'run')
    if not saved:
        shutil.rmtree(workdir / 'checkpoints' / '2')
    config = micro_config_dict(micro_data, **{'compile_cache': ''})
    assert main.run(config, workdir, mode) == 130
    assert capfd.readouterr().err.endswith(f'Interrupted. The same command {says}\n')


def test_ctrl_c_between_splits_says_that_the_others_are_left(tmp_path, capfd, monkeypatch):
    def interrupted(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr('pvlad_jax.runs.run.all_splits', interrupted)
    build_micro_splits(tmp_path)
    fields = {'compile_cache': '', 'dataset.name': 'micro_splits', 'dataset.split': 'all'}
    assert main.run(micro_config_dict(tmp_path, **fields), tmp_path / 'run', 'train') == 130
    assert 'Interrupted. The same command goes on with the splits that are left.' in capfd.readouterr().err
