"""iLIDS-VID and PRID 2011: name lists of full size pass, planted issues are named, splits follow the conventions."""

import json
import shutil
import tarfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from absl import flags
from rich.console import Console

from data_prep import build_tfds
from data_prep.builder.build import build
from data_prep.builder.frame_reader import checked_reader
from data_prep.builder.verify import verify
from data_prep.datasets import ilids_vid, prid2011
from data_prep.datasets.ilids_vid import check_ilids_vid, recount_ilids_vid, scan_ilids_vid, wang_splits
from data_prep.datasets.people_splits import drawn_splits
from data_prep.datasets.prid2011 import NOT_USED, check_prid2011, recount_prid2011, scan_prid2011
from data_prep.issues import require_complete
from data_prep.sources.annotations import read_matlab
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.partition import partition
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from tests.helpers import small_mars

# 300 numbers of 1 to 319 with gaps; which ones iLIDS-VID leaves out is not part of the test.
PEOPLE = [*[p for p in range(1, 320) if p % 17 or p > 310][:299], 319]


def ilids_names(people=PEOPLE) -> list[str]:
    """Lengths from 23 to 192, frames numbered from anywhere."""
    return [
        f'i-LIDS-VID/sequences/cam{c}/person{p:03d}/cam{c}_person{p:03d}_{317 + p + f:05d}.png'
        for i, p in enumerate(people) for c in (1, 2) for f in range(23 + (i * 7 + c * 31) % 170)
    ]  # fmt: skip


def prid_names() -> list[str]:
    return [
        f'prid_2011/multi_shot/cam_{camera}/person_{p:04d}/{f:04d}.png'
        for camera, n in (('a', 385), ('b', 749)) for p in range(1, n + 1)
        for f in range(1, 1 + (20 if p in NOT_USED and (p % 2 or camera == 'a') else 27 + p % 3))
    ] + ['prid_2011/single_shot/cam_a/person_0001.png', 'prid_2011/readme.txt']  # fmt: skip


def listing(names: list[str]) -> SimpleNamespace:
    return SimpleNamespace(names=sorted(names), empty_folders=[], system_files=[], read=None)


@pytest.fixture(scope='session')
def ls_set(shared):
    name = 'train_test_splits_ilidsvid.mat'
    return read_matlab((shared / 'data/splits' / name).read_bytes(), name, 'ls_set')


@pytest.fixture(scope='session')
def prid_splits(shared) -> bytes:
    return (shared / 'data/splits/splits_prid2011.json').read_bytes()


def check_ilids(files, ls_set):
    return check_ilids_vid(files, wang_splits(ls_set))


def check_prid(files, splits_json):
    return check_prid2011(files, prid2011.read_splits(splits_json))


def refusal(raw) -> str:
    with pytest.raises(UserError) as error:
        require_complete(raw, allow_partial=False)
    return str(error.value)


def test_ilids_passes_at_full_size(ls_set):
    raw = require_complete(check_ilids(listing(ilids_names()), ls_set), allow_partial=False)
    sources = raw.splits['everyone']
    assert len(sources) == 600 and raw.encoding == 'png' and raw.layout == 'people_splits'
    assert {s.camera_id for s in sources} == {1, 2} and {s.person_id for s in sources} == set(PEOPLE)
    assert (
        raw.metadata['query_camera'] == 1
        and raw.metadata['gallery_camera'] == 2
        and raw.metadata['halves'] == 'wang2014'
    )
    assert all(len(s['train']) == len(s['test']) == 150 for s in raw.metadata['people_splits'])


def test_the_first_150_of_a_row_are_test_people(ls_set):
    splits, issues = wang_splits(ls_set).halves(PEOPLE, 150)
    assert not issues and len(splits) == 10
    for row, split in zip(ls_set, splits):
        assert set(split['test']) == {PEOPLE[i - 1] for i in row[:150]}
        assert set(split['train']) == {PEOPLE[i - 1] for i in row[150:]}


