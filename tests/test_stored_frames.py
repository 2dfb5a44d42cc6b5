"""What a build makes of frames of any format: bytes that are kept, pixels that never change, and what it reports."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from data_prep.builder import beam as beam_shards
from data_prep.builder.bit_depth import with_bit_depth
from data_prep.builder.build import build
from data_prep.builder.frame_reader import checked_reader
from data_prep.builder.stored_frame import FrameCounts, stored_frame
from data_prep.builder.tfds_builder import Shard, record_features
from data_prep.builder.verify import verify
from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.images import ImageError, decode_image
from tests.helpers.pictures import IMAGE, RGB, SAVE, deep, exif, saved

DEEP = RGB.astype(np.uint16) << 4  # 12 bits in use


def hole(data: bytes) -> bytes:
    """Header and end marker are whole."""
    return data[:-90] + bytes(60) + data[-30:]


def raw(frames: dict[str, bytes], **changes) -> RawDataset:
    """One tracklet in each split, of the same frames."""
    keys, numbers = tuple(frames), tuple(range(len(frames)))
    splits = {s: [TrackletSource(f'{s}/1', 'p', 1, 1, numbers, keys)] for s in ('train', 'query', 'gallery')}
    return replace(
        RawDataset('tiny', splits, lambda source: [frames[k] for k in source.frames], 'jpeg', 'roles'), **changes
    )


def built(path) -> tuple[dict, list[bytes]]:
    """The metadata and the first record's frames."""
    dataset = TrackletDataset(path)
    return dataset.metadata, list(dataset.read('train', 0).frames)


def test_formats_may_be_mixed_and_no_pixel_changes(tmp_path):
    frames = {form: saved(form, IMAGE.rotate(90 * i)) for i, form in enumerate(SAVE)}
    frames |= {
        'crlf': saved('jpeg') + b'\r\n',
        'turned': saved('jpeg', exif=exif(6)),
        'glass': saved('png', IMAGE.convert('LA')),
    }
    counts = FrameCounts()
    source = raw(frames)
    path = build(source, tmp_path, progress=False, counts=counts)
    metadata, kept = built(path)
    assert metadata['encoding'] == 'mixed' and metadata['frames_decoded'] is True
    for name, frame in zip(frames, kept):
        np.testing.assert_array_equal(decode_image(frame), decode_image(frames[name]), name)
    assert kept[:2] == [frames['jpeg'], frames['png']] and kept[5] == frames['crlf'][:-2]
    assert kept[6:] == [frames['turned'], frames['glass']]
    assert counts.notes() == [
        '3 frames: BMP stored as PNG, without loss.',
        '3 frames: TIFF stored as PNG, without loss.',
        '3 frames: WebP stored as PNG, without loss.',
        '3 frames: bytes behind the end of the JPEG removed.',
    ]
    np.testing.assert_array_equal(decode_clips(kept, np.array([2]), 20, 12, 'x')[0], RGB[::-1, ::-1])
    assert verify(path, Console(quiet=True), source, progress=False) == 3 * len(frames)
    assert build(source, tmp_path, progress=False) == path  # the same source again is the same data set
    other = dict(frames, bmp=saved('bmp', IMAGE.rotate(3)))
    with pytest.raises(UserError, match=r'frame 2 is not that of the source \(bmp\)'):
        verify(path, Console(quiet=True), raw(other), progress=False)


def test_the_metadata_say_what_is_there_whatever_the_names_say(tmp_path):
    for frames, encoding in (({'a': saved('webp')}, 'png'), ({'a': saved('jpeg')}, 'jpeg')):
        metadata, _ = built(build(raw(frames, name=encoding, encoding='mixed'), tmp_path, progress=False))
        assert metadata['encoding'] == encoding


def test_a_tracklet_folder_of_many_formats(tmp_path):
    for role, person in (('train', '1'), ('train', '2'), ('query', '3'), ('gallery', '3')):
        folder = tmp_path / 'source' / role / person / ('c1' if role == 'query' else 'c2') / 't'
        folder.mkdir(parents=True)
        for i, (form, name) in enumerate(
            (('png', '1.jpg'), ('jpeg', '2.png'), ('tiff', '3.tif'), ('webp', '4.WEBP'), ('jpeg', '5.JPEG'))
        ):
            (folder / name).write_bytes(saved(form, IMAGE.rotate(i)))
    source = scan_tracklet_folder(tmp_path / 'source')
    metadata, kept = built(build(source, tmp_path / 'data', progress=False))
    assert metadata['encoding'] == 'mixed' and [frame[:2] for frame in kept] == [
        b'\x89P',
        b'\xff\xd8',
        b'\x89P',
        b'\x89P',
        b'\xff\xd8',
    ]


