"""A built data set reads back frame for frame in scan order; bad frames and names are reported before anything is left
behind.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_prep.builder import tfds_builder
from data_prep.builder.build import build, data_set_path, is_built
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.images import ImageError, read_header

cv2 = pytest.importorskip('cv2')
ROOT = Path(__file__).resolve().parents[1]


def image(key: str, extension: str = '.jpg') -> bytes:
    """A small image that is a function of the key."""
    rng = np.random.default_rng(abs(hash_of(key)))
    return cv2.imencode(extension, rng.integers(0, 255, (12, 6, 3), dtype=np.uint8))[1].tobytes()


def hash_of(key: str) -> int:
    return int.from_bytes(key.encode(), 'little')


def read(source: TrackletSource) -> list[bytes]:
    return [image(k) for k in source.frames]


def tracklets(split: str, n: int, frames: int = 3) -> list[TrackletSource]:
    numbers = tuple(range(5, 5 + frames))
    return [
        TrackletSource(
            f'{split}/{i}', f'pé {i % 4}', i % 4, i % 3 - 1, numbers, tuple(f'{split}{i}f{k}' for k in range(frames))
        )
        for i in range(n)
    ]


def raw(**changes) -> RawDataset:
    splits = {
        'train': tracklets('train', 7),
        'query': tracklets('query', 2),
        'gallery': tracklets('gallery', 3, frames=1),
    }
    return dataclasses.replace(RawDataset('tiny', splits, read, 'jpeg', 'roles', {'seed': 1}), **changes)


def open_split(path: Path, split: str):
    return tfds.builder_from_directory(path).as_data_source(
        split, decoders={'frames': {'image': tfds.decode.SkipDecoding()}}
    )


def content(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir())}


def test_reads_back_in_scan_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builder, 'FRAMES_PER_SHARD', 6)  # so that a split has several files
    made = raw()
    path = build(made, tmp_path, progress=False)
    assert path == tmp_path.absolute() / 'tiny' / '1.0.0' and is_built(path)
    assert len(list(path.glob('tiny-train.array_record-*-of-00004'))) == 4
    metadata = tfds.builder_from_directory(path).info.metadata
    common = {'format_version': 1, 'layout': 'roles', 'encoding': 'jpeg', 'partial': False, 'frames_decoded': True}
    assert dict(metadata.items()) == common | {'seed': 1}
    for split, sources in made.splits.items():
        records = open_split(path, split)
        with np.load(path / f'tracklets_{split}.npz', allow_pickle=False) as table:
            assert len(records) == len(sources) == len(table['tracklet'])
            for i in reversed(range(len(sources))):  # any order of access
                source, record = sources[i], records[i]
                assert record['tracklet'].decode() == source.name == table['tracklet'][i].decode()
                assert record['person'].decode() == source.person == table['person'][i].decode()
                assert record['person_id'] == source.person_id == table['person_id'][i]
                assert record['camera_id'] == source.camera_id == table['camera_id'][i]
                assert tuple(record['frame_numbers']) == source.frame_numbers
                assert len(record['frames']) == table['n_frames'][i]
                last = len(source.frames) - 1
                assert record['frames'][last]['image'] == image(source.frames[last])
    assert sorted(p.name for p in path.parent.iterdir()) == ['1.0.0']
    assert sorted(p.name for p in tmp_path.iterdir()) == ['tiny']


def test_workers_change_nothing(tmp_path):
    built = [build(raw(), tmp_path / str(w), workers=w, progress=False) for w in (1, 5)]
    assert content(built[0]) == content(built[1])


def test_processes_read_in_order(tmp_path):
    path = build(raw(workers='processes'), tmp_path, workers=2, progress=False)
    assert content(path) == content(build(raw(), tmp_path / 'threads', progress=False))


def test_another_process_writes_the_same_bytes(tmp_path):
    script = (
        'import sys; sys.path.insert(0, sys.argv[2])\nfrom tests.test_build_tfds import build, raw\n'
        'build(raw(), sys.argv[1], progress=False)'
    )
    for seed in ('1', '2'):
        environment = os.environ | {'PYTHONHASHSEED': seed}
        arguments = [sys.executable, '-c', script, str(tmp_path / seed), str(ROOT)]
        subprocess.run(arguments, check=True, capture_output=True, timeout=100, env=environment)
    assert content(data_set_path(tmp_path / '1', 'tiny')) == content(data_set_path(tmp_path / '2', 'tiny'))


def test_one_split_only(tmp_path):
    """'all' is TFDS's word for the union of the splits; a split of that name could be written, but never read."""
    path = build(raw(splits={'everyone': tracklets('x', 3)}, layout='people_splits'), tmp_path, progress=False)
    for split in ('everyone', 'all'):
        assert [r['tracklet'] for r in open_split(path, split)] == [b'x/0', b'x/1', b'x/2']
    with pytest.raises(ValueError, match='cannot name one'):
        build(raw(splits={'all': tracklets('x', 3)}), tmp_path, overwrite=True, progress=False)


