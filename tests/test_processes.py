"""Two processes on one machine: the same run as one process makes, one end for both, and one message."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import main
from pvlad_jax.config import CheckpointConfig
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.pk_sampler import PKSampler
from pvlad_jax.evaluation import read_embeddings
from pvlad_jax.launch import distributed
from pvlad_jax.launch.distributed import Processes, is_multiprocess_expected
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import prepare
from tests.helpers.forked_run import ForkedRun, start_micro
from tests.helpers.killed_runs import lines, wait_for
from tests.helpers.long_tests import LONG
from tests.helpers.micro import micro_config, micro_config_dict
from tests.helpers.micro_splits import build_micro_splits

ROOT = Path(__file__).resolve().parents[1]
# SGD: Adam's first steps divide gradients by their own size and make any rounding of a zero visible.
RUN = {
    'training.steps': 4,
    'training.checkpoint_every': 2,
    'training.log_every': 1,
    'optimizer.name': 'sgd',
    'optimizer.learning_rate': 0.05,
    'optimizer.ema': 0.9,
    'loss.oim': 0.5,
    'loss.auxiliary': 0.5,
    'model.clusters': 4,
    'model.descriptor_dim': 64,
    'model.embedding_dim': 64,
}
FSDP = {'mesh.data': 2, 'mesh.fsdp': 4}
# Where the network does not matter: traced in a third of the time. Where the mesh does not either, a device in each
# process.
AVERAGE = {'model.pooling': 'average'}


def start(data_dir, workdir, *arguments, fields=None, devices=8) -> ForkedRun:
    return start_micro(data_dir, workdir, *arguments, fields={**RUN, **(fields or {})}, devices=devices)


def start_two(data_dir, workdir, *arguments, fields=None, second=None, devices=4) -> list[ForkedRun]:
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    return [
        start(
            data_dir,
            workdir,
            '--coordinator',
            f'localhost:{port}',
            '--num_processes',
            '2',
            '--process_id',
            str(i),
            *arguments,
            fields={**(fields or {}), **((second or {}) if i else {})},
            devices=devices,
        )
        for i in range(2)
    ]


def ends(several: list[ForkedRun], code: int, seconds: float = 300) -> list[tuple[str, str]]:
    """(stdout, stderr) of each, once all have ended with this code."""
    said = []
    try:
        until = time.monotonic() + seconds
        for process in several:
            said.append(process.communicate(timeout=max(until - time.monotonic(), 0.1)))
    finally:
        for process in several:
            process.kill()
    assert [p.returncode for p in several] == [code] * len(several), said
    return said


def wait_for_step(several: list[ForkedRun], workdir, step: int) -> None:
    until = time.monotonic() + 300  # seconds; on a busy machine a start takes minutes
    while not any(x['step'] >= step for x in lines(workdir)):
        assert all(p.poll() is None for p in several), [p.communicate() for p in several]
        assert time.monotonic() < until, 'waited too long'
        time.sleep(0.05)


def final_state(shapes, workdir):
    """On this process's eight devices, whoever saved it."""
    checkpoints = Checkpoints(Path(workdir) / 'checkpoints', CheckpointConfig(keep_latest=2, keep_best=0))
    state, _ = checkpoints.restore(shapes)
    checkpoints.close()
    return gather_to_host(state)


# A mesh of both splits the batch over both, so it holds the simpler one.
@pytest.mark.parametrize('fields', [pytest.param({}, id='data', marks=LONG), pytest.param(FSDP, id='fsdp')])
def test_two_processes_of_four_devices_equal_one_of_eight(micro_data, tmp_path, fields):
    running = start_two(micro_data, tmp_path / 'two', fields=fields)
    assert main.run(micro_config_dict(micro_data, **{**RUN, **fields}), tmp_path / 'one', 'train') == 0
    two = ends(running, 0)
    assert 'step     4/4' in two[0][0] and 'step' not in two[1][0]  # process 0 speaks for both
    for a, b in zip(lines(tmp_path / 'one'), lines(tmp_path / 'two'), strict=True):
        for name in a.keys() - {'steps_per_second', 'input_wait', 'kind'}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5), name
    shapes = prepare(micro_config(micro_data, **{**RUN, **fields})).state_shapes()
    one, two = (final_state(shapes, tmp_path / name) for name in ('one', 'two'))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    for role in ('query', 'gallery'):
        one, two = (read_embeddings(tmp_path / name / 'embeddings' / f'{role}.npz') for name in ('one', 'two'))
        assert list(one.tracklet) == list(two.tracklet)
        np.testing.assert_allclose(one.embedding, two.embedding, atol=1e-4)


