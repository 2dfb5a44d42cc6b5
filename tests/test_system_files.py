"""Litter and side-car files of any data set are passed over with a note; a picture of a wrong name is a issue."""

import pytest

from data_prep.datasets.ilids_vid import group_sequences
from data_prep.datasets.mars.names import split_paths
from data_prep.datasets.prid2011 import group_multi_shot
from data_prep.sources.frame_suffixes import is_frame, stem, suffix
from data_prep.sources.system_files import is_system_file, skipped_files_note


@pytest.mark.parametrize(
    'path',
    ['a/Thumbs.db', 'thumbs.db', 'a/.DS_Store', 'a/@eaDir/1.jpg', 'Desktop.ini', '__MACOSX/a/1.jpg', 'a/._1.jpg',
     '$RECYCLE.BIN/1.jpg', 'System Volume Information/x', '@Recycle/1.jpg', '#recycle/1.jpg', 'a/1.jpg~',
     'lost+found/1', 'a/Icon\r', '~$notes.docx'],
)  # fmt: skip
def test_litter(path):
    assert is_system_file(path)


@pytest.mark.parametrize('path', ['a/1.jpg', './1.jpg', 'database/1.jpg', 'macosx/1.jpg', 'a@b/1.jpg', 'thumbs/1.jpg'])
def test_no_litter(path):
    assert not is_system_file(path)


def test_frames_by_their_names():
    assert all(
        is_frame(n) for n in ('a/1.JPG', '1.jpeg', '1.tif', '1.webp', 'x.gif', 'frame_0.91', '0001', 'frame.0001')
    )
    assert not any(is_frame(n) for n in ('a/1.txt', '1.json', 'README', 'labels.csv', '1.mp4', 'f_1.jpg.txt', '1.npy'))
    assert (suffix('a/b.JPG'), suffix('frame_0.91')) == ('.jpg', '')
    assert stem('a/frame_0.91.png') == stem('frame_0.91') == 'frame_0.91'


def test_the_note_counts_by_kind():
    assert skipped_files_note([]) == []
    (note,) = skipped_files_note(['a/.DS_Store', 'b/.DS_Store', 'a/1.txt', 'README', 'a/._x'])
    assert note == 'Passed over, as no frames: .DS_Store (2), *.txt, README, ._*.'


def test_benchmarks_pass_over_side_cars_and_name_wrong_pictures():
    readers = {
        'bbox_train/0001': lambda paths: split_paths(paths)[1:],
        'sequences/cam1/person001': lambda paths: group_sequences(paths)[1:],
        'multi_shot/cam_a/person_0001': lambda paths: group_multi_shot(paths)[1:],
    }
    for folder, read in readers.items():
        issues, others = read([f'{folder}/boxes.txt', f'{folder}/copy.jpg'])
        assert others == [f'{folder}/boxes.txt'] and len(issues.lines()) == 1 and 'copy.jpg' in issues.lines()[0]
