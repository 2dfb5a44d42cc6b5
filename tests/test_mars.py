"""MARS: the official lists pass at full size, a healthy small copy converts, and its numbers are those of the files."""

import gzip
import tarfile
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from rich.console import Console

from data_prep.builder.build import build
from data_prep.builder.verify import verify
from data_prep.datasets.mars import counts as mars_counts
from data_prep.datasets.mars.counts import EXPECTED, Labels
from data_prep.datasets.mars.counts import mars_counts as count
from data_prep.datasets.mars.names import SPLITS, group_tracklets, person_name, split_paths, tracklet_of
from data_prep.datasets.mars.scan import check_mars, recount_mars, scan_mars
from data_prep.datasets.mars.tables import compare_split
from data_prep.issues import require_complete
from data_prep.sources.annotations import find_annotation, read_lines, read_matlab
from data_prep.sources.archives import open_files
from pvlad_jax.core.errors import UserError
from tests.helpers import small_mars


@pytest.fixture(scope='session')
def official(shared):
    """The official tables and name lists."""
    info = shared / 'data' / 'mars_info'
    return SimpleNamespace(
        tables={s: read_matlab((info / f'tracks_{s}_info.mat').read_bytes(), s, f'track_{s}_info') for s in SPLITS},
        query_idx=read_matlab((info / 'query_IDX.mat').read_bytes(), 'query_IDX.mat', 'query_IDX').ravel(),
        lists={s: read_lines(s, gzip.decompress((info / f'{s}_name.txt.gz').read_bytes())) for s in SPLITS},
    )


@pytest.fixture
def small_counts(monkeypatch):
    """Expects the counts of the small MARS instead of those of the real one."""
    labels = {}
    for split in SPLITS:
        t = small_mars.table(split)
        labels[split] = Labels(t[:, 2], t[:, 3], t[:, 1] - t[:, 0] + 1)
    expected = count(labels['train'], labels['test'], np.array(small_mars.QUERY_IDX) - 1)
    monkeypatch.setattr(mars_counts, 'EXPECTED', expected)
    return expected


def test_the_official_lists_pass_at_full_size(official):
    paths = [f'MARS/bbox_{s}/bbox_{s}/{person_name(n)}/{n}' for s in SPLITS for n in official.lists[s]]
    files = SimpleNamespace(names=paths, empty_folders=[], system_files=[], read=None)
    raw = check_mars(files, official.tables, official.query_idx, {'train': official.lists['train'], 'test': None})
    assert len(paths) == 1_191_003
    assert require_complete(raw, allow_partial=False) is raw
    assert len(raw.checks) == len(EXPECTED) and all(c.holds for c in raw.checks)
    assert [len(raw.splits[s]) for s in SPLITS] == [8298, 12_180]
    assert raw.metadata['query_rows'] == (official.query_idx - 1).tolist()
    junk = [s for s in raw.splits['test'] if s.person_id == -1]
    assert len(junk) == 870 and {s.person for s in junk} == {'00-1'} and sum(len(s.frames) for s in junk) == 23_380
    assert sum(s.person_id == 0 for s in raw.splits['test']) == 3248


def test_one_absent_frame_among_half_a_million_is_named(official):
    found = [n for n in official.lists['train'] if n != '0003C5T0009F002.jpg']
    listed = compare_split('train', found, official.tables['train'], official.lists['train'])
    assert (
        listed.absent.lines() == ['Frames are missing in bbox_train (1): 0003C5T0009F002.jpg']
        and not listed.inconsistencies
    )
    rebuilt = compare_split('train', found, official.tables['train'], None)
    (line,) = rebuilt.absent.lines()
    assert (
        line.startswith('Tracklets of another length in bbox_train (1): 0003C5T0009 (expected')
        and 'no frame 2)' in line
    )


def test_counts_of_the_query_table(official):
    """gallery_only and the official protocol, from the labels alone and by the slow way."""
    t = official.tables['test']
    q = official.query_idx - 1
    found = count(*(2 * [Labels(t[:, 2], t[:, 3], t[:, 1] - t[:, 0] + 1)]), q)
    good = [int(((t[:, 2] == t[i, 2]) & (t[:, 3] != t[i, 3])).sum()) for i in q]
    spread = f'{min(good)}, {max(good)}, {np.median(good):g}'
    assert spread == found['tracklets of the same person in other cameras, a query: fewest, most, median']
    rest = np.setdiff1d(np.flatnonzero(t[:, 2] >= 0), q)
    alone = [i for i in q if not ((t[rest, 2] == t[i, 2]) & (t[rest, 3] != t[i, 3])).any()]
    assert (
        (len(rest), len(alone))
        == (found['gallery without queries and junk'], found['queries without a match in it'])
        == (9330, 140)
    )


