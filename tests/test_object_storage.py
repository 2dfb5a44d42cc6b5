"""A working directory in object storage: a file system in memory stands in for it, or a server on this machine for
whole runs.

python -m tests.test_object_storage 10     # the long form of the killed run, with 10 SIGKILLs
"""

import importlib.util
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, read_embeddings, write_embeddings
from pvlad_jax.runs import workdir
from pvlad_jax.runs.checkpoint_digests import DIGESTS, first_altered, write_digests
from pvlad_jax.runs.metric_writer import MetricWriter
from tests.helpers.killed_runs import STEPS, assert_same_run, start, states
from tests.helpers.micro import build_micro, micro_config
from tests.helpers.object_storage_server import bucket_server


class Bucket(MemoryFileSystem):
    store, pseudo_dirs, protocol = {}, [''], ('gs', 'gcs', 'memory')

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix('gs://').removeprefix('gcs://'))


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(backend.fsspec_backend, '_get_filesystem', lambda name: Bucket())
    Bucket.store.clear()
    return 'gs://bucket/run'


def test_configuration_metrics_and_results_go_to_the_bucket(bucket, micro_data, tmp_path):
    folder, config = workdir.open_workdir(bucket), micro_config(micro_data)
    with workdir.claim(folder):
        workdir.check_config(folder, config)
        workdir.write_config(folder, config)
    workdir.check_config(folder, config)
    with pytest.raises(UserError, match=r'model\.clusters: 3 before, 4 now'):
        workdir.check_config(folder, micro_config(micro_data, **{'model.clusters': 4}))
    log = MetricWriter(folder, 0)
    for step in (1, 2, 3):
        log.write(step, 'train', {'loss': 1 / step})
    log.close()
    MetricWriter(folder, 2).close()  # taken up at step 2
    assert [json.loads(line)['step'] for line in (folder / 'metrics.jsonl').read_text().splitlines()] == [1, 2]
    made = Embeddings(
        embedding=np.eye(2, dtype=np.float32),
        person_id=np.array([1, 2]),
        camera_id=np.array([1, 2]),
        tracklet=np.array(['a', 'b']),
    )
    write_embeddings(folder / 'embeddings' / 'query.npz', made)
    (tmp_path / 'query.npz').write_bytes((folder / 'embeddings' / 'query.npz').read_bytes())
    np.testing.assert_array_equal(read_embeddings(tmp_path / 'query.npz').embedding, made.embedding)
    assert any(name.endswith('config.json') for name in Bucket.store)


def test_digests_of_a_checkpoint_in_the_bucket(bucket):
    step = workdir.open_workdir(bucket) / 'checkpoints' / '3'
    for name, content in (('about/metadata', b'{}'), ('state/d/1', b'one'), ('state/ocdbt/d/2', b'two'), ('_M', b'')):
        (step / name).parent.mkdir(parents=True, exist_ok=True)
        (step / name).write_bytes(content)
    assert first_altered(step, 'state') is None
    write_digests(step)
    assert sorted(json.loads((step / DIGESTS).read_text())) == ['about/metadata', 'state/d/1', 'state/ocdbt/d/2']
    assert first_altered(step, 'state') is first_altered(step, 'about') is None
    (step / 'state' / 'ocdbt' / 'd' / '2').write_bytes(b'twp')
    assert str(first_altered(step, 'state')).endswith('3/state/ocdbt/d/2') and first_altered(step, 'about') is None
    (step / 'about' / 'metadata').unlink()
    assert str(first_altered(step, 'about')).endswith('3/about/metadata')


GCSFS = importlib.util.find_spec('gcsfs') is not None
WORKDIR = 'gs://bucket/runs/one'
FIELDS = {'model.pooling': 'average'}  # traced in a third of the time; what is stored where is the same