def test_ilids_faults(ls_set):
    names = ilids_names()
    one = names[5]
    # All at once: 64,230 names are looked at in seconds.
    last = one.replace('00323', '00330')
    planted = [
        *(n for n in names if 'cam2/person004' not in n and not ('cam1/person001' in n and n > last)),
        one.replace('.png', '.gif'),
        one.replace('cam1_person001_00', 'cam2_person001_00'),
        one.replace('_00', '_0'),
    ]
    message = refusal(check_ilids(listing(planted), ls_set))
    for fault in (
        'Sequences are missing (1): person004 in cam2',
        'people in cam2: expected 300, found 299',
        'Files not named camC_personNNN_FFFFF.png (1): ',
        'Files that do not lie in the folder of their camera and person (1)',
        'Files of the same frame (1)',
        'shortest and longest tracklet: expected 23, 192, found 1',
    ):
        assert fault in message


def test_ilids_people_and_splits_must_fit(ls_set):
    message = refusal(check_ilids(listing(ilids_names(PEOPLE[:-1])), ls_set))
    assert 'contradicts itself' in message and '299 people found' in message
    doubled = ls_set.copy()
    doubled[3, 0] = doubled[3, 1]
    message = refusal(check_ilids(listing(ilids_names()), doubled))
    assert 'Rows of ls_set that do not name each of the 300 people once (1): row 4' in message
    assert 'has not the shape (10, 300)' in refusal(check_ilids(listing(ilids_names()), ls_set[:, :150]))
    assert 'splits: expected 10, found 9' in refusal(check_ilids(listing(ilids_names()), ls_set[:9]))


def test_frames_are_sorted_by_number(ls_set):
    """Numbers of different widths: the order of names is not that of time."""
    names = [n.replace('_00', '_') for n in ilids_names()]
    raw = check_ilids(listing(names), ls_set)
    assert all(list(s.frame_numbers) == sorted(s.frame_numbers) for s in raw.splits['everyone'])
    assert raw.splits['everyone'][0].frames[0].endswith(f'_{raw.splits["everyone"][0].frame_numbers[0]}.png')


def test_prid_passes_at_full_size(prid_splits):
    raw = require_complete(check_prid(listing(prid_names()), prid_splits), allow_partial=False)
    sources = raw.splits['everyone']
    assert len(sources) == 356 and {s.person_id for s in sources} == set(range(1, 201)) - set(NOT_USED)
    assert all(len(s['train']) == len(s['test']) == 89 for s in raw.metadata['people_splits'])
    named = json.loads(prid_splits)
    assert raw.metadata['people_splits'][7]['test'] == sorted(int(n[-4:]) for n in named[7]['test'])
    assert {s.camera_id for s in sources if '/cam_a/' in s.frames[0]} == {1}


def test_prid_faults(prid_splits):
    names = prid_names()
    message = refusal(check_prid(listing([n for n in names if 'cam_b/person_0700' not in n]), prid_splits))
    assert 'people in cam_b: expected 749, found 748' in message
    message = refusal(
        check_prid(listing([n for n in names if not n.endswith('cam_a/person_0003/0027.png')]), prid_splits)
    )
    assert 'People with under 27 frames in a camera (1): person_0003' in message
    more = [n.replace('0001.png', f'{f:04d}.png') for n in names if 'person_0006/0001' in n for f in range(21, 40)]
    message = refusal(check_prid(listing(names + more), prid_splits))
    assert 'People with enough frames who are known to have fewer (1): person_0006' in message
    message = refusal(check_prid(listing([*names, 'multi_shot/cam_c/person_0001/0001.png']), prid_splits))
    assert 'Files not named cam_{a,b}/person_NNNN/FFFF.png (1): multi_shot/cam_c' in message


def test_prid_splits_must_fit(prid_splits):
    files = listing(prid_names())
    splits = json.loads(prid_splits)
    splits[2]['test'][0] = splits[2]['train'][0]
    assert 'with people in both halves (1): split 2' in refusal(check_prid(files, json.dumps(splits).encode()))
    splits = json.loads(prid_splits)
    splits[2]['test'][0] = 'person_0006'
    assert 'who are not in the data set (1): split 2: [6]' in refusal(check_prid(files, json.dumps(splits).encode()))
    assert 'has not ten splits (1): 9' in refusal(check_prid(files, json.dumps(splits[:9]).encode()))
    for content in (b'[{"train": ["anna"], "test": []}]', b'[' * 100_000):
        with pytest.raises(UserError, match='is not a list of'):
            check_prid(files, content)