@pytest.mark.parametrize('lists', [True, False])
def test_small_copy_converts(tmp_path, small_counts, lists):
    source = small_mars.write(tmp_path / 'MARS', lists=lists)
    raw = require_complete(scan_mars(source), allow_partial=False)
    assert raw.layout == 'query_rows' and raw.metadata['query_rows'] == [3, 4, 6, 7]
    path = build(raw, tmp_path / 'data', progress=False)
    records = tfds.builder_from_directory(path).as_data_source(
        'test', decoders={'frames': {'image': tfds.decode.SkipDecoding()}}
    )
    assert [r['tracklet'].decode() for r in records] == [
        f'{p}C{c}T{t:04d}' for p, c, t, _ in small_mars.TRACKLETS['test']
    ]
    assert [int(r['person_id']) for r in records] == [-1, -1, 0, 2, 2, 2, 4, 4, 6]
    assert [int(r['camera_id']) for r in records] == [1, 6, 3, 1, 4, 4, 2, 5, 5]
    assert records[0]['frames'][1]['image'] == small_mars.FRAME and records[0]['person'] == b'00-1'
    frames = sum(n for tracklets in small_mars.TRACKLETS.values() for *_, n in tracklets)
    assert verify(path, Console(quiet=True), raw, recount_mars, progress=False) == frames


def test_the_tables_are_taken_from_where_they_are(tmp_path, small_counts):
    source = small_mars.write(tmp_path / 'MARS')
    (source / 'info').rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match=r'tracks_train_info.mat was found neither in the source nor in --info_dir'):
        scan_mars(source)
    with pytest.raises(UserError, match=r'is not a folder'):
        scan_mars(source, info_dir=tmp_path / 'nowhere')
    assert require_complete(scan_mars(source, info_dir=tmp_path / 'elsewhere'), allow_partial=False)
    table = (tmp_path / 'elsewhere' / 'tracks_train_info.mat').read_bytes()
    for folder, content in (('one', table), ('two', table)):
        (source / folder).mkdir()
        (source / folder / 'tracks_train_info.mat').write_bytes(content)
    assert find_annotation(open_files(source), None, 'tracks_train_info.mat') == table
    (source / 'two' / 'tracks_train_info.mat').write_bytes(table[:-1])
    with pytest.raises(UserError, match=r'one/tracks_train_info\.mat and two/tracks_train_info\.mat differ'):
        find_annotation(open_files(source), None, 'tracks_train_info.mat')
    with pytest.raises(UserError, match=r'one/tracks_train_info\.mat and two/tracks_train_info\.mat differ'):
        scan_mars(source, info_dir=source)


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
def test_archives_are_read_as_they_are(tmp_path, small_counts, kind):
    source = small_mars.write(tmp_path / 'MARS')
    packed = tmp_path / 'packed'
    packed.mkdir()
    for folder in ('bbox_train', 'bbox_test'):
        files = sorted((source / folder).rglob('*.jpg'))
        if kind == 'zip':
            with zipfile.ZipFile(packed / f'{folder}.zip', 'w') as archive:
                for f in files:
                    archive.write(f, f.relative_to(source))
        else:
            with tarfile.open(packed / f'{folder}.{kind}', 'w:gz' if kind.endswith('gz') else 'w') as archive:
                archive.add(source / folder, folder)
    a = require_complete(scan_mars(packed, info_dir=source / 'info'), allow_partial=False)
    b = scan_mars(source)
    for split in SPLITS:
        assert [(s.name, s.frame_numbers) for s in a.splits[split]] == [
            (s.name, s.frame_numbers) for s in b.splits[split]
        ]
    path = build(a, tmp_path / 'data', progress=False)
    assert verify(path, Console(quiet=True), b, recount_mars, progress=False) == 30
    # Nothing was unpacked there.
    assert sorted(p.name for p in packed.iterdir()) == [f'bbox_test.{kind}', f'bbox_train.{kind}']


