"""Issues planted into a healthy small MARS; the message names each, and nothing that is right."""

import re
from pathlib import Path

import numpy as np
import pytest

from data_prep.builder.build import build
from data_prep.datasets.mars.scan import scan_mars
from data_prep.issues import require_complete
from pvlad_jax.core.errors import UserError
from tests.helpers import small_mars
from tests.test_mars import small_counts  # noqa: F401  a fixture

COUNT = re.compile(r'(train|test|people|queries|gallery|cameras|tracklets)[^(]*: expected')
pytestmark = pytest.mark.usefixtures('small_counts')


@pytest.fixture
def source(tmp_path) -> Path:
    return small_mars.write(tmp_path / 'MARS')


def faults_of(source: Path) -> list[str]:
    """The sentences of the refusal, without those on counts, which follow from the others."""
    with pytest.raises(UserError) as error:
        require_complete(scan_mars(source), allow_partial=False)
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    return [line for line in lines if not COUNT.match(line) and '--allow_partial' not in line]


def rewrite_table(source: Path, split: str, change) -> None:
    matrix = small_mars.table(split)
    change(matrix)
    (source / f'info/tracks_{split}_info.mat').write_bytes(small_mars.matlab(f'track_{split}_info', matrix))


def frame(source: Path, name: str, split: str = 'train') -> Path:
    return source / f'bbox_{split}' / name.partition('C')[0] / name


def test_healthy(source):
    assert require_complete(scan_mars(source), allow_partial=False).issues == ()


def test_missing_frame(source):
    frame(source, '0003C1T0002F002.jpg').unlink()
    assert faults_of(source) == ['Frames are missing in bbox_train (1): 0003C1T0002F002.jpg']


def test_missing_frame_without_name_lists(source):
    frame(source, '0003C1T0002F002.jpg').unlink()
    (source / 'info/train_name.txt').unlink()
    assert faults_of(source) == [
        'Tracklets of another length in bbox_train (1): 0003C1T0002 (expected 4, found 3; no frame 2)'
    ]


def test_a_name_list_in_another_encoding(source):
    path = source / 'info/train_name.txt'
    path.write_bytes(path.read_text().encode('utf-16'))
    with pytest.raises(UserError, match=r'train_name\.txt is not text in UTF-8'):
        scan_mars(source)


def test_a_table_of_too_few_columns(source):
    (source / 'info/tracks_test_info.mat').write_bytes(
        small_mars.matlab('track_test_info', small_mars.table('test')[:, :2])
    )
    with pytest.raises(UserError, match=r'tracks_test_info\.mat has not the shape \(tracklets, 4\) but \(9, 2\)'):
        scan_mars(source)


def test_extra_frame(source):
    frame(source, '0003C1T0002F009.jpg').write_bytes(small_mars.FRAME)
    assert faults_of(source) == ['Frames that are not in MARS in bbox_train (1): 0003C1T0002F009.jpg']


@pytest.mark.parametrize('lists', [True, False])
def test_extra_person(tmp_path, lists):
    source = small_mars.write(tmp_path / 'set', lists=lists)
    path = frame(source, '1501C1T0001F001.jpg')
    path.parent.mkdir()
    path.write_bytes(small_mars.FRAME)
    assert faults_of(source)[-1].startswith('People who are not in MARS in bbox_train (1): 1501 (1 ')


def test_missing_person(source):
    for path in (source / 'bbox_train/0003').iterdir():
        path.unlink()
    (source / 'bbox_train/0003').rmdir()
    assert faults_of(source) == ['People are missing in bbox_train (1): 0003 (2 tracklets, 6 frames)']


@pytest.mark.parametrize('lists', [True, False])
def test_swapped_split(tmp_path, lists):
    source = small_mars.write(tmp_path / 'set', lists=lists)
    (source / 'bbox_train').rename(source / 'x')
    (source / 'bbox_test').rename(source / 'bbox_train')
    (source / 'x').rename(source / 'bbox_test')
    assert faults_of(source) == [
        'bbox_train and bbox_test are swapped: each holds the people of the other (1): all of them'
    ]


def test_person_in_the_wrong_split(source):
    (source / 'bbox_train/0003').rename(source / 'bbox_test/0003')
    assert 'People in bbox_test who belong to bbox_train (1): 0003' in faults_of(source)


def test_two_people_exchanged_are_no_swapped_folders(source):
    (source / 'bbox_train/0003').rename(source / 'bbox_test/0003')
    (source / 'bbox_test/0002').rename(source / 'bbox_train/0002')
    faults = faults_of(source)
    assert 'People in bbox_test who belong to bbox_train (1): 0003' in faults
    assert 'People in bbox_train who belong to bbox_test (1): 0002' in faults
    assert not any('swapped' in fault for fault in faults)


@pytest.mark.parametrize('folder', ['bbox_{split}/bbox_{split}', 'MARS/bbox_{split}'])
def test_doubled_folder_is_accepted(tmp_path, folder):
    source = small_mars.write(tmp_path / 'set', folder=folder)
    first = require_complete(scan_mars(source), allow_partial=False).splits['train'][0]
    assert first.frames[0].startswith(folder.format(split='train'))


def test_same_file_twice(source):
    copy = source / 'bbox_train/bbox_train/0001/0001C1T0001F001.jpg'
    copy.parent.mkdir(parents=True)
    copy.write_bytes(small_mars.FRAME)
    name = '0001/0001C1T0001F001.jpg'
    assert faults_of(source) == [f'Files of the same name (1): bbox_train/{name} = bbox_train/bbox_train/{name}']


