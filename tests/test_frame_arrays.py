"""Frames handed in as arrays are taken as they are, or refused with how to convert them."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from PIL import Image

from pvlad_jax.core.errors import UserError
from pvlad_jax.embedding.video import embed_video
from pvlad_jax.images.frame_arrays import checked_frame, checked_frames
from pvlad_jax.models.tracklet_network import TrackletNetwork

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
FLOATS = PICTURE / 255


@pytest.mark.parametrize(
    'frame',
    [
        PICTURE,
        jnp.asarray(PICTURE),
        Image.fromarray(PICTURE),
        np.asfortranarray(PICTURE),
        np.repeat(PICTURE, 2, axis=0)[::2],
        memoryview(PICTURE),
    ],
    ids=['numpy', 'jax', 'pillow', 'fortran', 'strided', 'buffer'],
)
def test_uint8_pictures_of_any_make_are_taken_as_they_are(frame):
    found = checked_frame(frame)
    np.testing.assert_array_equal(found, PICTURE)
    assert type(found) is np.ndarray and found.flags.c_contiguous


def test_tensors_are_read_where_they_can_be():
    torch = pytest.importorskip('torch')
    np.testing.assert_array_equal(checked_frame(torch.from_numpy(PICTURE)), PICTURE)
    with pytest.raises(UserError, match=r'torch|numpy'):
        checked_frame(torch.zeros(6, 4, 3, requires_grad=True))


@pytest.mark.parametrize(
    ('frame', 'says', 'advice'),
    [
        (FLOATS.astype(np.float32), 'float32, not uint8', lambda f: (f * 255).round().astype(np.uint8)),
        (
            FLOATS.astype(np.float16),
            'float16, not uint8',
            lambda f: (f.astype(np.float32) * 255).round().astype(np.uint8),
        ),
        (PICTURE.astype(np.float64), 'if white is 255', lambda f: f.round().astype(np.uint8)),
        (PICTURE.astype(np.int64), 'if white is 255', lambda f: f.astype(np.uint8)),
        (PICTURE.astype(np.uint16) * 257, 'if white is 65535', lambda f: (f / 257).round().astype(np.uint8)),
        (PICTURE.transpose(2, 0, 1), 'channels first', lambda f: f.transpose(1, 2, 0)),
        (np.concatenate([PICTURE, PICTURE[..., :1]], axis=2), 'With alpha', lambda f: f[..., :3]),
    ],
)
def test_what_the_message_advises_gives_the_picture(frame, says, advice):
    with pytest.raises(UserError, match=says):
        checked_frame(frame)
    np.testing.assert_array_equal(checked_frame(advice(frame)), PICTURE)


@pytest.mark.parametrize(
    ('frame', 'says'),
    [
        (FLOATS - 0.5, 'undo the normalisation'),
        (FLOATS * np.nan, 'NaN or Inf'),
        (FLOATS * 1e6, 'scale them to 0..255'),
        (PICTURE > 9, 'A mask is no picture'),
        (PICTURE.astype(object), 'Arrays of objects'),
        (PICTURE.astype(complex), 'complex128'),
        (PICTURE[..., 0], 'A grey picture'),
        (PICTURE[..., :1], 'A grey picture'),
        (PICTURE[None], 'one video at a time'),
        (PICTURE[:0], 'has the shape'),
        (PICTURE[0], 'single image'),
        (np.uint8(3), 'has the shape'),
        ('frame.jpg', 'not uint8'),
        ([[1, 2], [3]], 'cannot be read as an array'),
        (None, 'not uint8'),
        (PICTURE.transpose(0, 2, 1), 'come last'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_everything_else_is_refused_in_a_sentence(frame, says):
    with pytest.raises(UserError, match=says) as refused:
        checked_frame(frame, 'frame 7')
    assert str(refused.value).startswith('frame 7') and 'uint8' in str(refused.value) and '\n' not in str(refused.value)


@pytest.mark.parametrize('mode', ['P', 'L', 'YCbCr', 'RGBA'])
def test_pictures_of_another_mode_are_refused_with_the_conversion(mode):
    picture = Image.fromarray(PICTURE).convert(mode)
    with pytest.raises(UserError, match=rf"mode {mode}, not RGB.*convert\('RGB'\)"):
        checked_frame(picture)
    assert checked_frame(picture.convert('RGB')).shape == PICTURE.shape


@given(
    arrays(scalar_dtypes(), array_shapes(max_dims=4, max_side=4))
    | st.lists(st.integers() | st.lists(st.integers(), max_size=2), max_size=3)
)
def test_any_array_is_taken_unchanged_or_refused(frame):
    try:
        found = checked_frame(frame)
    except UserError:
        return
    assert found.dtype == np.uint8 and found.shape[2:] == (3,) and found.ndim == 3
    np.testing.assert_array_equal(found, frame)


@pytest.mark.parametrize(
    ('video', 'says'),
    [
        (PICTURE, 'single image'),
        ([PICTURE, PICTURE[:5]], r'frame 1 .* is 5 x 5 .* the first is 6 x 5'),
        ('video.mp4', 'Decode it first'),
        (b'\x00', 'Decode it first'),
        (7, 'not int'),
        (None, 'not NoneType'),
        (np.uint8(3), 'single number'),
        ([PICTURE, FLOATS], r'frame 1 .*float64'),
        (np.stack([PICTURE] * 2).transpose(0, 3, 1, 2), r'frame 0 .*channels first'),
    ],
    ids=['image', 'sizes', 'path', 'bytes', 'number', 'none', 'scalar', 'types', 'channels'],
)
def test_videos_are_checked_frame_by_frame(video, says):
    with pytest.raises(UserError, match=says):
        list(checked_frames(video))


def test_frames_are_read_only_as_they_are_asked_for():
    def endless():
        while True:
            yield PICTURE

    frames = checked_frames(endless())
    assert next(frames) is PICTURE and next(frames) is PICTURE


@pytest.mark.parametrize('frames', [[], iter([]), np.zeros((0, 6, 4, 3), np.uint8)], ids=['list', 'iterator', 'array'])
def test_a_video_without_frames_has_no_embedding(frames):
    with pytest.raises(UserError, match='without frames'):
        embed_video(TrackletNetwork.__new__(TrackletNetwork), {}, frames, 4)


@pytest.mark.parametrize('sizes', [{'clip_frames': 0}, {'clip_frames': 4, 'clips_per_step': 0}], ids=str)
def test_sizes_of_a_step_are_checked(sizes):
    with pytest.raises(UserError, match='must be a whole number from 1'):
        embed_video(TrackletNetwork.__new__(TrackletNetwork), {}, [PICTURE], **sizes)
