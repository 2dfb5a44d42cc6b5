"""Runs that are killed, asked to stop, refused or out of room, as processes of their own: what is on disk afterwards is
what it should be.

python -m tests.test_survival 20     # the long form of the kill loop, with 20 SIGKILLs
"""

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import pytest

import main
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import prepare
from tests.helpers.killed_runs import (
    ROOT,
    RUN,
    STEPS,
    assert_equal_to_the_bit,
    assert_same_run,
    lines,
    start,
    states,
    wait_for,
)
from tests.helpers.micro import build_micro, micro_config, micro_config_dict

AVERAGE = {'model.pooling': 'average'}  # traced in a third of the time, where the network does not matter


def saving(workdir) -> bool:
    return bool(list((Path(workdir) / 'checkpoints').glob('*tmp*')))


def last_saved(workdir) -> int:
    return max((int(p.name) for p in (Path(workdir) / 'checkpoints').glob('*') if p.name.isdigit()), default=0)


def kill_loop(data_dir, workdir, kinds: list[str], seed: int, longest: float, fields=None) -> list[tuple[str, int]]:
    """SIGKILLs a run once for each kind of moment, then lets it end. Returns (kind, last step saved) of each kill.

    'any': a random time after the start, at most `longest` seconds; 'step': after a save or two; 'save': while the next
      is being written.
    """
    rng, kills = random.Random(seed), []
    for kind in kinds:
        process = start(data_dir, workdir, '--step_seconds', '0.3', fields=fields)
        if kind == 'any':
            time.sleep(rng.uniform(0.2, longest))
        else:
            enough = min(last_saved(workdir) + rng.randint(1, 2), STEPS)
            wait_for(lambda enough=enough: last_saved(workdir) >= enough, process)
            if kind == 'save':
                wait_for(lambda: saving(workdir) or last_saved(workdir) == STEPS, process)
            time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        kills.append((kind, last_saved(workdir)))
        if kills[-1][1] == STEPS:
            break
    process = start(data_dir, workdir, fields=fields)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    return kills