def downloaded(bucket, folder: Path) -> Path:
    """What is in the bucket's working directory, as files of a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, stored in bucket.objects.items():
        path = folder / name.removeprefix(WORKDIR.removeprefix('gs://bucket/') + '/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored.content)
    return folder


def ended(process, code: int = 0) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out


def committed(bucket) -> set[int]:
    return {
        int(name.split('/')[-2])
        for name in bucket.objects
        if name.endswith('/commit_success.txt') and name.split('/')[-2].isdigit()
    }


@pytest.mark.skipif(not GCSFS, reason='needs gcsfs: pip install -r requirements-gcs.txt')
def test_a_whole_run_in_a_bucket_killed_in_a_save_equals_the_local_one(micro_data, tmp_path, monkeypatch):
    with bucket_server() as (bucket, environment):
        local = start(micro_data, tmp_path / 'local', fields=FIELDS)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        process = start(micro_data, WORKDIR, fields=FIELDS)

        def kill_before_the_mark_of_step_3(name: str) -> None:
            if name.endswith('checkpoints/3/commit_success.txt'):
                process.kill()
                process.wait()
                raise ConnectionAbortedError  # the mark is not stored: everything else of this step is

        bucket.before_put = kill_before_the_mark_of_step_3
        ended(process, -9)
        assert committed(bucket) == {1, 2} and any('checkpoints/3/state/' in name for name in bucket.objects)
        bucket.before_put = lambda name: None
        assert f'after step 2 of {STEPS}' in ended(start(micro_data, WORKDIR, fields=FIELDS))
        ended(local)
        assert_same_run(micro_data, downloaded(bucket, tmp_path / 'copy'), tmp_path / 'local', FIELDS)
        tuned = start(micro_data, tmp_path / 'tuned', fields=FIELDS | {'init_from': WORKDIR, 'training.steps': 1})
        assert f'Weights of {WORKDIR}, step {STEPS} (last)' in ended(tuned)
        assert sorted(states(micro_data, tmp_path / 'copy', FIELDS)) == sorted(committed(bucket))
        bucket.delete('runs/one/eval/latest.json')
        # Another process is saving the next checkpoint meanwhile: an evaluation leaves it alone, as it does all others.
        begun = bucket.objects[f'runs/one/checkpoints/{STEPS}/about/metadata']
        for unfinished in (
            f'checkpoints/{STEPS + 1}/about/metadata',
            f'checkpoints/{STEPS + 2}.orbax-checkpoint-tmp/about/metadata',
        ):
            bucket.objects[f'runs/one/{unfinished}'] = begun
        checkpoints = {name: stored.content for name, stored in bucket.objects.items() if '/checkpoints/' in name}
        ended(start(micro_data, WORKDIR, '--mode', 'eval', fields=FIELDS))
        assert {
            name: stored.content for name, stored in bucket.objects.items() if '/checkpoints/' in name
        } == checkpoints
        scored, trained = (
            json.loads(bucket.objects[f'runs/one/eval/{name}.json'].content) for name in ('latest', f'step_{STEPS}')
        )
        assert scored == trained


def by_hand(kills: int) -> None:
    """SIGKILLs at random moments, most of them in or around a save; prints what happened."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    folder, rng = Path(tempfile.mkdtemp()), random.Random(time.time_ns())
    build_micro(folder / 'data')
    ended(start(folder / 'data', folder / 'local'))
    count, runs, began = 0, 0, time.monotonic()
    while count < kills:
        with bucket_server() as (bucket, environment):
            os.environ.update(environment)
            while count < kills and max(committed(bucket), default=0) < STEPS - 1:
                process, seen = start(folder / 'data', WORKDIR, '--step_seconds', '0.3'), [0]
                after = rng.randint(1, 60)  # objects written by it; a save has about 16

                def kill(name, process=process, seen=seen, after=after):
                    seen[0] += '/checkpoints/' in name
                    if seen[0] == after:
                        process.kill()

                bucket.before_put = kill
                process.communicate()
                if process.returncode == 0:
                    break
                count += 1
                print(f'killed at object {after} that it saved; committed: {sorted(committed(bucket))}', flush=True)
            bucket.before_put = lambda name: None
            ended(start(folder / 'data', WORKDIR))
            assert_same_run(folder / 'data', downloaded(bucket, folder / 'copy'), folder / 'local')
            runs += 1
    print(
        f'{count} SIGKILLs in {runs} runs of {STEPS} steps in a bucket, the end the same to the bit; '
        f'{time.monotonic() - began:.0f} s'
    )
    shutil.rmtree(folder)


if __name__ == '__main__':
    by_hand(int(sys.argv[1]))
