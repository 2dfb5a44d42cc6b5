"""A user's video: frames as they were written, crops as cut from them, and every kind of damage one sentence."""

import builtins
import json
import weakref

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.video import Crop, CropRules, Dropped, Ended, VideoError, open_video, read_tracks, stream_crops
from pvlad_jax.video.crops import LATE, OUTSIDE, SMALL
from pvlad_jax.video.reader import MissingDecoder, VideoFrame
from tests.helpers.small_videos import HEIGHT, WIDTH, frame, mot_lines, pyav, turned, walking, write_video


def test_frames_come_as_they_were_written_with_numbers_and_times(tmp_path):
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        seen = [(f.number, f.seconds, f.image()) for f in video.frames()]
    assert [n for n, *_ in seen] == list(range(12))
    np.testing.assert_allclose([s for _, s, _ in seen], np.arange(12) / 10, atol=2e-3)
    for number, _, image in seen:
        np.testing.assert_array_equal(image, frame(number))


def test_a_variable_frame_rate_is_followed(tmp_path):
    times = [500, 540, 900, 901, 2000]  # the first frame is the beginning
    with open_video(write_video(tmp_path / 'v.mkv', 5, times)) as video:
        assert [round(f.seconds * 1000) for f in video.frames()] == [t - 500 for t in times]


@pytest.mark.parametrize(
    ('suffix', 'codec'), [('avi', 'libx264'), ('mp4', 'libx264'), ('avi', 'mpeg4'), ('ts', 'mpeg2video')]
)
def test_times_never_go_back(tmp_path, suffix, codec):
    if codec not in pyav().codecs_available:
        pytest.skip(f'this FFmpeg has no {codec}')
    path = write_video(tmp_path / f'v.{suffix}', 24, codec=codec)  # libx264 makes B-frames
    with open_video(path) as video:
        np.testing.assert_allclose([f.seconds for f in video.frames()], np.arange(24) / 10, atol=1e-6)


def test_where_files_were_put_together_the_time_goes_on(tmp_path):
    path = write_video(tmp_path / 'v.ts', codec='mpeg2video')
    path.write_bytes(path.read_bytes() * 2)  # the second half's time stamps begin anew
    with open_video(path) as video:
        np.testing.assert_allclose([f.seconds for f in video.frames()], np.arange(24) / 10, atol=1e-6)


@pytest.mark.parametrize('turns', [0, 1, 2, 3])
def test_the_rotation_of_the_file_is_applied(tmp_path, turns):
    path = write_video(tmp_path / 'v.mp4', 2, codec='mpeg4')
    with open_video(path) as video:
        upright = next(video.frames()).image()
    with open_video(turned(path, turns)) as video:
        np.testing.assert_array_equal(next(video.frames()).image(), np.rot90(upright, -turns))


@pytest.mark.parametrize(
    ('suffix', 'codec', 'share'), [('mkv', 'ffv1', 0.5), ('avi', 'mpeg4', 0.8), ('avi', 'ffv1', 0.5)]
)
def test_a_truncated_video_gives_its_frames_and_then_one_sentence(tmp_path, suffix, codec, share):
    path = write_video(tmp_path / f'v.{suffix}', 40, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    seen = []
    with (
        pytest.raises(VideoError, match=r'truncated or damaged: it ends after \d+ frames') as error,
        open_video(path) as video,
    ):
        seen.extend(f.number for f in video.frames())
    assert seen == list(range(len(seen))) and 0 < len(seen) < 40 and '\n' not in str(error.value)


def test_a_sound_track_may_be_longer_than_the_pictures(tmp_path):
    av = pyav()
    silent = write_video(tmp_path / 'silent.mkv')
    with av.open(str(silent)) as source, av.open(str(tmp_path / 'v.mkv'), 'w') as container:
        pictures, sound = source.streams.video[0], container.add_stream('pcm_s16le', rate=8000)
        copied = container.add_stream_from_template(pictures)
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copied
                container.mux(packet)
        for second in range(9):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format='s16', layout='mono')
            samples.sample_rate, samples.pts = 8000, 8000 * second
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
    with open_video(tmp_path / 'v.mkv') as video:
        assert len(list(video.frames())) == 12