def test_damage_inside_a_frame_is_found_at_the_build(tmp_path):
    frames = {'good': saved('jpeg'), 'hole': hole(saved('jpeg'))}
    with pytest.raises(UserError, match=r'  hole is damaged \(Corrupt JPEG data'):
        build(raw(frames), tmp_path, progress=False)
    path = build(raw(frames), tmp_path, progress=False, decode=False)
    metadata, kept = built(path)
    assert kept[1] == frames['hole'] and metadata['frames_decoded'] is False
    with pytest.raises(
        CorruptRecord, match=r"Tracklet 'train/1', frame 1 \(counted from 0\) cannot be decoded: it is damaged"
    ):
        decode_clips(kept, np.array([0, 1]), 20, 12, 'train/1')


def test_sixteen_bits(tmp_path):
    source = raw({'a': deep('png', DEEP), 'b': saved('png'), 'c': deep('tiff', DEEP // 2)})
    with pytest.raises(UserError, match=r'a is a PNG of 16 bits a sample; say with --bit_depth how many'):
        build(source, tmp_path, progress=False)
    found = with_bit_depth(source)
    assert found.bit_depth == 12 and f'{DEEP.max():,}, so 12 bits are in use' in found.notes[-1]
    counts = FrameCounts()
    path = build(found, tmp_path, progress=False, counts=counts)
    metadata, kept = built(path)
    assert metadata['bit_depth'] == 12 and metadata['encoding'] == 'png'
    for frame, pixels in zip(kept, (RGB, RGB, RGB // 2)):
        np.testing.assert_array_equal(decode_image(frame), pixels)
    assert counts.notes()[0] == '3 frames: PNG of 16 bits (12 in use) stored as PNG of 8 bits.'
    with pytest.raises(UserError, match='with --bit_depth=12, and the source is read with --bit_depth=16 now'):
        verify(path, Console(quiet=True), with_bit_depth(source, 16), progress=False)
    with pytest.raises(UserError, match=r'a has values up to .*more than the 10 bits'):
        build(with_bit_depth(source, 10), tmp_path, overwrite=True, progress=False)
    with pytest.raises(UserError, match='use 8 to 16'):
        with_bit_depth(source, 7)
    plain = raw({'a': saved('png')})
    assert with_bit_depth(plain) is plain


def test_size_is_that_of_the_picture_as_it_is_shown():
    turned = saved('jpeg', exif=exif(6))
    assert stored_frame(turned, size=(20, 12)).data == turned
    with pytest.raises(ImageError, match='is 20x12 pixels, while the data set has 12x20'):
        stored_frame(turned, size=(12, 20))


def test_grey_stays_small_and_jpeg_is_never_encoded_twice():
    grey = stored_frame(saved('bmp', IMAGE.convert('L')))
    assert grey.data[25] == 0  # PNG's colour type: grey
    np.testing.assert_array_equal(decode_image(grey.data), decode_image(saved('png', IMAGE.convert('L'))))
    assert stored_frame(saved('jpeg'), jpeg_quality=50).data == saved('jpeg')
    assert stored_frame(saved('tiff'), jpeg_quality=95)[1:] == ('jpeg', 'TIFF stored as JPEG of quality 95')


def test_beam_workers_report_what_became_of_their_frames(tmp_path):
    """Without Beam: what a worker leaves next to its shard, and what is made of it."""
    source = raw({'a': saved('jpeg') + b'x', 'b': saved('bmp')})
    shards = [
        Shard(str(tmp_path / f'{split}.array_record'), tuple(sources)) for split, sources in source.splits.items()
    ]
    counts = FrameCounts()
    for shard in shards:
        beam_shards._write(checked_reader(source), 'mixed', shard)
    beam_shards._take_reports(shards, counts)
    assert counts.encoding == 'mixed'
    assert counts.changes == {'BMP stored as PNG, without loss': 3, 'bytes behind the end of the JPEG removed': 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'gallery.array_record',
        'query.array_record',
        'train.array_record',
    ]
    bad = raw({'a': b'no image'})
    for shard in shards:
        beam_shards._write(checked_reader(bad), 'jpeg', replace(shard, sources=tuple(bad.splits['train'])))
    with pytest.raises(UserError, match='a is not an image'):
        beam_shards._take_reports(shards, counts)


def test_tfds_takes_any_encoding():
    features = json.dumps(record_features('mixed').to_json())
    assert '"encodingFormat": "' not in features and '"jpeg"' in json.dumps(record_features('jpeg').to_json())
