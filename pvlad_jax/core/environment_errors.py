"""What the machine refused, in one sentence: memory, disk, permissions, devices, object storage. The one place that
knows these errors.

A command's outermost handler asks `environment_error` and prints what it says instead of a traceback. What it does not
know is a fault of the program, whose traceback is wanted.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

from pvlad_jax.core import terminal
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.files import disk_full_reason

_REASONS = {
    errno.EACCES: 'permission denied. Check who owns it, or give another path',
    errno.EPERM: 'permission denied. Check who owns it, or give another path',
    errno.EROFS: 'its file system is read-only. Give another path',
    errno.ENOENT: 'no such file or folder. Check the path; it may have been removed meanwhile',
    errno.ENOTDIR: 'a part of this path is a file where a folder is needed. Give another path',
    errno.EISDIR: 'it is a folder where a file is needed. Give another path',
    errno.ENAMETOOLONG: 'the path is too long. Give a shorter one',
    errno.EMFILE: 'too many open files. Raise the limit (ulimit -n)',
    errno.ENFILE: 'too many open files on this machine',
    errno.ENOTCONN: 'the file system is not connected. Mount it again',
    errno.ESTALE: 'the file system has lost this file (stale handle). Mount it again',
    errno.EIO: 'the disk failed to read or write it (input/output error). Check the disk',
}
_OUT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'Out of memory', 'out of memory', 'Failed to allocate')
_NO_DEVICE = (
    'Unable to initialize backend',
    'Unknown backend',
    'no CUDA-capable device',
    'CUDA_ERROR_NO_DEVICE',
    'CUDA driver version is',
)
_DEVICE_LOST = ('CUDA_ERROR_', 'TPU initialization failed', 'device is lost')
# Modules of the errors of object storage.
_STORAGE = ('gcsfs', 'google.auth', 'google.api_core', 'google.cloud', 'aiohttp', 's3fs', 'botocore', 'fsspec')
_MAX_REASON = 300  # characters of another program's own words


def environment_error(error: BaseException) -> str | None:
    """The sentence for an error that the environment causes and that its user can do something about; None for any
    other."""
    text = str(error)
    if reason := disk_full_reason(error):
        return f'{reason}: {_path(error) or "a file"} cannot be written. Make room and give the same command again.'
    if isinstance(error, MemoryError) or getattr(error, 'errno', None) == errno.ENOMEM:
        return (
            f'This machine has too little memory{_own_words(text)}. Make batches or clips smaller, or use a '
            'machine with more.'
        )
    if any(sign in text for sign in _OUT_OF_MEMORY) and _is_from_jax(error):
        return (
            f'The device has too little memory{_own_words(text)}. Lower config.batch.identities or '
            'config.batch.tracklets in training (or see docs/cloud.md, what saves memory), '
            'config.evaluation.clips_per_step in an evaluation.'
        )
    if any(sign in text for sign in _NO_DEVICE) or _without_plugin(error):
        text = text or 'its plugin for JAX is not installed'
        return (
            f'There is no such device here{_own_words(text)}. Install JAX for it (docs/cloud.md), or use the CPU '
            'with JAX_PLATFORMS=cpu.'
        )
    if any(sign in text for sign in _DEVICE_LOST) and _is_from_jax(error):
        return (
            f'The device failed{_own_words(text)}. Checkpoints are intact: give the same command again once it works.'
        )
    if (type(error).__module__ or '').startswith(_STORAGE):
        return (
            f'Object storage refused the request ({type(error).__name__}){_own_words(text)}. Check its address, '
            'your credentials and the network.'
        )
    if isinstance(error, OSError):
        where = _path(error) or 'A file, folder or connection'
        reason = _REASONS.get(error.errno or 0) or error.strerror or text or type(error).__name__
        return f'{where} cannot be used: {reason}.'
    return None


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Around a command: a user's mistake, or an error that `environment_error` knows, is printed and ends the program
    with exit code 2."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else environment_error(error)
        if reason is None:
            raise
        terminal.complain(f'Error: {reason}')
        sys.exit(EXIT_USER_ERROR)


def _path(error: BaseException) -> str | None:
    name = getattr(error, 'filename', None)
    return str(name) if name else None


def _own_words(text: str) -> str:
    """The first line of another program's message, in brackets."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), '')
    line = re.sub(r'\s*\(set JAX_PLATFORMS=.*', '', line).rstrip('.')
    return f' ({line[:_MAX_REASON]})' if line else ''


def _without_plugin(error: BaseException) -> bool:
    """For JAX_PLATFORMS=cuda without jax[cuda12], JAX fails an assertion and says nothing; asked for devices it does so
    again."""
    silent = isinstance(error, AssertionError) and not str(error)
    if not silent or 'jax' not in sys.modules or not os.environ.get('JAX_PLATFORMS'):
        return False
    try:
        sys.modules['jax'].devices()
    except (AssertionError, RuntimeError):
        return True
    return False


def _is_from_jax(error: BaseException) -> bool:
    """Errors of XLA are of jaxlib's own class, or plain RuntimeErrors and ValueErrors with its status in front."""
    return (type(error).__module__ or '').startswith(('jax', 'jaxlib')) or isinstance(error, RuntimeError | ValueError)
