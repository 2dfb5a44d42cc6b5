"""What `embed` reads and writes beside the network: folders of frames, their order and links, files of crops."""

import errno
import os

import numpy as np
import pytest

from pvlad_jax.commands.embed_crops import CropWriter
from pvlad_jax.commands.embed_sources import TrackletFolders
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.natural_order import natural_key
from pvlad_jax.embedding.interleaved import TrackletFrame
from pvlad_jax.images import bit_depth
from tests.helpers.flat_frames import write_frames
from tests.helpers.pictures import RGB, deep, saved


def test_a_frame_that_was_replaced_is_another_job(tmp_path):
    (tmp_path / 'a').mkdir()
    path = tmp_path / 'a' / '1.jpg'
    path.write_bytes(b'same size')
    before = TrackletFolders(tmp_path).identity()
    assert TrackletFolders(tmp_path).identity() == before
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000_000))
    assert TrackletFolders(tmp_path).identity() != before


def test_a_frame_that_is_a_broken_link_costs_its_tracklet_alone(tmp_path):
    written(tmp_path, a=saved('png'), b=saved('png'))
    (tmp_path / 'a' / '2.png').symlink_to('nowhere')
    source = TrackletFolders(tmp_path)
    before = source.identity()
    frames, left_out = embedded(source)
    assert sorted(frames) == ['a', 'b'] and list(left_out) == ['a'] and '2.png cannot be read' in left_out['a']
    (tmp_path / 'a' / 'nowhere').write_bytes(saved('png'))
    assert TrackletFolders(tmp_path).identity() != before


@pytest.mark.parametrize('left_behind', ['@eaDir/1.png', '.thumbs/1.png', '__macosx/1.png', 'lost+found/1.png'])
def test_what_systems_leave_behind_is_no_tracklet(tmp_path, left_behind):
    """The names that a build of a data set passes over too."""
    written(tmp_path, a=saved('png'))
    path = tmp_path / 'a' / left_behind
    path.parent.mkdir()
    path.write_bytes(saved('png'))
    source = TrackletFolders(tmp_path)
    assert source.names == ['a'] and source.total == 1


def test_pictures_that_are_passed_over_for_their_names_are_named(tmp_path):
    for folder in ('ok', 'person~', '.hidden/deeper', 'a/#recycle'):
        write_frames(tmp_path / folder, ['1.jpg', '2.jpg'])
    write_frames(tmp_path / 'b', ['1.jpg', '._1.jpg', '.DS_Store', '2.jpg~'])
    (tmp_path / '.git').mkdir()
    (tmp_path / '.git' / 'config').touch()
    source = TrackletFolders(tmp_path)
    assert source.names == ['a', 'b', 'ok'] and source.total == 3
    assert source.notes == [
        'Passed over, as their names are those of hidden files, backups or an operating system: 3 folders that hold '
        'images (.hidden, person~, a/#recycle) and 1 images (b/._1.jpg). Rename what is yours.'
    ]
    for number in range(4):
        write_frames(tmp_path / f'.{number}', ['1.jpg'])
    (note,) = TrackletFolders(tmp_path).notes
    assert '7 folders that hold images (.0, .1, .2, .3, .hidden and 2 more)' in note
    with pytest.raises(UserError, match=r'holds no images .* 1 folders that hold images \(deeper~\)\. Rename'):
        (tmp_path / '.hidden' / 'deeper').rename(tmp_path / '.hidden' / 'deeper~')
        TrackletFolders(tmp_path / '.hidden')


def test_folders_that_cannot_be_read_are_counted(tmp_path, monkeypatch):
    written(tmp_path, a=saved('png'), b=saved('png'), c=saved('png'))
    listed = os.scandir

    def refuse(folder):
        if os.fspath(folder) in refused:
            raise PermissionError(errno.EACCES, 'Permission denied', os.fspath(folder))
        return listed(folder)

    monkeypatch.setattr(os, 'scandir', refuse)
    refused = [str(tmp_path / 'a'), str(tmp_path / 'c')]
    source = TrackletFolders(tmp_path)
    assert source.names == ['b']
    assert source.notes == [
        f'2 folders cannot be read and were passed over, such as {tmp_path / "a"} (Permission denied).'
    ]
    refused = [str(tmp_path)]
    with pytest.raises(PermissionError):
        TrackletFolders(tmp_path)


DEEP = RGB.astype(np.uint16) * 16 + 7  # 12 bits
EVENTS = {'done': (), 'advance': lambda count: None, 'save': CropWriter(None)}


def written(folder, **frames: bytes):
    """FOLDER/NAME/1.png of each, whatever its format."""
    for name, content in frames.items():
        (folder / name).mkdir(parents=True)
        (folder / name / '1.png').write_bytes(content)
    return folder