@pytest.fixture(scope='module')
def uninterrupted(micro_data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('whole') / 'run'
    process = start(micro_data, workdir, fields=AVERAGE)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    return workdir


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(micro_data, uninterrupted, tmp_path):
    kinds, seed = ['save', 'any', 'step'], time.time_ns() % 1000
    kills = kill_loop(micro_data, tmp_path / 'run', kinds, seed, longest=4, fields=AVERAGE)
    saved = [step for _, step in kills]
    assert saved == sorted(saved) and saved[0] > 0  # what was saved once is never lost
    assert_same_run(micro_data, tmp_path / 'run', uninterrupted, AVERAGE)
    assert (
        not list((tmp_path / 'run' / 'checkpoints').glob('*tmp*'))
        and not (tmp_path / 'run' / 'checkpoints' / 'deleted').exists()
    )


def test_sigterm_saves_and_exits_75_and_the_run_is_refused_to_others_meanwhile(
    micro_data, uninterrupted, tmp_path, capfd
):
    workdir = tmp_path / 'run'
    fields = {**AVERAGE, 'training.checkpoint_every': 100}
    process = start(micro_data, workdir, '--step_seconds', '2', fields=fields)
    wait_for(lambda: 'A new run' in process.printed(), process)
    assert main.run(micro_config_dict(micro_data, **RUN, **AVERAGE), workdir, 'train') == 2
    assert f'Another run (process {process.pid}) is using' in capfd.readouterr().err
    wait_for(lambda: len(lines(workdir, 'train')) >= 2, process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75 and 'The same command resumes' in err, err
    assert time.monotonic() - began < 10
    step = max(states(micro_data, workdir, AVERAGE))
    assert 2 <= step < STEPS and f'saved after step {step} of {STEPS}' in err
    process = start(micro_data, workdir, fields=fields)
    assert process.wait(timeout=100) == 0
    assert_same_run(micro_data, workdir, uninterrupted, AVERAGE)


# A main thread that runs no signal handler for a while, as in a compilation: joining a thread that C code holds would
# be the same.
BUSY = """
import ctypes, sys, time
from pvlad_jax.launch import preemption
with preemption.listening() as stop:
    stop.grace, stop.no_unsaved_steps = 0.5, sys.argv[1] == 'nothing'
    stop.what_follows = lambda: 'All is well.'
    print('ready', flush=True)
    if sys.argv[1] == 'quick':
        while not stop.requested:
            time.sleep(0.01)
    else:
        ctypes.PyDLL(None).usleep(999_000)  # holds the interpreter's lock
        ctypes.CDLL(None).sleep(20)
sys.exit(3)
"""


@pytest.mark.parametrize(
    ('case', 'code', 'says'),
    [
        ('nothing', 75, 'Asked to stop: nothing to save yet. All is well.\n'),
        ('slow', 75, 'Asked to stop: not saved within 0.5 s. All is well.\n'),
        ('quick', 3, ''),
    ],
)
def test_sigterm_ends_the_process_within_the_grace_time_whatever_it_does(case, code, says):
    process = subprocess.Popen(
        [sys.executable, '-c', BUSY, case], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == 'ready\n'
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code and says in err, err
    assert time.monotonic() - began < 4


def test_no_room_for_a_checkpoint_is_told_and_leaves_the_earlier_ones(micro_data, uninterrupted, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(uninterrupted, workdir)
    for step in (STEPS, STEPS - 1):
        shutil.rmtree(workdir / 'checkpoints' / str(step))
    before = states(micro_data, workdir, AVERAGE)
    assert list(before) == [STEPS - 2]
    # Bytes a file; the arrays of a checkpoint take more. The compile cache has all programs: nothing is written there.
    process = start(micro_data, workdir, '--file_limit', '6000', fields=AVERAGE)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2 and err.strip().splitlines()[-1].startswith(
        'Error: File too large: the checkpoint'
    ), err
    after = states(micro_data, workdir, AVERAGE)
    assert list(after) == list(before)
    assert start(micro_data, workdir, fields=AVERAGE).wait(timeout=100) == 0
    assert_equal_to_the_bit(
        states(micro_data, workdir, AVERAGE)[STEPS][0], states(micro_data, uninterrupted, AVERAGE)[STEPS][0]
    )


@pytest.mark.parametrize(('message', 'told'), [('Event loop is closed', False), ('anything else', True)])
def test_threads_of_a_failed_save_have_no_say(message, told, capfd, monkeypatch):
    from pvlad_jax.launch import exit as ending

    monkeypatch.setattr('sys.unraisablehook', ending.unraisable)

    class Late:
        def __del__(self):
            raise RuntimeError(message)

    Late()
    gc.collect()
    assert ('RuntimeError' in capfd.readouterr().err) == told


def test_parameters_without_bounds_are_not_saved(micro_data, tmp_path, capfd):
    """The first loss is finite; what the first update leaves would not be."""
    settings = {**AVERAGE, 'training.steps': 2, 'training.checkpoint_every': 1}
    wild = micro_config_dict(micro_data, **settings, **{'optimizer.learning_rate': 1e30})
    assert main.run(wild, tmp_path / 'run', 'train') == 2
    err = capfd.readouterr().err
    assert 'The parameters after step 1 have the norm inf. There is no checkpoint yet.' in err and '--workdir' in err
    assert main.run(micro_config_dict(micro_data, **settings), tmp_path / 'run', 'train') == 2
    err = capfd.readouterr().err
    assert 'nothing is lost if the folder is removed' in err and 'init_from' not in err


@pytest.mark.parametrize('what', ['loss', 'gradient', 'parameters'])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_tracklets(
    micro_data, tmp_path, capfd, monkeypatch, what
):
    from pvlad_jax.runs import training_run as job

    made = job.make_train_step

    def make(*arguments):
        step = made(*arguments)

        def spoiled(state, batch):
            wrong = int(state.step) == 4
            state, metrics = step(state, batch)
            name = {'loss': 'loss', 'gradient': 'gradient_norm', 'parameters': 'parameter_norm'}[what]
            return state, metrics | ({name: jax.numpy.float32('nan')} if wrong else {})

        return spoiled

    monkeypatch.setattr(job, 'make_train_step', make)
    config = micro_config_dict(
        micro_data, **AVERAGE, **{'training.steps': 6, 'training.checkpoint_every': 2, 'training.log_every': 4}
    )
    assert main.run(config, tmp_path / 'run', 'train') == 2
    err = capfd.readouterr().err
    which = 'The parameters after' if what == 'parameters' else f'The {what} of'
    assert f'{which} step 5' in err and 'nan' in err and 'checkpoint (step 4) is kept' in err
    experiment = prepare(micro_config(micro_data, **AVERAGE))
    from pvlad_jax.data.train_batches import TrainBatches

    batches = TrainBatches(experiment.dataset, experiment.partition.train, micro_config(micro_data))
    for row in batches[4]['row']:
        assert batches.train.tracklet[row] in err
    monkeypatch.setattr(job, 'make_train_step', made)  # fixed: the same command resumes
    assert main.run(config, tmp_path / 'run', 'train') == 0
    assert 'Resuming' in capfd.readouterr().out


def test_resumed_in_process_equals_uninterrupted(micro_data, tmp_path):
    """The same on eight devices, under fsdp, with accumulation: two pieces against one run."""
    from pvlad_jax.launch.preemption import Preempted, StopRequest
    from pvlad_jax.runs.train import train

    fields = {
        **RUN,
        'training.steps': 4,
        'training.checkpoint_every': 100,  # saved where it is stopped
        'mesh.data': 2,
        'mesh.fsdp': 4,
        'batch.tracklets': 4,
        'optimizer.accumulate': 2,
        'training.eval_every': 0,
    }
    config = micro_config(micro_data, **fields)
    heard: list[str] = []
    train(prepare(config), tmp_path / 'whole', heard.append)
    stop = StopRequest()

    def say(text):
        if text.startswith('step     1/'):
            stop.request()

    with pytest.raises(Preempted, match='saved after step'):
        train(prepare(config), tmp_path / 'pieces', say, stop)
    train(prepare(config), tmp_path / 'pieces', heard.append)
    assert any('Resuming' in text for text in heard)
    final = []
    for name in ('whole', 'pieces'):
        checkpoints = Checkpoints(tmp_path / name / 'checkpoints', config.checkpoint)
        state, data = checkpoints.restore(prepare(config).state_shapes())
        final.append((gather_to_host(state), data['next_index']))
        checkpoints.close()
    assert_equal_to_the_bit(*final)


def test_a_traced_run_leaves_a_profile(micro_data, tmp_path):
    config = micro_config_dict(micro_data, **AVERAGE, **{'training.steps': 3, 'profile': '2:3'})
    assert main.run(config, tmp_path / 'run', 'train') == 0
    assert list((tmp_path / 'run' / 'profile').rglob('*.xplane.pb'))


def by_hand(kills: int) -> None:
    """The long form; prints what happened."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    folder = Path(tempfile.mkdtemp())
    build_micro(folder / 'data')
    assert start(folder / 'data', folder / 'whole').wait() == 0
    seed, count, loops = time.time_ns() % 1000, 0, 0
    began = time.monotonic()
    while count < kills:
        kinds = random.Random(seed + loops).choices(['any', 'step', 'save', 'save'], k=kills - count)
        happened = kill_loop(folder / 'data', folder / f'run{loops}', kinds, seed + loops, longest=8)
        assert_same_run(folder / 'data', folder / f'run{loops}', folder / 'whole')
        count, loops = count + len(happened), loops + 1
        print(
            f'{len(happened)} kills, (moment, last step saved): {happened}; the end is the same to the bit', flush=True
        )
    print(f'{count} SIGKILLs in {loops} runs of {STEPS} steps, seed {seed}, {time.monotonic() - began:.0f} s')
    shutil.rmtree(folder)


if __name__ == '__main__':
    by_hand(int(sys.argv[1]))
