"""The folder layout: what is read from names, and every fault named."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_prep.build import build
from data_prep.findings import print_findings
from data_prep.person_numbers import number_cameras, number_people
from data_prep.tracklet_folder import group_frames, scan_tracklet_folder
from pvlad_jax.errors import UserError

cv2 = pytest.importorskip('cv2')
ROOT = Path(__file__).resolve().parents[1]
JPEG = cv2.imencode('.jpg', np.zeros((8, 4, 3), np.uint8))[1].tobytes()
PNG = cv2.imencode('.png', np.zeros((8, 4, 3), np.uint8))[1].tobytes()

GOOD = [
    'train/0007/c1/t0/f_1.jpg', 'train/0007/c1/t0/f_10.jpg', 'train/0007/c1/t0/f_2.jpg', 'train/0007/c0/t1/3.jpg',
    'train/anna b/c2/t0/1.jpg', 'query/0009/c1/t0/1.jpg', 'gallery/0009/c2/t0/1.jpg', 'gallery/0009/c2/t0/2.jpg',
]  # fmt: skip


def make(root: Path, names=GOOD, data=JPEG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_scan(tmp_path):
    raw = scan_tracklet_folder(make(tmp_path / 'set'))
    assert {k: len(v) for k, v in raw.splits.items()} == {'train': 3, 'query': 1, 'gallery': 1}
    unknown, seen, anna = raw.splits['train']
    assert (unknown.person, unknown.person_id, unknown.camera_id) == ('0007', 7, -1)
    assert seen.frame_numbers == (1, 2, 10)  # by number, not by name
    assert [Path(f).name for f in seen.frames] == ['f_1.jpg', 'f_2.jpg', 'f_10.jpg']
    assert (seen.name, seen.camera_id, anna.person_id) == ('train/0007/c1/t0', 1, 10)
    assert raw.splits['query'][0].person_id == raw.splits['gallery'][0].person_id == 9
    assert raw.encoding == 'jpeg' and any('one tracklet: anna b' in n for n in raw.notes)


def test_table_of_findings(tmp_path):
    console = Console(record=True, width=120)
    print_findings(scan_tracklet_folder(make(tmp_path / 'set')), console)
    text = console.export_text()
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith('│')}
    assert [c.strip() for c in rows['train'].strip('│').split('│')] == ['train', '2', '3', '5', '? 1 2', '1-3, 1']
    assert [c.strip() for c in rows['gallery'].strip('│').split('│')] == ['gallery', '1', '1', '2', '2', '2-2, 2']


def test_builds_and_keeps_the_bytes(tmp_path):
    source = make(tmp_path / 'set', data=PNG)
    (source / 'train/0007/c1/t0/.DS_Store').write_text('litter')
    path = build(scan_tracklet_folder(source, 'mine'), tmp_path / 'data', progress=False)
    records = tfds.builder_from_directory(path).as_data_source('train', decoders={'frames': {'image': tfds.decode.SkipDecoding()}})
    assert [f['image'] for f in records[1]['frames']] == [PNG] * 3
    assert records[2]['person'].decode() == 'anna b'


def test_an_archive_reads_like_its_folder(tmp_path):
    source = make(tmp_path / 'set')
    with zipfile.ZipFile(tmp_path / 'set.zip', 'w') as archive:
        for name in GOOD:
            archive.write(source / name, name)
    a, b = scan_tracklet_folder(source), scan_tracklet_folder(tmp_path / 'set.zip')
    assert a.splits == b.splits
    assert a.read_frames(a.splits['train'][1]) == b.read_frames(b.splits['train'][1])


@given(st.sets(st.one_of(st.integers(0, 3000).map(str), st.integers(0, 99).map('{:04d}'.format), st.text(min_size=1, max_size=4))))
def test_people_are_numbered_once_each(names):
    numbers = number_people(names)
    assert numbers.keys() == names and len(set(numbers.values())) == len(names) and min(numbers.values(), default=1) >= 1
    numeric = {n: int(n) for n in names if n.isascii() and n.isdigit() and int(n) >= 1}
    for name, number in numeric.items():
        if list(numeric.values()).count(number) == 1:
            assert numbers[name] == number
    assert numbers == number_people(sorted(names, reverse=True))


def test_cameras():
    assert number_cameras(['c1', 'cam_2', 'Camera-3', '4', 'c05']) == {'c1': 1, 'cam_2': 2, 'Camera-3': 3, '4': 4, 'c05': 5}
    assert number_cameras(['cam_a', 'b', 'camc']) == {'cam_a': 1, 'b': 2, 'camc': 3}
    assert set(number_cameras(['c0', 'unknown', 'None', '0', 'cam_0']).values()) == {-1}
    assert number_cameras(['entrance hall', 'c3', 'yard']) == {'c3': 3, 'entrance hall': 4, 'yard': 5}
    with pytest.raises(UserError, match=r"'c1' and 'cam_a' both read as camera 1"):
        number_cameras(['c1', 'cam_a'])


@pytest.mark.parametrize(
    'name, fault',
    [
        ('train/0007/c1/t0/f_02.jpg', 'f_2.jpg has the frame number 2, as f_02.jpg has'),
        ('train/0007/c1/t0/cover.jpg', 'has no frame number'),
        ('train/0007/t0/1.jpg', 'train/0007/t0/1.jpg lies too high'),
        ('train/0007/c1/t0/deep/1.jpg', 'lies too deep'),
        ('train/0007/c1/t0/99999999999.jpg', 'more than 31 bits'),
    ],
)
def test_wrong_names(tmp_path, name, fault):
    with pytest.raises(UserError, match=fault):
        scan_tracklet_folder(make(tmp_path, [*GOOD, name]))


def test_faults_are_listed_together(tmp_path):
    source = make(tmp_path, [*GOOD, 'train/0007/c1/t0/f_02.jpg', 'gallery/0009/c2/t0/x.jpg'])
    (source / 'query/0009/c5/t9').mkdir(parents=True)
    (source / 'query/0011').mkdir()
    with pytest.raises(UserError) as error:
        scan_tracklet_folder(source)
    for fault in ('f_2.jpg has the frame number', 'x.jpg has no frame number', 'query/0009/c5/t9 is empty', 'query/0011 is empty'):
        assert fault in str(error.value)


def test_wrong_layouts(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        scan_tracklet_folder(tmp_path / 'missing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='It holds: nothing'):
        scan_tracklet_folder(tmp_path / 'empty')
    make(tmp_path / 'outer' / 'inner')
    with pytest.raises(UserError, match=r'Did you mean .*outer/inner\?'):
        scan_tracklet_folder(tmp_path / 'outer')
    with pytest.raises(UserError, match='no tracklets in query, gallery'):
        scan_tracklet_folder(make(tmp_path / 'half', [n for n in GOOD if n.startswith('train')]))
    with pytest.raises(UserError, match='one person only'):
        scan_tracklet_folder(make(tmp_path / 'one', [n for n in GOOD if 'anna' not in n]))
    with pytest.raises(UserError, match='no zip or tar archive'):
        scan_tracklet_folder(make(tmp_path, ['file.txt']) / 'file.txt')


def test_a_sorted_listing_is_not_assumed():
    a, _ = group_frames(GOOD)
    b, _ = group_frames(reversed(GOOD))
    assert a == b


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_command_line(tmp_path):
    source = make(tmp_path / 'set')
    options = ('--dataset=tracklet_folder', f'--source={source}', f'--data_dir={tmp_path / "data"}', '--name=mine')
    built = command('data_prep/build_tfds.py', *options)
    assert built.returncode == 0 and 'is built' in built.stdout, built.stderr
    again = command('-m', 'data_prep.build_tfds', *options)
    assert again.returncode == 0 and 'stands already' in again.stdout
    (source / 'train/0007/c1/t0/f_2.jpg').write_bytes(JPEG[:-9])
    spoilt = command('data_prep/build_tfds.py', *options, '--overwrite')
    assert spoilt.returncode == 2 and 'f_2.jpg is truncated' in spoilt.stderr and 'Traceback' not in spoilt.stderr
    assert (tmp_path / 'data/mine/1.0.0/dataset_info.json').exists()


def test_command_line_refuses_unknown_data_sets():
    refused = command('data_prep/build_tfds.py', '--dataset=market')
    assert refused.returncode == 2 and refused.stderr.startswith("--dataset is 'market'") and refused.stderr.count('\n') == 1
