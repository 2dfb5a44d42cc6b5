"""What `embed` reads and writes beside the network: folders of frames, their order and links, files of crops."""

import os

import numpy as np
import pytest

from pvlad_jax.commands.embed_sources import CropWriter, TrackletFolders
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.natural_order import natural_key
from tests.helpers.flat_frames import write_frames


def test_a_frame_that_was_replaced_is_another_job(tmp_path):
    (tmp_path / 'a').mkdir()
    path = tmp_path / 'a' / '1.jpg'
    path.write_bytes(b'same size')
    before = TrackletFolders(tmp_path).identity()
    assert TrackletFolders(tmp_path).identity() == before
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000_000))
    assert TrackletFolders(tmp_path).identity() != before


def test_folders_that_are_links_are_tracklets(tmp_path):
    write_frames(tmp_path / 'elsewhere' / 'c2', ['1.jpg', '2.jpg'])
    root = tmp_path / 'mine'
    write_frames(root / 'c1', ['1.jpg'])
    (root / 'c2').symlink_to(tmp_path / 'elsewhere' / 'c2')
    (root / 'more').symlink_to(tmp_path / 'elsewhere')
    found = TrackletFolders(root)
    assert found.names == ['c1', 'c2', 'more/c2'] and found.total == 5


def test_links_that_lead_round_are_refused(tmp_path):
    write_frames(tmp_path / 'a', ['1.jpg'])
    write_frames(tmp_path / 'b', ['1.jpg'])
    (tmp_path / 'a' / 'to_b').symlink_to(tmp_path / 'b')
    (tmp_path / 'b' / 'to_a').symlink_to(tmp_path / 'a')
    with pytest.raises(UserError, match=r'a/to_b/to_a is a link to a folder above it'):
        TrackletFolders(tmp_path / 'a')
    write_frames(tmp_path / 'c' / 'd', ['1.jpg'])
    (tmp_path / 'c' / 'd' / 'up').symlink_to(tmp_path)
    with pytest.raises(UserError) as refused:  # before all that lies above is walked through
        TrackletFolders(tmp_path / 'c')
    assert str(refused.value).startswith(f'{tmp_path}/c/d/up is a link to a folder above it')


@pytest.mark.parametrize(
    'name', ['../../evil', '/etc/evil', '..', 'a/../../evil', 'x' * 3000, 'nul\0byte', '<script>alert(1)</script>']
)
def test_no_tracklets_name_leads_out_of_the_folder(tmp_path, name):
    CropWriter(tmp_path / 'crops')(name, 3, np.zeros((4, 4, 3), np.uint8))
    assert [p.parent.parent for p in tmp_path.rglob('*.jpg')] == [tmp_path / 'crops']


def test_natural_order():
    names = ['f1', 'f2', 'f9', 'f10', 'f10a', 'g', 'g01', 'g1']
    assert sorted(sorted(names, reverse=True), key=natural_key) == ['f1', 'f2', 'f9', 'f10', 'f10a', 'g', 'g01', 'g1']
