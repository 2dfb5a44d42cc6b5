"""Eight virtual CPU devices, whatever the machine has; real data where it lies beside the repository."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
# Compilation is most of a test's time: least optimisation, and the older fusions, cut it to a third.
os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
                           ' --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false')

from pathlib import Path

import pytest
from absl import flags

flags.FLAGS.mark_as_parsed()  # Grain reads flags, and no absl application runs here


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of real tracklets and official tables; tests that need it are skipped elsewhere."""
    path = Path(__file__).resolve().parents[2] / 'shared'
    if not path.is_dir():
        pytest.skip(f'needs the data folder {path.name}/ beside the repository')
    return path


@pytest.fixture(scope='session')
def micro_data(tmp_path_factory) -> Path:
    """A data_dir with the data set 'micro' (tests/micro.py)."""
    from tests.micro import build_micro

    data_dir = tmp_path_factory.mktemp('data')
    build_micro(data_dir)
    return data_dir