def test_sigterm_to_one_of_two_makes_both_save_the_same_step_and_one_process_goes_on(micro_data, tmp_path):
    fields = {**FSDP, **AVERAGE, 'training.checkpoint_every': 100, 'training.steps': 8}
    two = start_two(micro_data, tmp_path / 'run', '--step_seconds', '0.5', fields=fields)
    wait_for_step(two, tmp_path / 'run', 2)
    two[1].send_signal(signal.SIGTERM)
    said = ends(two, 75)
    assert said[0][1].count('saved after step') == 1
    step = int(said[0][1].split('saved after step ')[1].split()[0])
    assert f'saved after step {step} of 8' in said[1][1]
    alone = start(micro_data, tmp_path / 'run', fields={**fields, 'mesh.data': 1, 'mesh.fsdp': 2}, devices=2)
    ((out, _),) = ends([alone], 0)
    assert f'Resuming {tmp_path / "run"} after step {step} of 8' in out
    assert [x['step'] for x in lines(tmp_path / 'run')] == list(range(1, 9))


def test_sigterm_to_one_of_two_in_a_long_evaluation_stops_both_and_the_step_is_saved(micro_data, tmp_path):
    fields = {'training.checkpoint_every': 100, 'training.eval_every': 2, 'evaluation.clips_per_step': 1}
    fields |= AVERAGE
    # 8 s and more for the queries, twice that for the gallery.
    two = start_two(micro_data, tmp_path / 'run', '--embed_seconds', '1', fields=fields, devices=1)
    wait_for_step(two, tmp_path / 'run', 2)
    began = time.monotonic()
    two[1].send_signal(signal.SIGTERM)
    said = ends(two, 75)
    assert time.monotonic() - began < 10
    assert all('saved after step 2 of 4' in err for _, err in said)
    assert (tmp_path / 'run' / 'checkpoints' / '2').exists() and not lines(tmp_path / 'run', 'eval')


def test_sigterm_to_one_of_two_before_the_first_step_ends_both(micro_data, tmp_path):
    two = start_two(micro_data, tmp_path / 'run', '--step_seconds', '60', fields=AVERAGE, devices=1)
    wait_for(lambda: 'A new run' in two[0].printed(), two[0])
    began = time.monotonic()
    two[0].send_signal(signal.SIGTERM)  # with it goes the service through which the others hear
    said = ends(two, 75)
    assert time.monotonic() - began < 10
    assert all('nothing to save yet' in err for _, err in said)


def test_a_corrupt_record_of_one_ends_both_with_its_name(micro_data, tmp_path):
    experiment = prepare(micro_config(micro_data, **RUN))
    rows = [set(PKSampler(experiment.partition.train, 4, 2, 0, 1).rows(step)) for step in range(4)]
    late = experiment.partition.train.tracklet[min(rows[3] - rows[0] - rows[1] - rows[2])]
    said = ends(start_two(micro_data, tmp_path / 'run', '--corrupt', late, fields=AVERAGE, devices=1), 2)
    assert all(err.count(f"Tracklet '{late}', frame 0") == 1 and 'cannot be decoded' in err for _, err in said), said
    assert max(x['step'] for x in lines(tmp_path / 'run')) <= 3


def test_a_loss_that_is_not_finite_ends_both_with_the_tracklets(micro_data, tmp_path):
    fields = {**AVERAGE, 'optimizer.learning_rate': 1e38, 'optimizer.clip_norm': 0.0, 'optimizer.warmup_steps': 0}
    said = ends(start_two(micro_data, tmp_path / 'run', fields=fields, devices=1), 2)
    assert all("this batch's tracklets: p" in err for _, err in said), said


