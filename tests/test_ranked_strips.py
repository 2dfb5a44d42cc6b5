"""The picture of rankings shows who is ranked, in order, without those that the protocol ignores."""

import numpy as np
import pytest
from PIL import Image

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings
from pvlad_jax.evaluation.distances import MatrixDistance
from pvlad_jax.evaluation.protocols import PROTOCOLS
from pvlad_jax.evaluation.ranked_lists import top_ranked
from pvlad_jax.report.ranked_strips import (
    _BLUE,
    _BORDER,
    _GAP,
    _GREEN,
    _RED,
    draw_strips,
    ranked_strips,
    spread_queries,
    write_strips,
)


def table(people, cameras, prefix):
    return Embeddings(
        embedding=np.eye(len(people), 4, dtype=np.float32) + 0.1,
        person_id=np.array(people),
        camera_id=np.array(cameras),
        tracklet=np.array([f'{prefix}{i}' for i in range(len(people))]),
    )


QUERY = table([1, 2], [0, 1], 'q')
GALLERY = table([2, 1, -1, 1, 0, 1], [1, 2, 1, 0, 4, 3], 'g')
# For query 0, g2 (junk) and g3 (same camera) are ignored; for query 1, g0 and g2.
MATRIX = np.array([[2, 3, 0, 1, 5, 4], [0, 1, 2, 3, 4, 4]], np.float32)


def test_ignored_tracklets_are_left_out_and_ties_are_as_in_the_metrics():
    ranked = top_ranked(MatrixDistance(MATRIX), QUERY, GALLERY, PROTOCOLS['gallery_only'], np.array([0, 1]), top=5)
    assert ranked.gallery.tolist() == [[0, 1, 5, 4, -1], [1, 3, 4, 5, -1]]
    assert ranked.good.tolist() == [[False, True, True, False, False], [False] * 5]
    tied = top_ranked(
        MatrixDistance(np.zeros((2, 6), np.float32)), QUERY, GALLERY, PROTOCOLS['gallery_only'], np.array([0]), top=3
    )
    assert tied.gallery.tolist() == [[0, 4, 1]]


def colour_of(name):
    return (10 * int(name[1:]) + 5, 0 if name[0] == 'q' else 255, 128)


def frames(name):
    return [np.full((32, 16, 3), colour_of(name), np.uint8)] * (1 if name == 'g1' else 5)


def test_borders_and_frames_stand_where_they_belong():
    ranked = top_ranked(MatrixDistance(MATRIX), QUERY, GALLERY, PROTOCOLS['gallery_only'], np.array([0]), top=5)
    n_frames, height, width = 2, 40, 20
    picture = draw_strips(ranked, QUERY, GALLERY, frames, n_frames, height, width)
    cell = n_frames * width + 2 * _BORDER
    for place, (name, border) in enumerate([('q0', _BLUE), ('g0', _RED), ('g1', _GREEN), ('g5', _GREEN), ('g4', _RED)]):
        x = _GAP + place * (cell + _GAP) + (_GAP if place else 0)
        assert tuple(picture[_GAP + 1, x + 1]) == border
        assert tuple(picture[_GAP + _BORDER + 5, x + _BORDER + 5]) == colour_of(name)
        second = tuple(picture[_GAP + _BORDER + 5, x + _BORDER + width + 5])
        # A tracklet of one frame is not shown twice.
        assert second == ((200, 200, 200) if name == 'g1' else colour_of(name))
    assert (picture[: _GAP + height, _GAP + 5 * (cell + _GAP) + _GAP :] == 255).all()  # the gallery has ended


def test_a_picture_from_embeddings(tmp_path):
    picture = ranked_strips(QUERY, GALLERY, frames, 'gallery_only', n_queries=1, top=2)
    write_strips(tmp_path / 'new' / 'strips.png', picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'new' / 'strips.png')), picture)
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'):
        write_strips(tmp_path / 'file' / 'strips.png', picture)


def test_queries_are_spread_and_never_repeated():
    assert spread_queries(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_queries(3, 8).tolist() == [0, 1, 2]
