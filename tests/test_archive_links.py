"""Symbolic links in a raw data set: an archive that holds them reads like the folder, and broken ones are named."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_prep.builder.build import build
from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder
from pvlad_jax.core.errors import UserError
from tests.test_archives import contents
from tests.test_tracklet_folder import make

LINKS = {
    'train/0007/c1/t0/f_11.jpg': 'f_2.jpg',  # a frame
    'train/0007/c2/t0': '../c1/t0',  # a tracklet, which holds a link
    'train/eve': 'anna b',
    'train/zoe': 'eve',  # a link to a link
    'gallery/0009/c3': '../eve/c1',  # through a link
    'gallery/eve': '../train/0007',
}


def linked(folder: Path, links: dict[str, str]) -> Path:
    """The good data set with links: name -> what it leads to."""
    make(folder)
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    return folder


def packed(folder: Path, kind: str) -> Path:
    """An archive that keeps links, as tar and zip -y do."""
    path = folder.with_name(f'a.{kind}')
    if kind == 'tar':
        with tarfile.open(path, 'w') as archive:
            archive.add(folder, 'mydata')
        return path
    with zipfile.ZipFile(path, 'w') as archive:
        for above, folders, files in os.walk(folder):
            for entry in (Path(above) / name for name in (*folders, *files)):
                info = zipfile.ZipInfo(f'mydata/{entry.relative_to(folder)}')
                info.create_system = 3
                if entry.is_symlink():
                    info.external_attr = 0o120777 << 16
                    archive.writestr(info, os.readlink(entry))
                elif entry.is_file():
                    archive.writestr(info, entry.read_bytes())
    return path


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_links_are_followed_as_in_a_folder(kind, tmp_path):
    folder = linked(tmp_path / 'set', LINKS)
    expected = contents(folder)
    assert {name.split('/')[1] for name in expected} >= {'eve', 'zoe'}
    assert contents(packed(folder, kind)) == expected


@pytest.mark.parametrize('kind', ['folder', 'tar', 'zip'])
@pytest.mark.parametrize('link', ['train/eve', 'train', 'gallery/0009/c2/t1'])
def test_links_of_folders_to_nothing_are_refused(link, kind, tmp_path):
    folder = linked(tmp_path / 'set', {} if link == 'train' else {link: 'elsewhere'})
    if link == 'train':
        (folder / 'train').rename(tmp_path / 'gone')
        (folder / 'train').symlink_to('elsewhere')
    with pytest.raises(UserError, match=rf'{link} is empty, or a link to nothing'):
        scan_tracklet_folder(folder if kind == 'folder' else packed(folder, kind))


@pytest.mark.parametrize('kind', ['folder', 'tar', 'zip'])
def test_links_of_frames_to_nothing_are_named(kind, tmp_path):
    folder = linked(tmp_path / 'set', {'train/0007/c1/t0/f_3.jpg': 'gone.jpg'})
    raw = scan_tracklet_folder(folder if kind == 'folder' else packed(folder, kind))
    with pytest.raises(UserError, match=r'train/0007/c1/t0/f_3.jpg cannot be read \((No such|a link to what)'):
        build(raw, tmp_path / 'data', progress=False)


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_links_round_in_a_circle_are_refused(kind, tmp_path):
    folder = linked(tmp_path / 'set', {'train/eve': 'zoe', 'train/zoe': 'eve', 'gallery/0009/c3': '..'})
    with pytest.raises(UserError, match='train/eve is empty, or a link') as error:
        scan_tracklet_folder(packed(folder, kind))
    assert 'train/zoe is empty' in str(error.value) and 'gallery/0009/c3 is empty' in str(error.value)
