"""Archives read like the folder that they were made of: top folders, backslashes, system_files, one archive a role."""

import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder
from data_prep.sources.archives import open_files
from pvlad_jax.core.errors import UserError
from tests.test_tracklet_folder import GOOD, JPEG, make


def zip_of(path: Path, names, data=JPEG) -> Path:
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, '' if name.endswith(('/', '\\')) else data)
    return path


def contents(source: Path) -> dict:
    """Tracklet by role -> its labels and frames, without the folder that a source may have on top."""
    raw = scan_tracklet_folder(source)
    return {
        s.name: (s.person_id, s.camera_id, s.frame_numbers, raw.read_frames(s)) for r in raw.splits.values() for s in r
    }


@pytest.fixture(scope='module')
def expected(tmp_path_factory) -> dict:
    return contents(make(tmp_path_factory.mktemp('set')))


def finder(names):
    return [
        'mydata/',
        *(f'mydata/{n}' for n in names),
        '__MACOSX/mydata/._train',
        *(f'__MACOSX/mydata/{n}' for n in names),
    ]


NAMINGS = {
    'as it is': list,
    'Finder': finder,
    'GitHub': lambda names: ['mydata-main/README.md', *(f'mydata-main/{n}' for n in names)],
    'a folder called gallery': lambda names: [f'gallery/{n}' for n in names],
    'two folders deep': lambda names: [f'export/mydata/{n}' for n in names],
    'PowerShell 5.1': lambda names: [n.replace('/', '\\') for n in names],
    'PowerShell 5.1 of a folder': lambda names: [
        'mydata\\train\\',
        *('mydata\\' + n.replace('/', '\\') for n in names),
    ],
    'dot': lambda names: [f'./{n}' for n in names],
}


@pytest.mark.parametrize('naming', NAMINGS)
def test_zip(naming, tmp_path, expected):
    assert contents(zip_of(tmp_path / 'a.ZIP', NAMINGS[naming](GOOD))) == expected


@pytest.mark.parametrize('naming', ['as it is', 'Finder', 'GitHub', 'PowerShell 5.1', 'dot'])
def test_tar(naming, tmp_path, expected):
    source = make(tmp_path / 'source', ['f.jpg']) / 'f.jpg'
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for name in NAMINGS[naming](GOOD):
            if not name.endswith('/'):
                archive.add(source, name)
    assert contents(tmp_path / 'a.tar') == expected


def test_folder_below_a_folder_and_one_archive_a_role(tmp_path, expected):
    make(tmp_path / 'outer' / 'inner')
    assert contents(tmp_path / 'outer') == expected
    (tmp_path / 'apart').mkdir()
    for role in ('train', 'query', 'gallery'):
        zip_of(tmp_path / 'apart' / f'{role}.zip', [n for n in GOOD if n.startswith(role)])
    (tmp_path / 'apart' / '._train.zip').write_bytes(b'of macOS')
    assert contents(tmp_path / 'apart') == expected


def test_a_data_set_at_the_top_goes_before_a_backup_next_to_it(tmp_path, expected):
    source = make(tmp_path / 'set')
    zip_of(source / 'backup.zip', [n for n in GOOD if 'anna' not in n])
    assert contents(source) == expected


def test_names_of_macos_are_utf8(tmp_path):
    """Archive Utility writes UTF-8 and does not set the flag that says so."""
    name = unicodedata.normalize('NFC', 'train/José/c1/t0/1.jpg')
    path = zip_of(tmp_path / 'a.zip', [name])
    data = path.read_bytes()
    for signature, at in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        place = data.index(signature) + at
        data = data[:place] + b'\0\0' + data[place + 2 :]
    path.write_bytes(data)
    files = open_files(path)
    assert files.names == [name] and files.read(name) == JPEG


def test_a_backslash_that_separates_nothing_stays(tmp_path):
    path = zip_of(tmp_path / 'a.zip', ['train/a\\b/c1/t0/1.jpg'])
    assert open_files(path).names == ['train/a\\b/c1/t0/1.jpg']
    with pytest.raises(UserError, match='outside the archive'):
        open_files(zip_of(tmp_path / 'b.zip', ['..\\train\\1.jpg']))


def test_one_name_in_two_spellings_of_unicode_is_one_person(tmp_path):
    """macOS writes é as e and an accent; so do archives that are made there."""
    jose = {form: unicodedata.normalize(form, 'José') for form in ('NFC', 'NFD')}
    names = [n.replace('0009', jose['NFC' if n.startswith('query') else 'NFD']) for n in GOOD]
    raw = scan_tracklet_folder(make(tmp_path / 'set', names))
    (query,), (gallery,) = raw.splits['query'], raw.splits['gallery']
    assert query.person == gallery.person and query.person_id == gallery.person_id > 0
    assert not any('no tracklet of another camera' in note for note in raw.notes)
    assert len(raw.read_frames(query)) == 1 and len(raw.read_frames(gallery)) == 2


def test_archives_that_are_not_read_are_told(tmp_path, expected):
    """Unpacked next to themselves, perhaps not to the end, or the same once more."""
    source = make(tmp_path / 'set', [n for n in GOOD if n.startswith('train')])
    for name in ('train.tar.gz', 'train.zip', 'query.tar', 'query.zip', 'gallery.zip'):
        role, *_, kind = name.split('.')
        if kind == 'zip':
            zip_of(source / name, [n for n in GOOD if n.startswith(role)])
        else:
            (source / name).write_bytes(b'is not opened')
    assert contents(source) == expected
    assert 'Passed over, as no frames: *.tar, *.gz, *.zip.' in scan_tracklet_folder(source).notes
