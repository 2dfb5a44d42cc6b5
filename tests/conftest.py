"""Eight virtual CPU devices, whatever the machine has; real data where it is next to the repository."""

import atexit
import collections
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from absl import flags

from tests.helpers import annotation_checks, quick_compilation

# Every annotation of a type and a shape is checked in every test, where a function is called or traced. Before anything
# imports the two.
annotation_checks.install()

# Before anything imports JAX.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {quick_compilation.xla_flags(devices=8)}'

# Programs compiled by one test serve the others and the processes that tests start: one folder a session, made by the
# first process.
if not os.environ.get('PVLAD_TEST_COMPILE_CACHE'):
    os.environ['PVLAD_TEST_COMPILE_CACHE'] = tempfile.mkdtemp(prefix='pvlad_compile_cache_')
    atexit.register(shutil.rmtree, os.environ['PVLAD_TEST_COMPILE_CACHE'], ignore_errors=True)
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.environ['PVLAD_TEST_COMPILE_CACHE']
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'

# Fewer full garbage collections: 9.8 -> 2.2 s of two minutes of tests.
gc.set_threshold(20_000, 20, 20)

flags.FLAGS.mark_as_parsed()  # Grain reads flags, and no absl application runs here


# Files of few tests that wait long for the programs that they start: begun first. In pytest-xdist's own order, by the
# number of tests, they come last, and the other workers have ended.
WAITING = ('test_object_storage', 'test_inherited_weights')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take whole files, in this order (--no-loadscope-reorder)."""
    tests = collections.Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.stem not in WAITING, -tests[item.path], str(item.path)))


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of real tracklets and official tables; tests that need it are skipped elsewhere."""
    path = Path(__file__).resolve().parents[2] / 'shared'
    if not path.is_dir():
        pytest.skip(f'needs the data folder {path.name}/ next to the repository')
    return path


@pytest.fixture(scope='session')
def micro_data(tmp_path_factory) -> Path:
    """A data_dir with the data set 'micro' (tests/helpers/micro.py)."""
    from tests.helpers.micro import build_micro

    data_dir = tmp_path_factory.mktemp('data')
    build_micro(data_dir)
    return data_dir