def test_wrong_query_table(source):
    (source / 'info/query_IDX.mat').write_bytes(small_mars.matlab('query_IDX', np.array([[4, 6, 7, 1]])))
    (line,) = faults_of(source)
    assert line.startswith('query_IDX.mat is not the official one: queries that are junk or distractors: 1, not 0')


def test_query_table_of_another_data_set(source):
    (source / 'info/query_IDX.mat').write_bytes(small_mars.matlab('query_IDX', np.array([[4, 5, 7, 4130]])))
    assert faults_of(source) == ['query_IDX.mat names rows that tracks_test_info.mat has not: 4130']


def test_crlf_is_accepted(tmp_path):
    source = small_mars.write(tmp_path / 'set', newline='\r\n')
    assert require_complete(scan_mars(source), allow_partial=False).issues == ()


@pytest.mark.parametrize('lists', [True, False])
def test_junk_absent(tmp_path, lists):
    source = small_mars.write(tmp_path / 'set', lists=lists)
    for path in (source / 'bbox_test/00-1').iterdir():
        path.unlink()
    (source / 'bbox_test/00-1').rmdir()
    assert any(line.startswith('Junk is missing in bbox_test (1): 00-1 (2 tracklets') for line in faults_of(source))


def test_truncated_image(source, tmp_path):
    frame(source, '0002C4T0003F001.jpg', 'test').write_bytes(small_mars.FRAME[:-20])
    raw = require_complete(scan_mars(source), allow_partial=False)
    with pytest.raises(UserError, match=r'bbox_test/0002/0002C4T0003F001.jpg is truncated') as error:
        build(raw, tmp_path / 'data', progress=False)
    assert str(error.value).count('.jpg') == 1 and not list((tmp_path / 'data').rglob('*'))


def test_wrong_size(source, tmp_path):
    small = small_mars.cv2.imencode('.jpg', np.zeros((118, 54, 3), np.uint8))[1].tobytes()
    frame(source, '0002C4T0003F001.jpg', 'test').write_bytes(small)
    with pytest.raises(UserError, match=r'0002C4T0003F001.jpg is 54x118 pixels, while the data set has 128x256'):
        build(scan_mars(source), tmp_path / 'data', progress=False)


def test_unsorted_names(source):
    """A list in file-system order: the tables' line numbers would point at other people."""
    names = small_mars.names('test')
    names[3:7] = names[6:2:-1]
    (source / 'info/test_name.txt').write_text('\n'.join(names))
    (line,) = faults_of(source)
    assert line.startswith('test_name.txt is not sorted, while the tables count lines of the sorted list')
    assert 'line 5: ' in line


def test_list_of_other_names(source):
    names = small_mars.names('test')[:-1]
    (source / 'info/test_name.txt').write_text('\n'.join(names))
    assert faults_of(source) == ['tracks_test_info.mat ends at another line than test_name.txt (1): 19 and 18']


@pytest.mark.parametrize('lists', [True, False])
def test_camera_misaligned(tmp_path, lists):
    source = small_mars.write(tmp_path / 'set', lists=lists)

    def shift(table):
        table[3:, 3] = np.roll(table[3:, 3], 1)

    rewrite_table(source, 'test', shift)
    assert faults_of(source) == [
        'Rows of tracks_test_info.mat with another camera than their files (4): row 4: camera 5 for 0002C1T0001, '
        'row 5: camera 1 for 0002C4T0002, row 7: camera 4 for 0004C2T0001, row 8: camera 2 for 0004C5T0002'
    ]


def test_zero_length_tracklet_in_the_table(source):
    def empty(table):
        table[2, 1] = table[2, 0] - 1
        table[3:, :2] -= 2

    rewrite_table(source, 'train', empty)
    assert 'Tracklets of zero length in tracks_train_info.mat (1): row 3: lines 6 to 5' in faults_of(source)


def test_zero_length_tracklet_on_disk(source):
    for number in (1, 2):
        frame(source, f'0003C1T0001F00{number}.jpg').unlink()
    (source / 'bbox_train/0005').mkdir()
    assert faults_of(source) == [
        'Empty folders (1): bbox_train/0005',
        'Tracklets are missing in bbox_train (1): 0003C1T0001 (2 frames)',
    ]


def test_other_grammar(source):
    frame(source, '0001C1T0001F001.jpg').rename(source / 'bbox_train/0001/0001_c1s1_000151_01.jpg')
    assert faults_of(source) == [
        'Files not named PERSON C# T#### F###.jpg (1): bbox_train/0001/0001_c1s1_000151_01.jpg',
        'Frames are missing in bbox_train (1): 0001C1T0001F001.jpg',
    ]


def test_frame_in_the_folder_of_another_person(source):
    frame(source, '0001C1T0001F001.jpg').rename(source / 'bbox_train/0003/0001C1T0001F001.jpg')
    said = 'Files that do not lie in the folder of their person (1): bbox_train/0003/0001C1T0001F001.jpg'
    assert faults_of(source)[0] == said


def test_no_mars_at_all(tmp_path, source):
    with pytest.raises(UserError, match='No MARS frames'):
        (tmp_path / 'else').mkdir()
        (tmp_path / 'else/photo.jpg').write_bytes(small_mars.FRAME)
        scan_mars(tmp_path / 'else', info_dir=source / 'info')
