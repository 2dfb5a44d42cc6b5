"""The folder layout: what is read from names, and every issue named."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.builder.build import build
from data_prep.builder.summary import print_summary
from data_prep.builder.verify import verify
from data_prep.datasets.tracklet_folder.role_folders import group_paths
from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset

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


def test_people_to_test_on_need_no_train(tmp_path):
    to_test = [name for name in GOOD if not name.startswith('train')]
    raw = scan_tracklet_folder(make(tmp_path / 'set', to_test))
    assert {role: len(found) for role, found in raw.splits.items()} == {'query': 1, 'gallery': 1}
    assert any(note.startswith('There is no train') for note in raw.notes)
    path = build(raw, tmp_path / 'data', workers=1, progress=False)
    assert verify(path, Console(quiet=True), raw, progress=False) == 3
    roles = partition(TrackletDataset(path))
    assert (len(roles.train), len(roles.query), len(roles.gallery)) == (0, 1, 1)
    for name, more in (('cased', 'Train/0007/c1/t0/1.jpg'), ('elsewhere', 'train/readme/x/y.jpg')):
        with pytest.raises(UserError, match=r'no tracklets in train|too high'):
            scan_tracklet_folder(make(tmp_path / name, [*to_test, more]))


def test_table_of_findings(tmp_path):
    console = Console(record=True, width=120)
    print_summary(scan_tracklet_folder(make(tmp_path / 'set')), console)
    text = console.export_text()
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith('│')}
    assert [c.strip() for c in rows['train'].strip('│').split('│')] == ['train', '2', '3', '5', '? 1 2', '1-3, 1']
    assert [c.strip() for c in rows['gallery'].strip('│').split('│')] == ['gallery', '1', '1', '2', '2', '2-2, 2']


def test_builds_and_keeps_the_bytes(tmp_path):
    source = make(tmp_path / 'set', data=PNG)
    (source / 'train/0007/c1/t0/.DS_Store').write_text('system_files')
    path = build(scan_tracklet_folder(source, 'mine'), tmp_path / 'data', progress=False)
    records = tfds.builder_from_directory(path).as_data_source(
        'train', decoders={'frames': {'image': tfds.decode.SkipDecoding()}}
    )
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


@pytest.mark.parametrize(
    'name, issue',
    [
        ('train/0007/c1/t0/f_02.jpg', 'f_2.jpg has the frame number 2, as f_02.jpg has'),
        ('train/0007/c1/t0/cover.jpg', 'has no frame number'),
        ('train/0007/t0/1.jpg', 'train/0007/t0/1.jpg is too high'),
        ('train/0007/c1/t0/deep/1.jpg', 'is too deep'),
        ('train/0007/c1/t7/notes.txt', 'train/0007/c1/t7 holds no frames'),
        ('train/0007/1/t0/1.jpg', "'1' and 'c1' both read as camera 1"),
    ],
)
def test_wrong_names(tmp_path, name, issue):
    with pytest.raises(UserError, match=issue):
        scan_tracklet_folder(make(tmp_path, [*GOOD, name]))


def test_faults_are_listed_together(tmp_path):
    source = make(tmp_path, [*GOOD, 'train/0007/c1/t0/f_02.jpg', 'gallery/0009/c2/t0/x.jpg'])
    (source / 'query/0009/c5/t9').mkdir(parents=True)
    (source / 'query/0011').mkdir()
    with pytest.raises(UserError) as error:
        scan_tracklet_folder(source)
    for issue in (
        'f_2.jpg has the frame number',
        'x.jpg has no frame number',
        'query/0009/c5/t9 is empty',
        'query/0011 is empty',
    ):
        assert issue in str(error.value)


def test_wrong_layouts(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        scan_tracklet_folder(tmp_path / 'missing')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='It holds: nothing'):
        scan_tracklet_folder(tmp_path / 'empty')
    make(tmp_path / 'two' / 'a')
    make(tmp_path / 'two' / 'b')
    with pytest.raises(UserError, match=r'holds several data sets.*: a/, b/'):
        scan_tracklet_folder(tmp_path / 'two')
    with pytest.raises(UserError, match='in lower case: rename Train'):
        scan_tracklet_folder(make(tmp_path / 'cased', ['Train/0007/c1/t0/1.jpg']))
    with pytest.raises(UserError, match='no tracklets in query, gallery'):
        scan_tracklet_folder(make(tmp_path / 'half', [n for n in GOOD if n.startswith('train')]))
    with pytest.raises(UserError, match='one person only'):
        scan_tracklet_folder(make(tmp_path / 'one', [n for n in GOOD if 'anna' not in n]))
    with pytest.raises(UserError, match='no zip or tar archive'):
        scan_tracklet_folder(make(tmp_path, ['file.txt']) / 'file.txt')


def test_a_sorted_listing_is_not_assumed():
    assert group_paths(GOOD) == group_paths(reversed(GOOD))


TIMES = [f'2023-05-01_12-{34 + t // 60}-{t % 60:02d}.jpg' for t in (58, 59, 60, 61)]


def test_the_frame_order_is_kept_and_a_pattern_goes_into_the_metadata(tmp_path):
    people = (('train', 1, 1), ('train', 2, 1), ('query', 3, 1), ('gallery', 3, 2))
    names = [f'{role}/{p}/{c}/t/{n}' for role, p, c in people for n in TIMES]
    source = make(tmp_path / 'set', names)
    raw = scan_tracklet_folder(source)
    assert [Path(f).name for f in raw.splits['train'][0].frames] == TIMES
    assert raw.splits['train'][0].frame_numbers == (0, 1, 2, 3)
    assert raw.metadata['frame_order'] == ['#-#-#_#-#-#: the time in numbers 1, 2, 3, 4, 5, 6']
    chosen = scan_tracklet_folder(source, pattern=r'-(?P<frame>\d+)\.jpg')
    assert chosen.splits['train'][0].frame_numbers == (0, 1, 58, 59) and chosen.metadata != raw.metadata
    with pytest.raises(UserError, match=r'is not matched by --frame_pattern[^$]*Rename the files, or'):
        scan_tracklet_folder(source, pattern=r'x(?P<frame>\d+)')


def test_cameras_that_count_from_0_are_kept_and_those_that_are_unknown(tmp_path):
    def names(*cameras):
        return [
            f'{role}/{p}/{c}/t/1.jpg'
            for role, p in (('train', 1), ('train', 2), ('query', 3), ('gallery', 3))
            for c in cameras
        ]

    raw = scan_tracklet_folder(make(tmp_path / 'zero', names('0', '1')))
    assert {s.camera_id for s in raw.splits['query']} == {0, 1} and raw.metadata['cameras'] == {'0': 0, '1': 1}
    assert any('cameras count from 0' in n for n in raw.notes)
    raw = scan_tracklet_folder(tmp_path / 'zero', cameras={'0': -1})
    assert raw.metadata['cameras'] == {'0': -1, '1': 1}
    for name in ('c0', 'none'):
        raw = scan_tracklet_folder(make(tmp_path / name, names(name)))
        assert {s.camera_id for s in raw.splits['query']} == {-1} and any('No camera is known' in n for n in raw.notes)
        assert not any('queries have no tracklet' in n for n in raw.notes)  # the gallery's can be found


def test_junk_and_distractors(tmp_path):
    more = ['gallery/0000/c1/t0/1.jpg', 'gallery/00-1/c1/t0/1.jpg', 'query/-1/c1/t0/1.jpg', 'train/00-1/c1/t0/1.jpg']
    raw = scan_tracklet_folder(make(tmp_path, [*GOOD, *more]))
    assert {s.person: s.person_id for s in raw.splits['gallery']} == {'0009': 9, '0000': 0, '00-1': -1}
    assert {s.person_id for role in ('train', 'query') for s in raw.splits[role]} == {7, 10, 9}
    text = ' '.join(raw.notes)
    assert 'Junk, as in MARS: -1, 00-1.' in text and 'Distractors, as in MARS: 0000' in text
    assert 'left out: query/-1/c1/t0, train/00-1/c1/t0.' in text


def test_litter_and_other_files_are_passed_over_with_a_note(tmp_path):
    system_files = ['Thumbs.db', '.DS_Store', 'train/@eaDir/0007/1.jpg', 'train/0007/c1/t0/thumbs.db',
              'train/0007/c1/t0/._f_1.jpg', 'gallery/desktop.ini', 'train/0007/c1/t0/f_1.txt',
              'train/0007/c1/t0/f_2.txt', 'query/labels.csv',
              'val/0007/c1/t0/1.jpg']  # fmt: skip
    clean, raw = (
        scan_tracklet_folder(make(tmp_path / 'a')),
        scan_tracklet_folder(make(tmp_path / 'b', [*GOOD, *system_files])),
    )
    assert raw.splits == clean.splits and not any('Passed over' in n for n in clean.notes)
    outside, note = raw.notes[-2:]
    assert outside == 'Pictures outside train, query and gallery are not read: val (1).'
    assert note.startswith('Passed over') and all(k in note for k in ('*.txt (2)', '@eaDir', '._*', '*.csv')), note


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100)


def told(*arguments: str) -> None:
    """Does what the build command would."""
    values = flags.FlagValues()
    build_tfds.define_flags(values)
    values(['build_tfds.py', *arguments])
    build_tfds.run(values, Console(quiet=True))


def test_what_a_data_set_was_built_with_is_taken_where_it_is_verified(tmp_path):
    deep = cv2.imencode('.png', np.full((8, 4, 3), 900, np.uint16))[1].tobytes()  # 10 bits in use by its values
    people = (('train', 1, 'a'), ('train', 2, 'b'), ('query', 3, 'a'), ('gallery', 3, 'b'))
    names = [f'{role}/{p}/{c}/t/7_{9 - n}_{n}.png' for role, p, c in people for n in range(3)]
    options = ('--dataset=tracklet_folder', f'--source={make(tmp_path / "set", names, deep)}')
    options += (f'--data_dir={tmp_path / "data"}', '--name=mine')
    told(*options, '--bit_depth=16', '--camera_numbers=b=unknown', r'--frame_pattern=7_(?P<frame>\d+)')
    told(*options, '--verify')
    told(*options, '--verify', '--bit_depth=16')
    built = 'was built with --'
    for flag, then, now in (
        ('bit_depth', '16', '12'),
        ('camera_numbers', 'b=unknown', 'b=3'),
        ('frame_pattern', r'7_(?P<frame>\d+)', r'_(?P<frame>\d+)\.'),
    ):
        with pytest.raises(UserError) as refused:
            told(*options, '--verify', f'--{flag}={now}')
        assert f'{built}{flag}={then}, and the source is read with --{flag}={now} now.' in str(refused.value)
    make(tmp_path / 'set', ['gallery/3/c/t/7_9_0.png'], deep)  # a camera more
    with pytest.raises(UserError, match=r'gallery\.npz does not list the tracklets of the source'):
        told(*options, '--verify')
    for folder in ('gallery/3', 'train/2'):
        shutil.rmtree(tmp_path / 'set' / folder / 'b')  # and one less
    make(tmp_path / 'set', ['train/2/c/t/7_9_0.png'], deep)
    with pytest.raises(UserError, match=r'gallery\.npz does not list the tracklets of the source'):
        told(*options, '--verify')


@pytest.mark.parametrize('damaged', ['"bit_depth": "16"', '"cameras": {"a": 1.5}', '"frame_order": 3'])
def test_damaged_options_in_the_metadata_are_told(tmp_path, damaged):
    options = ('--dataset=tracklet_folder', f'--source={make(tmp_path / "set")}', f'--data_dir={tmp_path / "data"}')
    told(*options)
    metadata = tmp_path / 'data/tracklet_folder/1.0.0/metadata.json'
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | json.loads(f'{{{damaged}}}')))
    with pytest.raises(UserError, match=r'metadata\.json is damaged .*Build the data set again with --overwrite'):
        told(*options, '--verify')


def test_command_line(tmp_path):
    source = make(tmp_path / 'set')
    options = ('--dataset=tracklet_folder', f'--source={source}', f'--data_dir={tmp_path / "data"}', '--name=mine')
    built = command('data_prep/build_tfds.py', *options)
    assert built.returncode == 0 and 'is built' in built.stdout, built.stderr
    again = command('-m', 'data_prep.build_tfds', *options)
    assert again.returncode == 0 and 'exists already' in again.stdout
    (source / 'train/0007/c1/t0/f_2.jpg').write_bytes(JPEG[:-9])
    spoilt = command('data_prep/build_tfds.py', *options, '--overwrite')
    assert spoilt.returncode == 2 and 'f_2.jpg is truncated' in spoilt.stderr and 'Traceback' not in spoilt.stderr
    assert (tmp_path / 'data/mine/1.0.0/dataset_info.json').exists()


@pytest.mark.parametrize('flag', ['frame_pattern', 'camera_numbers'])
def test_options_of_own_tracklets_are_refused_for_benchmarks(flag):
    values = flags.FlagValues()
    build_tfds.define_flags(values)
    values(['build_tfds.py', '--dataset=mars', f'--{flag}=x'])
    with pytest.raises(UserError, match=f'--{flag} is for --dataset=tracklet_folder'):
        build_tfds.run(values, Console())


def test_command_line_refuses_unknown_data_sets():
    refused = command('data_prep/build_tfds.py', '--dataset=market')
    assert (
        refused.returncode == 2
        and refused.stderr.startswith("--dataset is 'market'")
        and refused.stderr.count('\n') == 1
    )
