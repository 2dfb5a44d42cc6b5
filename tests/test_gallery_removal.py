"""Where files that a gallery deletes or replaces cannot be removed, it says so, and goes on when asked again."""
# ruff: noqa: F401, F811  fixtures of another file

import contextlib
import errno
import os

import pytest

pytest.importorskip('pyarrow')
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.core.errors import UserError
from pvlad_jax.gallery import segments
from tests.helpers.small_galleries import holds, rows
from tests.test_gallery_deletion import pictured, pictures, table


@pytest.fixture
def undeletable(monkeypatch):
    """While it is entered, files of this suffix cannot be removed, as where a folder may not be written to."""
    unlink = os.unlink

    @contextlib.contextmanager
    def hold(suffix):
        def refuse(path, *args, **options):
            if str(path).endswith(suffix):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return unlink(path, *args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, 'unlink', refuse)
            yield

    return hold


@pytest.mark.parametrize('suffix', ['.jpg', 'vectors.f32', 'tracklets.arrow'])
def test_a_deletion_that_cannot_remove_its_files_says_so_and_goes_on_when_given_again(
    pictured, table, tmp_path, monkeypatch, capsys, undeletable, suffix
):
    monkeypatch.chdir(tmp_path)
    pictured.add(table(10, 12))
    delete = ['gallery', 'delete', '--gallery=g', '--source=video0']
    with undeletable(suffix):
        for _ in range(2):
            assert main(delete) == 2
            said = capsys.readouterr()
            assert 'cannot be removed (Permission denied)' in said.err and not said.out
            assert pictured.unfinished and len(pictured) == 2 and pictures(pictured) == {'t0': [], 't1': []}
        with pytest.raises(UserError, match='cannot be removed'):  # the note of it must not be lost
            pictured.add(table(20, 21))
    assert main(delete) == 0 and capsys.readouterr().out.startswith('2 tracklets deleted')
    assert not holds(pictured.folder, b'old') and not pictured.unfinished
    assert not holds(pictured.folder, segments.unit(rows(0, 1).embedding).tobytes())


def test_what_is_replaced_and_cannot_be_removed_is_told(pictured, table, tmp_path, undeletable):
    with undeletable('.jpg'), pytest.raises(UserError, match=r'cannot be removed \(Permission denied\)'):
        pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert pictured.unfinished and holds(pictured.folder, b'old')
    again = pictured.add(table(0, 2, seed=1), tmp_path / 'new', replace=True)
    assert again.already_there == 2 and pictures(pictured) == {'t0': ['new'], 't1': ['new']}
    assert not holds(pictured.folder, b'old')


def test_an_addition_goes_on_where_leftovers_cannot_be_removed(pictured, table, undeletable):
    left = pictured.folder / 'segments' / 'left'
    left.mkdir()
    (left / 'vectors.f32').write_bytes(b'old')
    with undeletable('vectors.f32'):
        assert pictured.add(table(10, 12)).added == 2
    assert pictured.delete(['t10']) == 1 and not left.exists()
