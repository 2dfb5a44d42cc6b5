"""The error analysis counts what the protocol counts."""

import csv
import dataclasses

import numpy as np
import pytest

from benchmarks.error_analysis import first_matches, report, write
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.protocols import PROTOCOLS


def table(rng, rows: int, first: int, cameras=(1, 4)) -> Embeddings:
    person = rng.integers(-1, 6, rows)
    return Embeddings(
        embedding=rng.standard_normal((rows, 3)).astype(np.float32),
        person_id=person,
        camera_id=rng.integers(*cameras, rows),
        tracklet=np.array([f't{first + i}' for i in range(rows)]),
    )


def queries_and_gallery(seed: int, cameras=(1, 4)) -> tuple[Embeddings, Embeddings]:
    rng = np.random.default_rng(seed)
    query, gallery = table(rng, 20, 0, cameras), table(rng, 60, 20, cameras)
    return query.select(query.person_id > 0), gallery


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('seed', range(3))
def test_ranks_of_first_matches_are_those_of_the_score(seed, protocol):
    query, gallery = queries_and_gallery(seed)
    ranks, failures = first_matches(query, gallery, protocol)
    result = score(query, gallery, protocol)
    assert len(ranks) == result.n_query_valid
    np.testing.assert_allclose([np.mean(ranks <= k) for k in range(1, 51)], result.cmc)
    assert failures and [f.rank for f in failures] == sorted((rank for rank in ranks if rank > 1), reverse=True)
    people, vectors = {}, {}
    for rows in (gallery, query):
        people |= dict(zip(rows.tracklet, rows.person_id))
        vectors |= dict(zip(rows.tracklet, rows.embedding / np.linalg.norm(rows.embedding, axis=1, keepdims=True)))
    for f in failures:
        assert f.nearest_person != f.person == people[f.match] and f.nearest_distance <= f.match_distance
        for name, distance in ((f.match, f.match_distance), (f.nearest, f.nearest_distance)):
            assert distance == pytest.approx(1 - vectors[f.query] @ vectors[name], abs=1e-5)


@pytest.mark.parametrize('unknown_cameras', ['other', 'ignore'])
def test_unknown_cameras_count_as_the_protocol_says(unknown_cameras):
    query, gallery = queries_and_gallery(0, cameras=(-1, 3))
    ranks, _ = first_matches(query, gallery, 'mars_official', unknown_cameras)
    result = score(query, gallery, 'mars_official', unknown_cameras=unknown_cameras)
    assert len(ranks) == result.n_query_valid and np.mean(ranks == 1) == pytest.approx(result.rank_1)
    with pytest.raises(UserError, match='compares cameras'):
        first_matches(query, gallery)


def test_an_unknown_camera_is_said_in_words_and_an_empty_cell(tmp_path, capsys):
    query, gallery = queries_and_gallery(0, cameras=(-1, 3))
    ranks, failures = first_matches(query, gallery, 'mars_official', 'other')
    report(ranks, failures, query)
    assert 'unknown camera: ' in capsys.readouterr().out
    write(str(tmp_path / 'failures.csv'), failures)
    rows = list(csv.DictReader((tmp_path / 'failures.csv').open(encoding='utf-8')))
    assert [row['camera'] for row in rows] == ['' if f.camera == -1 else str(f.camera) for f in failures]
    assert {row['nearest_camera'] for row in rows} > {''} and '-1' not in {row['nearest_camera'] for row in rows}


def test_files_that_cannot_be_compared_are_refused():
    query, gallery = queries_and_gallery(0)
    strangers = dataclasses.replace(gallery, person_id=np.where(gallery.person_id > 0, 100, gallery.person_id))
    with pytest.raises(UserError, match=r'none of the .* queries'):
        first_matches(dataclasses.replace(query, person_id=np.arange(len(query)) + 10), strangers)
    with pytest.raises(UserError, match='same network'):
        first_matches(query, dataclasses.replace(gallery, embedding=gallery.embedding[:, :2]))
    with pytest.raises(UserError, match='all zeros'):
        first_matches(query, dataclasses.replace(gallery, embedding=0 * gallery.embedding))
