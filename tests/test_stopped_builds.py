"""Builds that are interrupted, killed, meet another one or a full disk: nothing but a whole data set is ever left
behind.
"""

import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from data_prep.builder import tfds_builder
from data_prep.builder.build import build, data_set_path, is_built
from pvlad_jax.core.errors import UserError
from tests.test_build_tfds import open_split, raw, read

ROOT = Path(__file__).resolve().parents[1]


def test_interrupt_leaves_nothing_and_can_be_repeated(tmp_path):
    def interrupt(source):
        if source.name == 'train/3':
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return read(source)

    # A program that a script has put into the background is without this handler.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(raw(read_frames=interrupt), tmp_path, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(tmp_path.rglob('*')) == []
    assert is_built(build(raw(), tmp_path, progress=False))


def test_kill_leaves_nothing_that_looks_complete(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys, time
        sys.path.insert(0, sys.argv[2])
        from tests.test_stopped_builds import *
        def killed(source):
            if source.name == 'query/1':
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
            return read(source)
        build(raw(read_frames=killed), sys.argv[1], progress=False)
    """)
    done = subprocess.run([sys.executable, '-c', script, str(tmp_path), str(ROOT)], capture_output=True, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path = data_set_path(tmp_path, 'tiny')
    assert any(path.parent.glob('incomplete.*/tiny-train.array_record*')) and not path.exists()
    assert is_built(build(raw(), tmp_path, progress=False))
    assert [p.name for p in path.parent.iterdir()] == ['1.0.0']


def test_a_second_build_of_the_same_name_is_refused(tmp_path):
    def build_again(source):
        build(raw(), tmp_path, progress=False)

    with pytest.raises(UserError, match='Another process builds'):
        build(raw(read_frames=build_again), tmp_path, progress=False)
    assert list(tmp_path.rglob('*')) == []


def test_a_second_build_may_wait(tmp_path):
    """Processes that start together: one builds, the other finds it built."""
    started = threading.Event()

    def slow(source):
        started.set()
        time.sleep(0.02)
        return read(source)

    def never(source):
        raise AssertionError('built twice')

    first = threading.Thread(target=build, args=(raw(read_frames=slow), tmp_path), kwargs={'progress': False})
    first.start()
    assert started.wait(20)
    path = build(raw(read_frames=never), tmp_path, progress=False, wait=True)
    assert len(open_split(path, 'train')) == 7
    first.join()


def killed_in_a_worker(source):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed(tmp_path):
    with pytest.raises(UserError, match='want of memory'):
        build(raw(read_frames=killed_in_a_worker, workers='processes'), tmp_path, workers=1, progress=False)
    assert list(tmp_path.rglob('*')) == []


def slow_in_a_worker(source):
    time.sleep(60)


def test_workers_end_with_a_killed_parent(tmp_path):
    """Their output pipes close only when the last of them has ended."""
    script = (
        'import sys; sys.path.insert(0, sys.argv[2])\nfrom tests.test_stopped_builds import *\n'
        'threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGKILL)).start()\n'
        'build(raw(read_frames=slow_in_a_worker, workers="processes"), sys.argv[1], workers=1, progress=False)'
    )
    done = subprocess.run([sys.executable, '-c', script, str(tmp_path), str(ROOT)], capture_output=True, timeout=30)
    assert done.returncode == -signal.SIGKILL


def test_full_disk(tmp_path, monkeypatch):
    class Full(tfds_builder.ArrayRecordWriter):
        def write(self, data):
            raise RuntimeError('write() failed: No space left on device; writing some file')

    monkeypatch.setattr(tfds_builder, 'ArrayRecordWriter', Full)
    with pytest.raises(UserError, match=r'No space left for .*tiny'):
        build(raw(), tmp_path, progress=False)
    assert list(tmp_path.rglob('*')) == []


def test_disk_that_refuses_to_write(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(UserError, match='cannot be written'):
            build(raw(), tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.rglob('*')) == []
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'):
        build(raw(), tmp_path / 'file', progress=False)


@pytest.mark.parametrize('how', [KeyboardInterrupt, OSError, 'killed'])
def test_a_data_set_that_is_being_replaced_is_put_back(how, tmp_path, monkeypatch):
    """Between the two renames neither the old one nor the new one has its name."""
    path = build(raw(), tmp_path, progress=False)
    before = (path / 'metadata.json').read_bytes()
    if how == 'killed':
        path.rename(path.parent / 'incomplete.replaced')
    else:
        rename = Path.rename

        def stopped(self, target):
            if target == path and 'rebuild' in str(self):
                raise how
            return rename(self, target)

        monkeypatch.setattr(Path, 'rename', stopped)
        with pytest.raises((KeyboardInterrupt, UserError)):
            build(raw(metadata={'seed': 2}), tmp_path, overwrite=True, progress=False)
        monkeypatch.undo()
        assert (path / 'metadata.json').read_bytes() == before
    build(raw(), tmp_path, progress=False)  # of the same data
    assert (path / 'metadata.json').read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ['1.0.0']
    if how == 'killed':
        path.rename(path.parent / 'incomplete.replaced')
        with pytest.raises(UserError, match='seed'):  # it is there again, and of other data
            build(raw(metadata={'seed': 2}), tmp_path, progress=False)
