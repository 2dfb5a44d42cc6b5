"""What the machine refuses is one sentence in every command; a fault of the program keeps its traceback."""

import errno
import importlib
import sys

import jax
import numpy as np
import pytest

from pvlad_jax.core.environment_errors import environment_error, one_sentence
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.launch import exit as ending


class StorageError(Exception):
    __module__ = 'gcsfs.retry'


def os_error(number: int, path: str | None = '/data/x') -> OSError:
    return OSError(number, 'as the system says it', path)


KNOWN = [
    (os_error(errno.ENOSPC), 'No space left: /data/x cannot be written'),
    (os_error(errno.EDQUOT), 'Disk quota exceeded: /data/x'),
    (OSError('write failed: No space left on device'), 'No space left'),
    (os_error(errno.EACCES), '/data/x cannot be used: permission denied'),
    (os_error(errno.EROFS), 'its file system is read-only'),
    (os_error(errno.ENOENT), '/data/x cannot be used: no such file or folder'),
    (os_error(errno.ENOTDIR), 'is a file where a folder is needed'),
    (os_error(errno.EISDIR), 'it is a folder where a file is needed'),
    (os_error(errno.EMFILE, None), 'too many open files'),
    (os_error(errno.EIO), 'Check the disk'),
    (os_error(errno.ENOMEM), 'too little memory'),
    (os_error(errno.ECONNREFUSED, None), 'A file, folder or connection cannot be used: as the system says it'),
    (MemoryError(), 'This machine has too little memory. Make'),
    (
        jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore'),
        'device has too little memory (RES',
    ),
    (
        RuntimeError("Unable to initialize backend 'tpu': INTERNAL: x (set JAX_PLATFORMS='' to ...)"),
        "backend 'tpu': INTERNAL: x). Install",
    ),
    (jax.errors.JaxRuntimeError('INTERNAL: CUDA_ERROR_ECC_UNCORRECTABLE'), 'The device failed'),
    (
        StorageError('403: no access to bucket'),
        'Object storage refused the request (StorageError) (403: no access to bucket)',
    ),
]
UNKNOWN = [
    ValueError('x'),
    KeyError('x'),
    AssertionError(),
    RuntimeError('x'),
    jax.errors.JaxRuntimeError('INVALID_ARGUMENT: x'),
    ZeroDivisionError(),
]


@pytest.mark.parametrize(('error', 'says'), KNOWN, ids=[says[:30] for _, says in KNOWN])
def test_one_sentence_for_what_the_environment_refuses(error, says):
    said = environment_error(error)
    assert says in said and '\n' not in said and said.endswith('.')


def test_a_real_array_too_large_is_too_little_memory():
    with pytest.raises(MemoryError) as refused:
        np.empty(2**60, np.uint8)
    assert 'too little memory (Unable to allocate' in environment_error(refused.value)


def test_an_assertion_without_a_word_is_a_missing_plugin_where_jax_has_no_devices(monkeypatch):
    assert environment_error(AssertionError()) is None  # there are devices

    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, 'devices', devices)
    assert 'no such device here (its plugin for JAX is not installed)' in environment_error(AssertionError())
    assert environment_error(AssertionError('of our own')) is None


@pytest.mark.parametrize('error', UNKNOWN, ids=repr)
def test_a_fault_of_the_program_is_none_of_the_environment(error):
    assert environment_error(error) is None
    with pytest.raises(type(error)), one_sentence():
        raise error

    def job(stop):
        raise error

    with pytest.raises(type(error)):
        ending.exit_code(job)


def test_the_program_ends_with_the_sentence(capfd):
    def job(stop):
        raise os_error(errno.EROFS)

    assert ending.exit_code(job) == EXIT_USER_ERROR
    assert capfd.readouterr().err == 'Error: /data/x cannot be used: its file system is read-only. Give another path.\n'


def fails_in(module: str, function: str, arguments: list[str], monkeypatch) -> int:
    """The exit code of a command whose work is refused by the disk."""
    command = importlib.import_module(module)

    def refused(*_, **__):
        raise os_error(errno.EROFS)

    monkeypatch.setattr(command, function, refused)
    try:
        return command.main(arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ('module', 'function', 'arguments'),
    [
        ('data_prep.build_tfds', 'run', ['build_tfds.py']),
        ('pvlad_jax.evaluation.__main__', 'read_embeddings', ['--query=q', '--gallery=g']),
    ],
)
def test_other_commands_end_with_it_too(capfd, monkeypatch, module, function, arguments):
    assert fails_in(module, function, arguments, monkeypatch) == EXIT_USER_ERROR
    said = capfd.readouterr().err
    assert '/data/x cannot be used: its file system is read-only' in said and 'Traceback' not in said


def test_importing_weights_ends_with_it_too(capfd, monkeypatch):
    from data_prep import import_weights

    class Flags:
        source, file, output = 'torchvision', 'x', 'y'
        channels = backbone = dataset = data_dir = None

    monkeypatch.setattr(import_weights, 'FLAGS', Flags)
    assert fails_in('data_prep.import_weights', 'read_source', ['import_weights.py'], monkeypatch) == EXIT_USER_ERROR
    assert 'read-only' in capfd.readouterr().err


@pytest.mark.parametrize('error', [os_error(errno.EACCES), UserError('What to do.')], ids=['environment', 'user'])
def test_benchmarks_end_with_it_too(capfd, error):
    with pytest.raises(SystemExit) as end, one_sentence():
        raise error
    said = capfd.readouterr().err
    assert end.value.code == EXIT_USER_ERROR and said.startswith('Error: ') and said.count('\n') == 1
    assert 'Traceback' not in said and sys.exc_info() == (None, None, None)