def test_drawn_splits_are_halves_of_all_people_and_the_same_for_a_seed():
    people = list(range(1, 301))
    splits, issues = drawn_splits(3).halves(people, 150)
    assert not issues and len(splits) == 10
    assert splits == drawn_splits(3).halves(people, 150)[0] != drawn_splits(4).halves(people, 150)[0]
    for split in splits:
        assert len(split['train']) == len(split['test']) == 150 and sorted(split['train'] + split['test']) == people
    assert len({tuple(split['test']) for split in splits}) == 10


def test_torchreids_list_of_splits_is_read(tmp_path, small_ilids):
    splits = [{'train': ['person001', 'person002'], 'test': ['person004', 'person003']}] * 10
    tables = {p.name: p for p in small_ilids.rglob('*.mat')}
    for path in tables.values():
        path.unlink()
    (tmp_path / 'splits.json').write_text(json.dumps(splits))
    found = scan_ilids_vid(small_ilids, info_dir=tmp_path).metadata['people_splits']
    assert found == [{'train': [1, 2], 'test': [3, 4]}] * 10
    with pytest.raises(UserError, match='--draw_splits=0'):
        scan_ilids_vid(small_ilids)


def test_results_say_that_splits_were_drawn(tmp_path, small_ilids):
    raw = scan_ilids_vid(small_ilids, draw=5)
    assert any('drawn with seed 5' in note for note in raw.notes)
    build(require_complete(raw, allow_partial=False), tmp_path / 'data', progress=False)
    dataset = TrackletDataset.open(str(tmp_path / 'data'), 'ilids_vid')
    assert partition(dataset, '7').convention == 'splits drawn with seed 5, not the published ones'
    assert partition(dataset, '7', halves='swapped').convention.endswith('not the published ones; halves swapped')


@pytest.fixture
def small_ilids(tmp_path, monkeypatch):
    """Four people in both cameras, on disk, with the counts that belong to them."""
    root = tmp_path / 'i-LIDS-VID'
    for camera in (1, 2):
        for person in (1, 2, 5, 7):
            for frame in (9, 10, 11):
                path = root / f'sequences/cam{camera}/person{person:03d}/cam{camera}_person{person:03d}_{frame}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = np.random.default_rng(person * 100 + camera * 20 + frame).integers(
                    0, 255, (128, 64, 3), dtype=np.uint8
                )
                cv2.imwrite(str(path), cv2.GaussianBlur(picture, (0, 0), 4))
    splits = root / 'train-test people splits' / 'train_test_splits_ilidsvid.mat'
    splits.parent.mkdir()
    splits.write_bytes(small_mars.matlab('ls_set', np.array([[1, 2, 3, 4]] * 10, dtype=np.uint16)))
    monkeypatch.setattr(ilids_vid, 'PEOPLE', 4)
    monkeypatch.setattr(ilids_vid, 'TEST_PEOPLE', 2)
    monkeypatch.setattr(ilids_vid, 'LENGTHS', '3, 3')
    monkeypatch.setattr(ilids_vid, 'NUMBERS', '1, 7')
    return root


def test_png_frames_are_kept_as_they_are(tmp_path, small_ilids):
    raw = require_complete(scan_ilids_vid(small_ilids), allow_partial=False)
    assert raw.metadata['people_splits'][0] == {'train': [5, 7], 'test': [1, 2]}
    path = build(raw, tmp_path / 'data', progress=False)
    record = tfds.builder_from_directory(path).as_data_source(
        'everyone', decoders={'frames': {'image': tfds.decode.SkipDecoding()}}
    )[1]
    assert record['tracklet'] == b'cam2_person001' and record['frame_numbers'].tolist() == [9, 10, 11]
    assert record['frames'][1]['image'] == (small_ilids / 'sequences/cam2/person001/cam2_person001_10.png').read_bytes()
    assert verify(path, Console(quiet=True), raw, recount_ilids_vid, progress=False) == 24