def embedded(source: TrackletFolders) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The frame of each tracklet, and why others are left out."""
    frames = {source.names[e.key]: e.image for e in source.events(**EVENTS) if isinstance(e, TrackletFrame)}
    return frames, {row.tracklet: row.reason for row in source.rows.values() if row.reason}


def test_of_16_bits_the_upper_8_of_those_in_use_are_kept(tmp_path):
    written(tmp_path, a=deep('png', DEEP), b=deep('tiff', DEEP // 4), c=saved('png'), d=saved('jpeg'))
    source = TrackletFolders(tmp_path)
    assert source.notes == [
        f'Frames have 16 bits a sample. Their largest value is {DEEP.max():,}, so 12 bits are in use and are scaled to '
        '8; --bit_depth says otherwise.'
    ]
    frames, left_out = embedded(source)
    assert not left_out
    for name, pixels in {'a': RGB, 'b': RGB // 4, 'c': RGB}.items():
        np.testing.assert_array_equal(frames[name], pixels)
    again = TrackletFolders(tmp_path, 12)
    assert not again.notes and again.identity() == source.identity()
    wider = TrackletFolders(tmp_path, 16)
    assert {key for key, value in wider.identity().items() if value != source.identity()[key]} == {'bit_depth'}
    np.testing.assert_array_equal(embedded(wider)[0]['a'], DEEP >> 8)


def test_frames_of_16_bits_whose_depth_does_not_fit_or_is_unknown_are_left_out(tmp_path):
    written(tmp_path, a=saved('png'), b=deep('png', DEEP), c=deep('tiff', DEEP))
    source = TrackletFolders(tmp_path)
    frames, left_out = embedded(source)
    assert list(frames) == ['a'] and not source.notes
    for name, kind in {'b': 'PNG', 'c': 'TIFF'}.items():
        assert left_out[name] == (
            f'broken: 1.png is a {kind} of 16 bits a sample; say with --bit_depth how many of them are in use (8 to 16)'
        )
    _, left_out = embedded(TrackletFolders(tmp_path, 10))
    assert set(left_out) == {'b', 'c'} and 'more than the 10 bits said to be in use' in left_out['b']
    for depth in (7, 17):
        with pytest.raises(UserError, match=f'--bit_depth={depth}: .* use 8 to 16'):
            TrackletFolders(tmp_path, depth)


def test_damaged_frames_of_16_bits_are_left_out_whatever_the_depth(tmp_path):
    whole = deep('png', DEEP)
    written(tmp_path, a=whole, b=whole[:-30], c=whole)
    source = TrackletFolders(tmp_path)
    frames, left_out = embedded(source)
    assert source.bit_depth == 12 and sorted(frames) == ['a', 'c'] and 'truncated' in left_out['b']
    (tmp_path / 'a' / '1.png').unlink()
    (tmp_path / 'a' / '1.png').symlink_to('nowhere')
    _, left_out = embedded(TrackletFolders(tmp_path))
    assert 'cannot be read' in left_out['a'] and '--bit_depth' in left_out['c']


def test_for_the_depth_no_more_is_read_than_can_have_16_bits(tmp_path, monkeypatch):
    written(tmp_path, a=deep('png', DEEP), b=saved('png'), c=saved('jpeg'), d=saved('tiff'), e=deep('tiff', DEEP))
    looked_at = []
    monkeypatch.setattr(bit_depth, 'largest_value', lambda frame: looked_at.append(frame) or 4095)
    assert TrackletFolders(tmp_path).bit_depth == 12
    assert sorted(looked_at) == sorted((tmp_path / name / '1.png').read_bytes() for name in 'ade')
    looked_at.clear()
    (tmp_path / 'a' / '1.png').write_bytes(saved('png'))
    assert TrackletFolders(tmp_path).bit_depth == 0 and not looked_at


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


def test_pictures_of_an_earlier_job_go_with_the_first_of_a_tracklet(tmp_path):
    for frames in ((0, 1, 2), (1, 3)):
        save = CropWriter(tmp_path)
        for number in frames:
            save('a', number, RGB)
        (tmp_path / 'a' / 'mine.jpg').touch()
    assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == ['000001.jpg', '000003.jpg', 'mine.jpg']


def test_pictures_do_not_come_among_the_frames(tmp_path):
    root = written(tmp_path / 'in', a=saved('png'), b=saved('png'))
    (tmp_path / 'link').symlink_to(root)
    for folder in (root, root / 'a', root / 'crops', tmp_path / 'link', tmp_path / 'in' / '..' / 'in'):
        with pytest.raises(UserError, match='would write among the frames'):
            TrackletFolders(root).check_crops(CropWriter(folder))
    with pytest.raises(UserError, match='would write among the frames'):  # over in/a/000000.jpg
        TrackletFolders(root / 'a').check_crops(CropWriter(root))
    for folder in (None, tmp_path, tmp_path / 'crops', root / '.crops'):
        TrackletFolders(root).check_crops(CropWriter(folder))


def test_natural_order():
    names = ['f1', 'f2', 'f9', 'f10', 'f10a', 'g', 'g01', 'g1']
    assert sorted(sorted(names, reverse=True), key=natural_key) == ['f1', 'f2', 'f9', 'f10', 'f10a', 'g', 'g01', 'g1']
