"""The labels that `embed` is given: where they go, and those that cannot be stored as they are."""
# ruff: noqa: F401, F811  fixtures of another file

import pytest

from pvlad_jax.evaluation import read_embeddings
from tests.test_embed_command import embed, table, video, workdir


@pytest.mark.parametrize('label', ['--camera=a\udcff', '--source=a\udcff'])
def test_a_label_that_cannot_be_stored_is_refused_before_any_work(video, workdir, capsys, label):
    assert embed(workdir, video, label) == 2
    said = capsys.readouterr()
    assert 'bytes that are not UTF-8' in said.err and not said.out and not (video / 'out.parquet').exists()


def test_an_input_whose_name_is_not_utf_8_names_its_source_escaped(video, workdir):
    (video / 'walk.mkv').rename(video / 'w\udcffalk.mkv')
    assert embed(workdir, video, input='w\udcffalk.mkv') == 0
    rows, _ = table(video / 'out.parquet')
    assert {row['source'] for row in rows} == {r'w\xffalk.mkv'} and rows[0]['tracklet'] == r'w\xffalk_4'


def test_npz_is_read_by_the_evaluation(video, workdir):
    assert embed(workdir, video, '--camera=3', output='out.npz') == 0
    found = read_embeddings(video / 'out.npz')
    assert len(found) == 4 and set(found.camera_id) == {3} and set(found.person_id) == {0}
