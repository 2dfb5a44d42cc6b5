"""What commands keep from the terminal, and what they let through."""

import logging
import warnings

import pytest
from absl import logging as absl_logging

from pvlad_jax.core.library_messages import quiet_libraries


@pytest.fixture
def quiet():
    before, filters = (
        absl_logging.get_verbosity(),
        {name: list(logging.getLogger(name).filters) for name in ('absl', 'asyncio')},
    )
    with warnings.catch_warnings():
        quiet_libraries()
        quiet_libraries()  # twice is once
        yield
    absl_logging.set_verbosity(before)
    for name, kept in filters.items():
        logging.getLogger(name).filters[:] = kept


def shown(logger: str, level: int, message: str, path: str = 'x.py') -> bool:
    record = logging.LogRecord(logger, level, path, 1, message, None, None)
    found = logging.getLogger(logger)
    return found.isEnabledFor(level) and bool(found.filter(record))


def test_progress_reports_of_libraries_are_not_shown(quiet):
    assert not shown(
        'jax._src.xla_bridge', logging.INFO, "Unable to initialize backend 'tpu': INTERNAL: Failed to open libtpu.so"
    )
    assert not shown('absl', logging.WARNING, 'Saving step 3', '/lib/orbax/checkpoint/manager.py')
    assert not shown('absl', logging.WARNING, 'The user did not provide metrics for this step')
    assert not shown('asyncio', logging.ERROR, 'Task exception was never retrieved')
    with warnings.catch_warnings(record=True) as raised:
        warnings.warn('zarr is not installed: GCS paths of zarr cannot be read', RuntimeWarning, stacklevel=1)
    assert not raised
    assert len(logging.getLogger('asyncio').filters) == 1


def test_what_a_user_can_act_on_is_shown(quiet):
    assert shown(
        'jax._src.xla_bridge',
        logging.WARNING,
        'An NVIDIA GPU may be present, but a CUDA-enabled jaxlib is not installed.',
    )
    assert shown('absl', logging.WARNING, 'something else')
    assert shown('asyncio', logging.ERROR, 'something else')
    with pytest.warns(RuntimeWarning):
        warnings.warn('overflow encountered in exp', RuntimeWarning, stacklevel=1)