def test_partial(tmp_path, small_counts):
    source = small_mars.write(tmp_path / 'MARS')
    for path in (source / 'bbox_test' / '0002').glob('0002C1*'):  # one query and its frames
        path.unlink()
    raw = scan_mars(source)
    with pytest.raises(UserError, match=r'Tracklets are missing in bbox_test \(1\): 0002C1T0001 \(3 frames\)'):
        require_complete(raw, allow_partial=False)
    with pytest.raises(UserError, match='--allow_partial'):
        build(raw, tmp_path / 'data', progress=False)
    part = require_complete(raw, allow_partial=True)
    assert part.name == 'mars_partial' and part.metadata['partial'] is True and part.metadata['differences']
    kept = [s.name for s in part.splits['test']]
    assert '0002C1T0001' not in kept and [kept[i] for i in part.metadata['query_rows']] == [
        '0002C4T0002',
        '0004C2T0001',
        '0004C5T0002',
    ]
    path = build(part, tmp_path / 'data', progress=False)
    assert (
        path.parts[-2] == 'mars_partial' and verify(path, Console(quiet=True), part, recount_mars, progress=False) == 27
    )


def test_verify_names_what_was_changed(tmp_path, small_counts):
    raw = scan_mars(small_mars.write(tmp_path / 'MARS'))
    path = build(raw, tmp_path / 'data', progress=False)
    with np.load(path / 'tracklets_test.npz') as f:
        columns = dict(f)
    columns['camera_id'][3] = 5
    np.savez(path / 'tracklets_test.npz', **columns)
    with pytest.raises(UserError, match=r'test record 3, 0002C1T0001: camera_id is .*1.*, in the table .*5'):
        verify(path, Console(quiet=True), progress=False)
    with pytest.raises(UserError, match=r'tracklets_test.npz does not list the tracklets of the source'):
        verify(path, Console(quiet=True), raw, progress=False)
    columns['camera_id'][3], columns['person_id'][3] = 1, 9
    np.savez(path / 'tracklets_test.npz', **columns)
    with pytest.raises(UserError, match=r'test: people: expected 3, found 4'):
        verify(path, Console(quiet=True), None, recount_mars, progress=False)


def test_verify_against_a_source_that_changed(tmp_path, small_counts):
    source = small_mars.write(tmp_path / 'MARS')
    path = build(scan_mars(source), tmp_path / 'data', progress=False)
    frame = source / 'bbox_train/0003/0003C1T0002F004.jpg'
    frame.write_bytes(small_mars.cv2.imencode('.jpg', np.full((256, 128, 3), 91, np.uint8))[1].tobytes())
    assert verify(path, Console(quiet=True), progress=False) == 30
    with pytest.raises(
        UserError, match=r'train record 3, 0003C1T0002: frame 4 is not that of the source \(.*F004.jpg\)'
    ):
        verify(path, Console(quiet=True), scan_mars(source), progress=False)


def test_verify_finds_frames_that_no_longer_decode(tmp_path, small_counts):
    """The header and the end are right, the middle is not: only decoding tells."""
    source = small_mars.write(tmp_path / 'MARS')
    middle = len(small_mars.FRAME) - 60
    broken = small_mars.FRAME[:middle] + small_mars.FRAME[-2:]
    (source / 'bbox_train/0001/0001C1T0001F002.jpg').write_bytes(broken)
    with pytest.raises(UserError, match=r'0001C1T0001F002.jpg is damaged \(Corrupt JPEG data'):
        build(scan_mars(source), tmp_path / 'data', progress=False)
    path = build(scan_mars(source), tmp_path / 'data', progress=False, decode=False)
    with pytest.raises(UserError, match='train record 0, 0001C1T0001: frame 2 cannot be decoded: it is damaged'):
        verify(path, Console(quiet=True), progress=False)


def test_any_folders_above_and_doubled_ones():
    for prefix in ('', 'MARS/', 'a/b/bbox_test/'):
        found, issues, _ = split_paths([f'{prefix}bbox_train/bbox_train/0001/0001C1T0001F001.jpg', 'info/readme.txt'])
        assert not issues and list(found['train']) == ['0001C1T0001F001.jpg'] and not found['test']
    assert tracklet_of('00-1C1T0001F001.jpg') == '00-1C1T0001'


def test_frames_are_in_the_order_of_their_numbers_and_in_no_deeper_folder():
    names = [f'0001C1T0001F{number}.jpg' for number in ('999', '1000', '001')]
    assert group_tracklets(names) == {'0001C1T0001': [names[2], names[0], names[1]]}
    found, issues, _ = split_paths([f'bbox_train/0001/{names[0]}', f'bbox_train/copy/0001/{names[2]}'])
    assert list(found['train']) == [names[0]]
    assert 'Files that do not lie in the folder of their person (1): bbox_train/copy' in ' '.join(issues.lines())
