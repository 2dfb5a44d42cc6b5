"""Folders and archives that are damaged, lead outside themselves or in circles: refused by the name of the member."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

from data_prep.sources.annotations import find_annotation, read_matlab
from data_prep.sources.archives import open_files
from pvlad_jax.core.errors import UserError
from tests.helpers import small_mars

OUTSIDE = ['../outside.jpg', '/etc/outside.jpg', 'bbox_train/../../outside.jpg', 'C:\\outside.jpg', '..\\outside.jpg']


@pytest.mark.parametrize('name', OUTSIDE)
def test_archive_member_pointing_outside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('bbox_train/0001/0001C1T0001F001.jpg', small_mars.FRAME)
        archive.writestr(name, small_mars.FRAME)
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        info = tarfile.TarInfo(name)
        info.size = 4
        archive.addfile(info, io.BytesIO(b'1234'))
    for path in ('a.zip', 'a.tar'):
        with pytest.raises(UserError, match=r'members that point outside the archive: .*outside\.jpg') as error:
            open_files(tmp_path / path)
        assert '0001C1T0001F001' not in str(error.value)


LINKS = [('../../../etc/passwd', True), ('/etc/passwd', True), ('../../b.jpg', False), ('b.jpg', False)]


@pytest.mark.parametrize('target, refused', LINKS)
def test_archive_links(tmp_path, target, refused):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        link = tarfile.TarInfo('bbox_train/0001/link.jpg')
        link.type, link.linkname = tarfile.SYMTYPE, target
        archive.addfile(link)
    if refused:
        with pytest.raises(UserError, match=r'point outside the archive: bbox_train/0001/link.jpg'):
            open_files(tmp_path / 'a.tar')
    else:
        open_files(tmp_path / 'a.tar')


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
def test_broken_archive(tmp_path, kind):
    (tmp_path / f'bbox_train.{kind}').write_bytes(b'\x1f\x8b' + b'no archive at all' * 100)
    with pytest.raises(UserError, match=r'bbox_train\.'):
        open_files(tmp_path)


@pytest.mark.parametrize('method', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member(tmp_path, method):
    """Other bytes, the same length: the archive's check sum tells, and the frame is named."""
    path = tmp_path / 'a.zip'
    with zipfile.ZipFile(path, 'w', method) as archive:
        archive.writestr('whole.jpg', small_mars.FRAME)
        archive.writestr('damaged.jpg', small_mars.FRAME)
    files = open_files(path)
    assert files.read('whole.jpg') == small_mars.FRAME
    data = bytearray(path.read_bytes())
    data[files.spans['damaged.jpg'][0] + 60] ^= 255
    path.write_bytes(data)
    assert files.read('whole.jpg') == small_mars.FRAME
    with pytest.raises(OSError, match='damaged'):
        files.read('damaged.jpg')


def test_link_to_a_folder_above(tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    (tmp_path / 'a/bc').mkdir()
    (tmp_path / 'a/bc/beside').symlink_to(tmp_path / 'a/b')
    assert open_files(tmp_path).names == []
    (tmp_path / 'a/b/up').symlink_to(tmp_path / 'a')
    with pytest.raises(UserError, match=r'a/b/up is a link to a folder above it'):
        open_files(tmp_path)


def test_links_to_each_other(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
    (tmp_path / 'a/to_b').symlink_to(tmp_path / 'b')
    (tmp_path / 'b/to_a').symlink_to(tmp_path / 'a')
    with pytest.raises(UserError, match=r'a/to_b/to_a is a link to a folder above it'):
        open_files(tmp_path / 'a')


def test_names_that_are_not_utf8(tmp_path):
    (tmp_path / 'b').mkdir()
    try:
        open(bytes(tmp_path) + b'/b/\xff.jpg', 'w').close()
    except OSError:
        pytest.skip('this file system takes UTF-8 names only')
    with pytest.raises(UserError, match='not UTF-8'):
        open_files(tmp_path)


def test_members_of_archives_that_are_not_utf8(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w', format=tarfile.GNU_FORMAT) as archive:
        for name in ('caf\xe9\u2060/1.jpg', 'b\udcff/1.jpg'):  # the first has a letter that is not printed
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match=r'not UTF-8: b.b'):
        open_files(tmp_path / 'a.tar')


def test_archives_of_later_programs_and_damaged_ones(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('a.jpg', b'1')
    data = bytearray((tmp_path / 'a.zip').read_bytes())
    data[data.index(b'PK\x01\x02') + 6] = 99  # the version that is needed to read it
    (tmp_path / 'a.zip').write_bytes(data)
    with pytest.raises(UserError, match='cannot be read as a zip archive'):
        open_files(tmp_path / 'a.zip')
    with tarfile.open(tmp_path / 'a.tar.xz', 'w:xz') as archive:
        about = tarfile.TarInfo('a.jpg')
        about.size = 100_000
        archive.addfile(about, io.BytesIO(np.random.default_rng(0).bytes(about.size)))
    data = bytearray((tmp_path / 'a.tar.xz').read_bytes())
    data[60_000:60_100] = bytes(100)
    (tmp_path / 'a.tar.xz').write_bytes(data)
    with pytest.raises(UserError, match='could not be decompressed'):
        open_files(tmp_path / 'a.tar.xz')


@pytest.mark.parametrize('matrix', [[[1j]], [[np.nan]], [['a']]])
def test_tables_that_hold_no_whole_numbers(matrix):
    content = small_mars.matlab('key', np.array(matrix))
    with pytest.raises(UserError, match='not a matrix of integers'):
        read_matlab(content, 't.mat', 'key')


def test_tables_behind_a_link_are_found(tmp_path):
    (tmp_path / 'source').mkdir()
    (tmp_path / 'tables').mkdir()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'splits.mat').write_bytes(b'those')
    (tmp_path / 'tables' / 'info').symlink_to(tmp_path / 'elsewhere')
    assert find_annotation(open_files(tmp_path / 'source'), tmp_path / 'tables', 'splits.mat') == b'those'
    assert find_annotation(open_files(tmp_path / 'source'), tmp_path / 'tables', 'other.mat') is None
