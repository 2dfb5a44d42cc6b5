"""Frames in the network's size: an axis that shrinks is averaged, whatever the other one does."""

import cv2
import numpy as np
import pytest

from pvlad_jax.data.frame_decoding import decode, resized
from pvlad_jax.report.part_masks import part_mask_picture
from pvlad_jax.report.ranked_strips import _strip
from pvlad_jax.report.tracklet_pictures import TrackletPictures

HEIGHT, WIDTH = 32, 16
STRIPES = np.tile(np.array([0, 255], np.uint8), 200)[:, None]  # 400 of them, which are grey from afar


def stripes(height: int, width: int, along: int) -> np.ndarray:
    """Upright ones (along=0: every row holds them) or level ones."""
    line = STRIPES[: width if along == 0 else height]
    frame = np.broadcast_to(line[None] if along == 0 else line[:, None], (height, width, 3))
    return np.ascontiguousarray(frame)


@pytest.mark.parametrize('height', [HEIGHT // 2, HEIGHT - 1, HEIGHT, HEIGHT + 1, 5 * HEIGHT])
@pytest.mark.parametrize('factor', [4, 7, 10])
def test_an_axis_that_shrinks_is_averaged_whatever_the_other_one_does(height, factor):
    picture = stripes(height, factor * WIDTH, 0)
    exact = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)[0]  # rows are alike
    assert np.abs(exact.astype(int) - 128).max() <= 255 / factor / 2 + 1
    np.testing.assert_array_equal(resized(picture, HEIGHT, WIDTH), np.broadcast_to(exact, (HEIGHT, WIDTH, 3)))
    lying = picture.transpose(1, 0, 2).copy()
    found = resized(lying, WIDTH, HEIGHT)
    np.testing.assert_array_equal(found, np.broadcast_to(exact[:, None], (WIDTH, HEIGHT, 3)))


def test_the_axis_that_grows_is_interpolated():
    ramp = np.repeat(np.linspace(0, 255, 10, dtype=np.uint8)[:, None, None], 60, 1).repeat(3, 2)
    expected = cv2.resize(ramp[:, :WIDTH].copy(), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resized(ramp, HEIGHT, WIDTH), expected)


@pytest.mark.parametrize(
    ('height', 'width', 'how'),
    [
        (64, 48, cv2.INTER_AREA),
        (33, 17, cv2.INTER_AREA),
        (50, 16, cv2.INTER_AREA),
        (20, 10, cv2.INTER_LINEAR),
        (31, 15, cv2.INTER_LINEAR),
        (20, 16, cv2.INTER_LINEAR),
        (32, 10, cv2.INTER_LINEAR),
    ],
)
def test_both_axes_alike_take_one_step(height, width, how):
    """The pixels that former versions gave."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = resized(frame, HEIGHT, WIDTH)
    np.testing.assert_array_equal(found, cv2.resize(frame, (WIDTH, HEIGHT), interpolation=how))
    decoded = np.zeros_like(found)
    decode(cv2.imencode('.png', frame[..., ::-1])[1].tobytes(), decoded)
    np.testing.assert_array_equal(decoded, found)


def test_a_frame_of_the_size_stays_as_it_is():
    frame = stripes(HEIGHT, WIDTH, 0)
    assert resized(frame, HEIGHT, WIDTH) is frame


def test_pictures_of_reports_too(tmp_path):
    wide = stripes(40, 384, 0)  # shown in 96 x 48
    grey = np.full((96, 48, 3), 128, np.uint8)
    np.testing.assert_array_equal(_strip([wide], 'frame', 1, 96, 48), grey)
    picture = part_mask_picture([wide[None]], [np.zeros((1, 2, 2, 1), np.float32)])
    np.testing.assert_array_equal(picture[:96, 52:100], grey)
    path = TrackletPictures(tmp_path, lambda name, count: [wide]).path('a')
    shown = cv2.imread(str(tmp_path / path))[:, :48]
    assert np.abs(shown.astype(int) - 128).max() <= 2