@LONG
def test_two_build_the_walkers_together_and_wait_for_each_other(tmp_path):
    build = {'train_people': 6, 'test_people': 3, 'cameras': 2, 'tracklets_per_camera': 2, 'twins': False, 'seed': 0}
    fields = {'dataset.name': 'walkers', 'dataset.build_options': build, 'training.steps': 2}
    said = ends(start_two(tmp_path / 'data', tmp_path / 'run', fields=fields), 0, 300)
    assert (tmp_path / 'data' / 'walkers').is_dir() and 'step     2/2' in said[0][0]
    assert not list((tmp_path / 'data' / 'walkers').glob('incomplete*'))


@LONG
def test_two_go_through_all_splits_as_one_does(tmp_path):
    build_micro_splits(tmp_path / 'data')
    fields = {'dataset.name': 'micro_splits', 'dataset.split': 'all', 'training.steps': 2, 'batch.identities': 4}
    said = ends(start_two(tmp_path / 'data', tmp_path / 'two', fields=fields), 0, 300)
    ends([start(tmp_path / 'data', tmp_path / 'one', fields=fields)], 0, 300)
    one, two = (json.loads((tmp_path / name / 'eval' / 'latest.json').read_text()) for name in ('one', 'two'))
    assert two['split'] == 'mean of 3 splits' and 'mean' in said[0][0] and 'mean' not in said[1][0]
    assert one['mean'] == pytest.approx(two['mean'], abs=1e-6)
    for split in ('split_0', 'split_1', 'split_2'):
        one, two = ([x['loss'] for x in lines(tmp_path / name / split)] for name in ('one', 'two'))
        assert len(one) == 2 and one == pytest.approx(two, rel=1e-4)


@pytest.mark.parametrize('victim', [pytest.param(0, marks=LONG), 1])
def test_a_killed_process_ends_the_other_with_a_message(micro_data, tmp_path, victim):
    options = {'fields': {'training.steps': 400, **AVERAGE}, 'devices': 1}
    two = start_two(micro_data, tmp_path / 'run', '--step_seconds', '0.3', '--heartbeat', '5', **options)
    wait_for_step(two, tmp_path / 'run', 2)
    two[victim].kill()
    began = time.monotonic()
    _, err = two[1 - victim].communicate(timeout=120)
    # Where the coordinator dies, JAX's own message (and abort) may come before ours.
    assert two[1 - victim].returncode in ((69,) if victim else (69, -signal.SIGABRT)), err
    assert ('Lost ' in err and 'Give the same command again' in err) or (not victim and 'another task died' in err)
    assert time.monotonic() - began < 30


def test_a_mistake_ends_all_with_its_message(micro_data, tmp_path):
    said = ends(start_two(micro_data, tmp_path / 'run', second={'seed': 1}, devices=1), 2)
    assert all('given another configuration than process 0' in err for _, err in said)
    assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize(
    ('environ', 'tpu', 'expected'),
    [
        ({}, False, False),
        ({}, True, True),
        ({'JAX_PLATFORMS': 'cpu'}, True, False),
        ({'SLURM_NTASKS': '8', 'SLURM_PROCID': '3'}, False, True),
        ({'SLURM_NTASKS': '8'}, False, False),  # inside sbatch, but not started by srun
        ({'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, False, False),
        ({'OMPI_COMM_WORLD_SIZE': '2'}, False, True),
        ({'JAX_COORDINATOR_ADDRESS': 'host:1234'}, False, True),
    ],
)
def test_surroundings_say_whether_there_are_others(environ, tpu, expected):
    assert is_multiprocess_expected(environ, tpu) is expected


@pytest.mark.parametrize(
    'given',
    [
        Processes(coordinator='localhost:1'),
        Processes(num_processes=2),
        Processes(process_id=0),
        Processes(coordinator='localhost:1', num_processes=2, process_id=2),
        Processes(mode='off', coordinator='localhost:1', num_processes=2, process_id=0),
    ],
)
def test_flags_that_do_not_belong_together_are_told(given):
    with pytest.raises(UserError, match=r'belong together|does not go with --coordinator'):
        distributed.start(given)


def test_nothing_is_started_where_nobody_else_is(monkeypatch):
    for name in list(os.environ):
        if name.startswith(('SLURM_', 'OMPI_', 'JAX_COORDINATOR')):
            monkeypatch.delenv(name)
    distributed.start(Processes())
    assert not jax.distributed.is_initialized() and not distributed.is_multiprocess() and distributed.is_first()