def test_reencoding_is_said_and_close(tmp_path, small_ilids):
    raw = require_complete(scan_ilids_vid(small_ilids, jpeg_quality=95), allow_partial=False)
    path = build(raw, tmp_path / 'data', progress=False)
    assert json.loads((path / 'metadata.json').read_text())['jpeg_quality'] == 95
    record = tfds.builder_from_directory(path).as_data_source(
        'everyone', decoders={'frames': {'image': tfds.decode.SkipDecoding()}}
    )[0]
    picture = simplejpeg.decode_jpeg(record['frames'][0]['image'], colorspace='BGR')
    source = cv2.imread(str(small_ilids / 'sequences/cam1/person001/cam1_person001_9.png'))
    assert np.abs(picture.astype(int) - source).mean() < 2  # of 255
    assert verify(path, Console(quiet=True), raw, recount_ilids_vid, progress=False) == 24
    with pytest.raises(UserError, match='with --jpeg_quality=95, and the source is read without --jpeg_quality now'):
        verify(path, Console(quiet=True), scan_ilids_vid(small_ilids), progress=False)


def test_options_of_the_build_are_taken_where_it_is_verified(tmp_path, small_ilids):
    shutil.rmtree(small_ilids / 'train-test people splits')

    def told(*arguments: str) -> None:
        values = flags.FlagValues()
        build_tfds.define_flags(values)
        values(['', '--dataset=ilids_vid', f'--source={small_ilids}', f'--data_dir={tmp_path / "data"}', *arguments])
        build_tfds.run(values, Console(quiet=True))

    told('--draw_splits=0', '--jpeg_quality=80')
    told('--verify')
    for flag, then, now in (('draw_splits', 0, 5), ('jpeg_quality', 80, 95)):
        with pytest.raises(UserError, match=f'with --{flag}={then}, and the source is read with --{flag}={now} now'):
            told('--verify', f'--{flag}={now}')
    with pytest.raises(UserError, match='was built with --draw_splits=0, so that --info_dir has no effect'):
        told('--verify', f'--info_dir={tmp_path}')


def test_ilids_from_its_archive(tmp_path, small_ilids):
    with tarfile.open(tmp_path / 'i-LIDS-VID.tar', 'w') as archive:
        archive.add(small_ilids, './i-LIDS-VID')
    a, b = scan_ilids_vid(tmp_path / 'i-LIDS-VID.tar'), scan_ilids_vid(small_ilids)
    assert [s.name for s in a.splits['everyone']] == [s.name for s in b.splits['everyone']] and a.metadata == b.metadata
    assert checked_reader(a)(a.splits['everyone'][3]) == checked_reader(b)(b.splits['everyone'][3])


def test_prid_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(prid2011, 'MIN_FRAMES', 2)
    png = cv2.imencode('.png', np.zeros((128, 64, 3), np.uint8))[1].tobytes()
    for camera in 'ab':
        for person in (1, 2, 300):
            for frame in (1, 2, 10)[: 2 if person == 2 else 3]:
                path = tmp_path / f'prid/prid_2011/multi_shot/cam_{camera}/person_{person:04d}/{frame:04d}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png)
    with pytest.raises(UserError, match=r'splits_prid2011.json was found neither in the source nor in --info_dir'):
        scan_prid2011(tmp_path / 'prid')
    used = sorted(set(range(1, 201)) - set(NOT_USED))
    names = [f'person_{p:04d}' for p in used]
    (tmp_path / 'splits_prid2011.json').write_text(json.dumps([{'train': names[::2], 'test': names[1::2]}] * 10))
    raw = scan_prid2011(tmp_path / 'prid', info_dir=tmp_path)
    part = require_complete(raw, allow_partial=True)
    assert part.name == 'prid2011_partial' and part.metadata['people_splits'][0] == {'train': [1], 'test': [2]}
    path = build(part, tmp_path / 'data', progress=False)
    assert verify(path, Console(quiet=True), part, recount_prid2011, progress=False) == 10
    assert [s.name for s in part.splits['everyone']] == [
        'cam_a/person_0001',
        'cam_b/person_0001',
        'cam_a/person_0002',
        'cam_b/person_0002',
    ]
