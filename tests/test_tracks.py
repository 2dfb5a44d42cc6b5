"""Files of tracks: three formats say the same; what cannot be used is counted, what cannot be read is one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.video import read_tracks
from tests.helpers.small_videos import mot_lines, walking

TRACKS = {'3': walking(0, 4), '900000000001': walking(2, 9, top=20)}


def written(tmp_path, content, name='tracks') -> str:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def coco(first: int, frame_key: str = 'frame_id', track_key: str = 'track_id', **more) -> dict:
    images = [{'id': 100 + f, frame_key: f + first, 'file_name': f'a/{f + first:06d}.jpg'} for f in range(10)]
    annotations = [
        {'image_id': 100 + f, track_key: int(name), 'bbox': [x, y, w, h]}
        for name, boxes in TRACKS.items()
        for f, x, y, w, h in boxes
    ]
    return {'images': images, 'annotations': annotations, **more}


def as_csv(corners: bool, separator: str, first: int) -> str:
    rows = [
        ['Frame', 'track_id', 'left', 'top', *(('right', 'bottom') if corners else ('width', 'height')), 'confidence']
    ]
    rows += [
        [f + first, name, x, y, x + w if corners else w, y + h if corners else h, 0.5]
        for name, boxes in TRACKS.items()
        for f, x, y, w, h in boxes
    ]
    return '\n'.join(separator.join(map(str, row)) for row in rows)


def test_all_formats_say_the_same(tmp_path):
    expected = read_tracks(written(tmp_path, mot_lines(TRACKS)))
    assert expected.names == list(TRACKS) and expected.first_frame == 1 and not expected.notes
    assert expected.frame.min() == 0 and (np.diff(expected.frame) >= 0).all()
    np.testing.assert_array_equal(expected.last_frames(), [4, 9])
    np.testing.assert_array_equal(expected.counts(), [5, 8])
    others = [
        mot_lines(TRACKS).replace(',', ' '),
        coco(0),
        coco(1),
        coco(0, 'frame_index', 'instance_id'),
        coco(1, 'other'),
        as_csv(False, ',', 0),
        as_csv(True, ';', 1),
        as_csv(False, '\t', 1),
        '\ufeff' + as_csv(False, ',', 0),
        ',,,,,\n' + as_csv(False, ',', 0),  # an empty first row, as spreadsheets write it
    ]
    for content in others:
        found = read_tracks(written(tmp_path, content))
        assert found.names == expected.names
        for field in ('frame', 'track', 'box'):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@pytest.mark.parametrize('other', ['a\nb', 'a\u2028b', 'a\x85b', 'a, b'])
def test_names_of_csv_tracks_are_any_text(tmp_path, other):
    lines = ['frame,track,left,top,width,height', '1,ab,1,2,30,40', f'1,"{other}",5,6,30,40', '2,ab,1,2,30,40']
    path = tmp_path / 'tracks.csv'
    path.write_text('\r\n'.join(lines), encoding='utf-8', newline='')
    tracks = read_tracks(path)
    assert tracks.names == ['ab', other] and tracks.counts().tolist() == [2, 1]


def test_frames_may_be_numbered_from_either(tmp_path):
    text = mot_lines({'1': walking(3, 6)})
    assert read_tracks(written(tmp_path, text)).frame[0] == 3
    assert read_tracks(written(tmp_path, text), first_frame=0).frame[0] == 4
    assert read_tracks(written(tmp_path, '0,1,5,5,10,20\n7,1,5,5,10,20\n')).frame.tolist() == [0, 7]


def test_the_page_says_what_frames_count_from(tmp_path):
    page = (Path(__file__).resolve().parents[1] / 'docs' / 'use.md').read_text(encoding='utf-8')
    table = page.partition('| `--tracks` |')[2].partition('\n\n')[0]
    said = {row.split('|')[1].split()[0]: row.split('|')[5].strip() for row in table.splitlines()[2:]}
    for kind, head in (('MOT', ''), ('CSV', 'frame,track,left,top,width,height\n')):
        for number, first in ((0, 0), (1, 1), (4, 1)):
            text = f'{head}{number},1,5,5,10,20\n7,1,5,5,10,20\n'
            assert read_tracks(written(tmp_path, text)).first_frame == first
        assert said[kind] == '0 where one is 0, else 1'


def test_the_video_of_a_file_with_several_is_found_by_its_name(tmp_path):
    content = coco(0, videos=[{'id': 1, 'name': 'cam1/walk.mp4'}, {'id': 2, 'name': 'street'}])
    for i, image in enumerate(content['images']):
        image['video_id'] = 1 + i % 2
    path = written(tmp_path, content)
    assert set(read_tracks(path, video_name='walk.avi').frame % 2) == {0}
    assert set(read_tracks(path, video_name='street.mkv').frame % 2) == {1}
    with pytest.raises(UserError, match='2 videos, 0 of them'):
        read_tracks(path, video_name='other.mp4')


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path):
    lines = ['1,5,1,1,10,20', '1,5,9,9,10,20', '2,5,1,1,0,20', '3,5,nan,1,10,20', '0,6,1,1,10,20']
    found = read_tracks(written(tmp_path, '\n'.join(lines)), first_frame=1)
    assert found.box.tolist() == [[1, 1, 10, 20]] and found.names == ['5', '6'] and found.counts().tolist() == [1, 0]
    notes = ' '.join(found.notes)
    assert (
        '2 boxes without a size' in notes
        and '1 boxes are before frame 1' in notes
        and 'the second of their track in one frame' in notes
    )
    # Annotations of MOT16 and later: nine columns, the seventh says what counts.
    assert read_tracks(written(tmp_path, '1,1,1,1,9,9,1,1,1\n1,2,1,1,9,9,0,8,1\n')).names == ['1']
    # Each line by itself: that of ten columns has a confidence there.
    mixed = '1,1,1,1,9,9,1,1,1\n1,2,1,1,9,9,0,8,1\n1,3,1,1,9,9,0,-1,-1,-1\n1,4,1,1,9,9\n'
    found = read_tracks(written(tmp_path, mixed))
    assert found.names == ['1', '3', '4'] and '1 boxes are marked as not to be considered' in ' '.join(found.notes)


@pytest.mark.parametrize('value', [None, -1])
def test_a_box_of_no_track_is_left_out_and_counted(tmp_path, value):
    boxes = [{'image_id': 1, 'track_id': track, 'bbox': [1, 1, 10, 20]} for track in (5, value)]
    found = read_tracks(written(tmp_path, {'images': [{'id': 1, 'frame_id': 0}], 'annotations': boxes}))
    assert found.names == ['5'] and '1 annotations have no "track_id"' in ' '.join(found.notes)


def test_boxes_of_nobody_are_left_out_of_csv(tmp_path):
    rows = ['1,7,1,2,30,40', '1,-1,5,2,30,40', '2,,5,2,30,40', '2,-1.0,5,2,30,40', '2,7,1,2,30,40']
    found = read_tracks(written(tmp_path, '\n'.join(['frame,track,left,top,width,height', *rows])))
    assert found.names == ['7'] and len(found.frame) == 2 and '3 boxes without a track' in found.notes[0]


def test_a_track_that_jumps_is_named(tmp_path):
    jumping = [(0, 0.0, 0.0, 10.0, 20.0), (1, 2.0, 0.0, 10.0, 20.0), (2, 300.0, 0.0, 10.0, 20.0)]
    found = read_tracks(written(tmp_path, mot_lines({'1': walking(0, 5), '8': jumping})))
    assert len(found.notes) == 1 and "'8' after frame 2" in found.notes[0] and len(found.frame) == 9
    jumping += [(3, 302.0, 0.0, 10.0, 20.0), (4, 0.0, 0.0, 10.0, 20.0)]
    (note,) = read_tracks(written(tmp_path, mot_lines({'8': jumping}))).notes
    assert "'8' after frame 2." in note and note.count('after frame') == 1  # the first one is named
    # A gap.
    assert not read_tracks(
        written(tmp_path, mot_lines({'8': [(0, 0.0, 0.0, 9.0, 20.0), (50, 300.0, 0.0, 9.0, 20.0)]}))
    ).notes


def test_fields_behind_the_box_may_be_empty(tmp_path):
    expected = read_tracks(written(tmp_path, '1,7,100,50,40,120,0.5,0,0,0\n2,7,101,50,40,120,0.5,0,0,0'))
    for content in (
        '1,7,100,50,40,120,,0,0,0\n2,7,101,50,40,120,0.5,,,',
        '1 , 7 , 100 , 50 , 40 , 120 ,\n2, 7, 101, 50, 40, 120',
        '1,7,100,50,40,120,0,,,\n2,7,101,50,40,120,0,,,',  # nine fields, but no annotation of MOT16
    ):
        found = read_tracks(written(tmp_path, content))
        assert (found.names, found.notes) == (expected.names, expected.notes)
        np.testing.assert_array_equal(found.box, expected.box)


def test_corners_and_sizes_that_agree_are_the_same_box(tmp_path):
    sizes = read_tracks(written(tmp_path, 'frame,id,x1,y1,w,h\n0,a,10,5,41,81\n1,a,11,5,40,80'))
    both = read_tracks(written(tmp_path, 'frame,id,x1,y1,x2,y2,w,h\n0,a,10,5,50,85,41,81\n1,a,11,5,51,85,40,80'))
    np.testing.assert_array_equal(sizes.box, both.box)


def test_thousands_of_tracks_at_once(tmp_path):
    frames, people = 10, 5000
    text = '\n'.join(f'{f},{p},{p},{p},10,20' for f in range(frames) for p in range(people))
    found = read_tracks(written(tmp_path, text))
    assert len(found.names) == people and len(found.frame) == frames * people
    assert (found.last_frames() == frames - 1).all()
    assert len(found.without(range(1, people)).frame) == frames


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('', 'is empty'),
        ('\n\n', 'is empty'),
        (';;;\n,,\n', 'is empty'),
        ('\x1c\u2028', 'is empty'),
        ('\x1cx', 'has no column'),
        ('1,2,3', 'line 1'),
        ('1,1,1,1,5,5\nx,y,1,1,5,5', 'line 2'),
        ('1,-1,1,1,5,5', 'detections'),
        ('1.5,1,1,1,5,5', 'line 1'),
        ('1e400,1,1,1,5,5', 'line 1'),
        ('1,1,1,1,5,5\n1,1', 'line 2'),
        ('1,1,1,1,0,0', 'no usable box'),
        ('a,b\n1,2', 'has no column'),
        ('frame,track,left,top,width,height\n1,a,x,1,1,1', 'line 2'),
        ('frame,track,left,top,width,height\n1e20,a,1,1,5,5', 'line 2'),
        ('frame,track,left,top,width,height\n1,-1,1,1,5,5\n2,,1,1,5,5', 'detections'),
        ('\nframe,track,left,top,width,height\n1,a,x,1,1,1', 'line 3'),
        ('1,1,10,20,40,70,90,-1\n2,1,,20,40,70,90,-1', 'line 2: .* field 3 is empty'),
        ('1,1,10,20,40,70,90,-1\n2,,10,20,40,70,90,-1', 'line 2: .* field 2 is empty'),
        ('1\t1\t10,50\t35,25\t40,75\t50,50', 'line 1: .* decimals have a point'),
        ('1 1 10,5 35 40 50', 'line 1: .* decimals have a point'),
        (
            'frame,track,width,height,xmin,ymin,xmax,ymax\n1,a,8,16,2,4,10,20\n1,b,160,96,10,5,50,85',
            'line 3: width and height are 160 x 96, but the box .* is 40 x 80',
        ),
        pytest.param('frame,track,left,top,width,height\n1,"' + 'a\n' * 200_000, 'not valid CSV', id='open quote'),
        ('{"images": [{"id": 1, "frame_id": 1e30}], "annotations": []}', 'not as COCO has it'),
        ('{"images": [{"id": 1, "file_name": "99999999999999999999.jpg"}], "annotations": []}', 'not as COCO has it'),
        ('{"images": [', 'not valid JSON'),
        ('[]', 'no lists'),
        ('{"images": [], "annotations": []}', 'no usable box'),
        ('{"images": [{}], "annotations": []}', 'not as COCO has it'),
        ('[' * 100_000, 'not valid JSON'),
        ({'images': [{'id': 1}], 'annotations': []}, 'neither'),
        (
            {'images': [{'id': 1, 'frame_id': 0}], 'annotations': [{'image_id': 1, 'bbox': [1, 1, 2, 2]}]},
            'no "track_id"',
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, content, says):
    with pytest.raises(UserError, match=says) as error:
        read_tracks(written(tmp_path, content))
    assert '\n' not in str(error.value) and 'tracks' in str(error.value)


def test_no_text_and_no_file(tmp_path):
    (tmp_path / 'x').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='not text'):
        read_tracks(tmp_path / 'x')
    with pytest.raises(UserError, match='cannot be read'):
        read_tracks(tmp_path / 'none')
    with pytest.raises(UserError, match='unknown; choose one of: mot, coco, csv'):
        read_tracks(written(tmp_path, '1,1,1,1,5,5'), format='kitti')
