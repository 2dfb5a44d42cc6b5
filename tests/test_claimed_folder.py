"""A folder that a run could not lock is not left behind."""

import errno
from pathlib import Path

import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.runs import claimed_folder
from pvlad_jax.runs.workdir import claim


@pytest.mark.parametrize('there', [False, True])
def test_a_folder_that_cannot_be_locked_goes_if_it_was_made(tmp_path, monkeypatch, there):
    workdir = tmp_path / 'runs' / 'mine'
    if there:
        workdir.mkdir(parents=True)

    def full(folder: Path):
        (folder / claimed_folder.LOCK).touch()  # a file without contents needs no room
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(claimed_folder, 'lock_folder', full)
    with pytest.raises(UserError, match='No space left on device'):
        claim(workdir)
    assert workdir.exists() == there and (tmp_path / 'runs').exists() == there
