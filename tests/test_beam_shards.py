"""The same records whether one machine or a Beam pipeline writes them."""

import pytest

pytest.importorskip('apache_beam', reason='needs requirements-beam.txt')

from data_prep.builder import tfds_builder
from data_prep.builder.beam import beam_writer
from data_prep.builder.build import build
from pvlad_jax.core.errors import UserError
from tests.test_build_tfds import content, image, raw


def read_but_two(source):
    """Two frames of different splits are no images."""
    bad = {'train3f1', 'query1f0'}
    return [b'no image' if key in bad else image(key) for key in source.frames]


@pytest.mark.parametrize(
    'options', ['', '--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_threading']
)
def test_same_data_set(tmp_path, monkeypatch, options):
    monkeypatch.setattr(tfds_builder, 'FRAMES_PER_SHARD', 6)  # several shards
    plain = build(raw(), tmp_path / 'plain', progress=False)
    beamed = build(raw(), tmp_path / 'beam', progress=False, write_shards=beam_writer(raw(), options))
    a, b = content(plain), content(beamed)
    assert len(a) > 6 and a == b


def test_bad_frames_are_named(tmp_path):
    bad = raw(read_frames=read_but_two)
    with pytest.raises(UserError, match=r'train3f1 is not an image'):
        build(bad, tmp_path, progress=False, write_shards=beam_writer(bad))
    assert list(tmp_path.rglob('*')) == []


def test_unknown_runner(tmp_path):
    with pytest.raises(UserError, match='--beam_options'):
        build(raw(), tmp_path, progress=False, write_shards=beam_writer(raw(), '--runner=NoSuchRunner'))
    assert list(tmp_path.rglob('*')) == []
