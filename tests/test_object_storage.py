"""A working directory in object storage, which a file system in memory stands in for. Checkpoints go there by TensorStore: not here."""

import json

import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation import Embeddings, read_embeddings, write_embeddings
from pvlad_jax.jobs import workdir as workdirs
from pvlad_jax.jobs.metric_log import MetricLog
from tests.micro import micro_config


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
    folder, config = workdirs.folder(bucket), micro_config(micro_data)
    with workdirs.claim(folder):
        workdirs.check_config(folder, config)
        workdirs.write_config(folder, config)
    workdirs.check_config(folder, config)
    with pytest.raises(UserError, match=r'model\.words: 3 before, 4 now'):
        workdirs.check_config(folder, micro_config(micro_data, **{'model.words': 4}))
    log = MetricLog(folder, 0)
    for step in (1, 2, 3):
        log.write(step, 'train', {'loss': 1 / step})
    log.close()
    MetricLog(folder, 2).close()  # taken up at step 2
    assert [json.loads(line)['step'] for line in (folder / 'metrics.jsonl').read_text().splitlines()] == [1, 2]
    made = Embeddings(embedding=np.eye(2, dtype=np.float32), person_id=np.array([1, 2]),
                      camera_id=np.array([1, 2]), tracklet=np.array(['a', 'b']))
    write_embeddings(folder / 'embeddings' / 'query.npz', made)
    (tmp_path / 'query.npz').write_bytes((folder / 'embeddings' / 'query.npz').read_bytes())
    np.testing.assert_array_equal(read_embeddings(tmp_path / 'query.npz').embedding, made.embedding)
    assert any(name.endswith('config.json') for name in Bucket.store)