def test_frames_that_the_decoder_filled_in_are_numbered(tmp_path, monkeypatch):
    class Damaged(VideoFrame):
        def __init__(self, number, *rest):
            super().__init__(number, *rest)
            self.damaged = number in (3, 5)

    monkeypatch.setattr('pvlad_jax.video.reader.VideoFrame', Damaged)
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        assert len(list(video.frames())) == 12 and video.damaged == [3, 5]


def test_what_is_no_video_is_one_sentence(tmp_path):
    pyav()
    path = write_video(tmp_path / 'v.mp4', 3, codec='mpeg4')
    data = path.read_bytes()
    for content, says in (
        (b'', 'cannot be read as a video'),
        (b'hello', 'cannot be read as a video'),
        (data[: len(data) // 3], 'cannot be read as a video'),
    ):
        path.write_bytes(content)
        with pytest.raises(VideoError, match=says) as error, open_video(path):
            pass
        assert '\n' not in str(error.value)
    (tmp_path / 'v.txt').write_text('1,1,1,1,5,5\n' * 50)  # which FFmpeg would draw
    with pytest.raises(VideoError, match='it is a text'), open_video(tmp_path / 'v.txt'):
        pass
    with pytest.raises(VideoError, match='no video file'), open_video(tmp_path / 'none.mp4'):
        pass


def test_gigantic_frames_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'v.mkv', 1)
    monkeypatch.setattr('pvlad_jax.video.reader.MAX_PIXELS', HEIGHT * WIDTH - 1)
    with pytest.raises(VideoError, match='64 x 48 pixels'), open_video(path):
        pass


def test_without_pyav_the_command_that_installs_it_is_given(tmp_path, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, '__import__', lambda name, *rest: real('no_such_module' if name == 'av' else name, *rest)
    )
    with pytest.raises(MissingDecoder, match='pip install'), open_video(tmp_path / 'v.mkv'):
        pass


def tracks_of(tmp_path, tracks, **options):
    path = tmp_path / 'tracks.txt'
    path.write_text(mot_lines(tracks))
    return read_tracks(path, **options)


def test_streamed_crops_are_those_cut_from_decoded_frames(tmp_path):
    tracks = tracks_of(tmp_path, {'7': walking(0, 11), '1000003': walking(3, 8, top=30)})
    rules = CropRules(margin=0.25)
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        events = list(stream_crops(video.frames(), tracks, rules))
    crops = [e for e in events if isinstance(e, Crop)]
    assert len(crops) == len(tracks.frame) == 18
    for crop, number, track, box in zip(crops, tracks.frame, tracks.track, tracks.box):
        assert (crop.frame, crop.track) == (number, track)
        x, y, w, h = box
        left, right = max(0, round(x - w / 4)), min(WIDTH, round(x + w + w / 4))
        top, bottom = max(0, round(y - h / 4)), min(HEIGHT, round(y + h + h / 4))
        np.testing.assert_array_equal(crop.image, frame(int(number))[top:bottom, left:right])
    ends = {e.track: events.index(e) for e in events if isinstance(e, Ended)}
    for track, at in ends.items():  # as soon as it is known, and once
        assert at == 1 + max(i for i, e in enumerate(events) if isinstance(e, Crop) and e.track == track)
    assert len(ends) == 2


def test_boxes_outside_the_frame_or_the_video_are_dropped_with_the_reason(tmp_path):
    tracks = tracks_of(
        tmp_path,
        {
            '1': [
                (0, 70.0, 5.0, 10.0, 20.0),
                (1, -5.0, -5.0, 15.0, 25.0),
                (2, 60.0, 10.0, 12.0, 24.0),
                (3, 1e300, 5.0, 1e300, 20.0),
            ],
            '2': [(900, 1.0, 1.0, 20.0, 20.0)],
        },
    )
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        events = list(stream_crops(video.frames(), tracks, CropRules(min_height=16, min_width=8)))
    assert [e.image.shape for e in events if isinstance(e, Crop)] == [(20, 10, 3)]  # clipped at the border
    assert [(e.frame, e.reason) for e in events if isinstance(e, Dropped)] == [
        (0, OUTSIDE),
        (2, SMALL),
        (3, OUTSIDE),
        (900, LATE),
    ]
    assert [e.track for e in events if isinstance(e, Ended)] == [0, 1]


def test_the_least_size_itself_is_kept(tmp_path):
    boxes = [(0, 5.0, 5.0, 8.0, 16.0), (1, 5.0, 5.0, 7.0, 16.0), (2, 5.0, 5.0, 8.0, 15.0)]
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        events = list(stream_crops(video.frames(), tracks_of(tmp_path, {'1': boxes}), CropRules()))
    assert [type(e) for e in events] == [Crop, Dropped, Dropped, Ended]


def test_a_broken_end_ends_every_track_before_it_is_raised(tmp_path):
    path = write_video(tmp_path / 'v.mkv', 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    tracks, events = tracks_of(tmp_path, {'1': walking(0, 39, 0.5), '2': walking(30, 35)}), []
    with pytest.raises(VideoError), open_video(path) as video:
        events.extend(stream_crops(video.frames(), tracks, CropRules()))
    # An exception in list.extend loses nothing that was yielded before.
    assert sorted(e.track for e in events if isinstance(e, Ended)) == [0, 1]
    assert all(e.reason == LATE for e in events if isinstance(e, Dropped))


def test_a_track_without_a_box_ends_too(tmp_path):
    content = {
        'images': [{'id': 1, 'frame_id': 0}],
        'tracks': [{'id': 5}, {'id': 7}],
        'annotations': [{'image_id': 1, 'track_id': 7, 'bbox': [1, 1, 20, 30]}],
    }
    (tmp_path / 'tracks.json').write_text(json.dumps(content))
    tracks = read_tracks(tmp_path / 'tracks.json')
    with open_video(write_video(tmp_path / 'v.mkv')) as video:
        events = list(stream_crops(video.frames(), tracks, CropRules()))
    assert [tracks.names[event.track] for event in events if isinstance(event, Ended)] == ['5', '7']


def test_one_frame_is_in_memory_at_a_time(tmp_path):
    alive, most = weakref.WeakSet(), 0

    def watched(frames):
        for f in frames:
            alive.add(f)
            yield f

    tracks = tracks_of(tmp_path, {str(i): walking(0, 29, 0.01) for i in range(3)})
    with open_video(write_video(tmp_path / 'v.mkv', 30)) as video:
        for event in stream_crops(watched(video.frames()), tracks, CropRules()):
            most = max(most, len(alive))
            assert isinstance(event, Ended) or event.image.base is None  # a copy, which does not hold the frame
    assert 1 <= most <= 2


def test_a_box_outside_the_frame_is_not_seen_by_its_margin():
    rules = CropRules(margin=0.5)
    for box in ((-40, 10, 40, 20), (64, 10, 40, 20), (10, -20, 40, 20), (10, 48.0, 40, 20)):
        top, bottom, left, right = rules.rectangle(box, HEIGHT, WIDTH)
        assert bottom <= top or right <= left, box
    assert rules.rectangle((-39, 10, 40, 20), HEIGHT, WIDTH) == (0, 40, 0, 21)


@pytest.mark.parametrize('margin', [-0.1, 3.0, float('nan')])
def test_a_margin_is_a_share(margin):
    with pytest.raises(UserError, match='margin'):
        CropRules(margin=margin)