def test_same_data_set_is_kept_and_another_refused(tmp_path):
    path = build(raw(), tmp_path, progress=False)
    before = os.stat(path / 'dataset_info.json').st_mtime_ns

    def never(source):
        raise AssertionError('a data set that stands is not read again')

    assert build(raw(read_frames=never), tmp_path, progress=False) == path
    assert os.stat(path / 'dataset_info.json').st_mtime_ns == before
    with pytest.raises(UserError, match=r'seed = 1 instead of 2.*--overwrite'):
        build(raw(metadata={'seed': 2}), tmp_path, progress=False)
    build(raw(name='other', metadata={'options': {'people': 2, 'twins': False}}), tmp_path, progress=False)
    with pytest.raises(UserError, match=r'options\.twins = false instead of true'):
        build(raw(name='other', metadata={'options': {'people': 2, 'twins': True}}), tmp_path, progress=False)
    with pytest.raises(UserError, match='tracklets of split train are not those'):
        build(raw(splits=raw().splits | {'train': tracklets('train', 6)}), tmp_path, progress=False)
    (path / 'metadata.json').write_text('{"format_version": 0}')
    with pytest.raises(UserError, match='has format 0, this program writes 1'):
        build(raw(), tmp_path, progress=False)


def test_overwrite_keeps_the_old_until_the_new_is_whole(tmp_path):
    path = build(raw(), tmp_path, progress=False)
    old = content(path)
    with pytest.raises(UserError, match='gallery1f0 cannot be read'):
        build(raw(read_frames=missing('gallery1f0')), tmp_path, overwrite=True, progress=False)
    assert content(path) == old
    build(raw(metadata={'seed': 2}), tmp_path, overwrite=True, progress=False)
    assert '"seed": 2' in (path / 'metadata.json').read_text() and len(open_split(path, 'train')) == 7
    assert sorted(p.name for p in path.parent.iterdir()) == ['1.0.0']


def missing(key: str):
    def read_all_but_one(source):
        if key in source.frames:
            raise FileNotFoundError(2, 'No such file or directory', key)
        return read(source)

    return read_all_but_one


def test_bad_frames_are_collected_and_named(tmp_path):
    bad = {
        'train0f0': image('a')[:-30],
        'train0f2': b'GIF89a',
        'train3f1': b'',
        'query1f0': image('b', '.png')[:-3],
        'gallery2f0': image('c')[:3],
    }

    def read_some_bad(source):
        return [bad.get(k, image(k)) for k in source.frames]

    with pytest.raises(UserError) as error:
        build(raw(read_frames=read_some_bad), tmp_path, progress=False)
    message = str(error.value)
    for part in (
        'train0f0 is truncated',
        'train0f2 is a GIF image',
        'train3f1 is empty',
        'query1f0 is truncated',
        'gallery2f0 is truncated',
        'These frames',
    ):
        assert part in message
    assert not any(tmp_path.rglob('*.array_record*')) and not is_built(data_set_path(tmp_path, 'tiny'))


def test_at_most_twenty_bad_frames_are_listed(tmp_path):
    many = raw(splits={'train': tracklets('train', 100)}, read_frames=lambda s: [b'no image'] * len(s.frames))
    with pytest.raises(UserError, match='At least these frames') as error:
        build(many, tmp_path, progress=False)
    assert str(error.value).count('is not an image') == 20


def test_a_folder_that_is_no_data_set(tmp_path):
    path = data_set_path(tmp_path, 'tiny')
    path.mkdir(parents=True)
    (path / 'tiny-train.array_record-00000-of-00001').write_bytes(b'half')
    with pytest.raises(UserError, match='no whole data set'):
        build(raw(), tmp_path, progress=False)
    assert is_built(build(raw(), tmp_path, progress=False, overwrite=True))
    (path / 'metadata.json').write_text('[]')
    with pytest.raises(UserError, match=r'metadata\.json cannot be read'):
        build(raw(), tmp_path, progress=False)
    (path / 'metadata.json').unlink()
    with pytest.raises(UserError, match=r'metadata\.json cannot be read'):
        build(raw(), tmp_path, progress=False)


def test_no_heavy_library_is_imported(tmp_path):
    script = (
        'import sys; sys.path.insert(0, sys.argv[1])\nimport data_prep.build_tfds\n'
        'import data_prep.datasets.tracklet_folder.scan, data_prep.datasets.synthetic\n'
        'assert not {"tensorflow", "jax", "torch", "flax"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', script, str(ROOT)], check=True, timeout=100)


@pytest.mark.parametrize('name', ['Caps', '1st', 'a-b', '', '../x'])
def test_names_that_cannot_be_read_back(name, tmp_path):
    with pytest.raises(UserError, match='cannot name a data set'):
        data_set_path(tmp_path, name)


def test_headers_agree_with_the_decoder():
    for extension, form in (('.jpg', 'jpeg'), ('.png', 'png')):
        for height, width in ((1, 1), (12, 6), (300, 17)):
            data = cv2.imencode(extension, np.zeros((height, width, 3), np.uint8))[1].tobytes()
            assert read_header(data)[:3] == (form, width, height)


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_every_truncation_is_noticed(extension):
    data = cv2.imencode(extension, np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8))[1].tobytes()
    # Noise of 9x9 pixels has no end marker inside by chance; the law is checked on this image alone.
    assert data[:-1].find(b'\xff\xd9') == -1
    for cut in range(len(data)):
        with pytest.raises(ImageError):
            read_header(data[:cut])


def test_data_set_can_be_moved(tmp_path):
    path = build(raw(), tmp_path / 'here', progress=False)
    shutil.move(path.parent, tmp_path / 'there')
    assert len(open_split(tmp_path / 'there' / '1.0.0', 'train')) == 7
