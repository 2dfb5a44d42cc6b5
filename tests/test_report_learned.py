"""Reports of learned distances: learned once more from embeddings/train.npz, they rank as the result did."""

import dataclasses
import json
import re

import numpy as np
import pytest

import main
from configs import run as saved_run
from pvlad_jax.evaluation import Embeddings, read_embeddings, score
from pvlad_jax.evaluation.cmc_map import rank
from pvlad_jax.evaluation.distances import learned_metric
from pvlad_jax.evaluation.protocols import label_arrays
from pvlad_jax.evaluation.scoring import ranked_tables, score_rows
from pvlad_jax.report.query_outcomes import query_outcomes
from pvlad_jax.runs.outputs import Scored, write_scored
from pvlad_jax.runs.workdir import write_config
from tests.helpers.micro import micro_config

pytest.importorskip('jinja2', reason='reports need Jinja2')
SIZE = 12
LEARNED = ['xqda', 'kissme', 'xqda_shrunk']


def people(count: int, seed: int, role: str, cameras: tuple[int, ...] = (1, 2, 3)) -> Embeddings:
    """A tracklet of each person in each camera. Numbers differ in how much they say of people."""
    rng = np.random.default_rng(seed)
    told = np.geomspace(1, 0.05, SIZE)
    person = np.repeat(np.arange(1, count + 1), len(cameras))
    vectors = np.repeat(rng.standard_normal((count, SIZE)) * told, len(cameras), axis=0)
    vectors = vectors + rng.standard_normal(vectors.shape) * told[::-1]
    camera = np.tile(cameras, count)
    names = np.array([f'{role}_p{p}c{c}' for p, c in zip(person, camera)])
    return Embeddings(embedding=vectors.astype(np.float32), person_id=person, camera_id=camera, tracklet=names)


def training(mixed: bool = False) -> Embeddings:
    """`mixed`: ids say nothing, and XQDA finds directions in which one person's tracklets differ more than others'."""
    train = people(60, 2, 't')
    if mixed:
        return dataclasses.replace(train, person_id=np.random.default_rng(3).permutation(train.person_id))
    return train


def evaluated(folder, distance: str, rerank: bool = False, mixed: bool = False):
    """What --mode=eval leaves of a run."""
    query, gallery, train = people(30, 1, 'q', (1,)), people(30, 1, 'g', (1, 2, 3)), training(mixed)
    result = score(query, gallery, distance=distance, rerank=rerank, train=train, step=2)
    folder.mkdir()
    write_config(folder, micro_config('no_data', **{'evaluation.distance': distance}))
    write_scored(folder, Scored(result, query, gallery, train), ['latest'])
    return result


@pytest.mark.parametrize('rerank', [False, True])
@pytest.mark.parametrize('distance, mixed', [*((name, False) for name in LEARNED), ('xqda', True)])
def test_a_page_shows_the_ranking_of_the_result(distance, mixed, rerank, tmp_path):
    workdir = tmp_path / 'work'
    result = evaluated(workdir, distance, rerank, mixed)
    assert main.run(saved_run.get_config(str(workdir)), workdir, 'report') == 0
    page = (workdir / 'report' / 'index.html').read_text(encoding='utf-8')
    ranks = [int(r) for r in re.findall(r'data-rank="(\d+)"', page)]
    assert len(ranks) == result.n_query_valid
    assert np.mean(np.array(ranks) == 1) == pytest.approx(result.rank_1)
    for k in (5, 10):
        assert np.mean(np.array(ranks) <= k) == pytest.approx(getattr(result, f'rank_{k}'))
    nearest_right = re.findall(r'<section class="row".*?</figure>\s*<figure class="(\w+)"', page, re.DOTALL)
    assert np.mean(np.array(nearest_right) == 'right') == pytest.approx(result.rank_1)
    assert 'are not those of this result' not in page  # the page's own check of its rank-1
    assert f'distance {distance} was learned from 180 tracklets' in page
    assert f'distance {distance}' in page and ('re-ranked' in page) == rerank
    metric = learned_metric(distance, read_embeddings(workdir / 'embeddings' / 'train.npz'))
    assert metric.definite == (not mixed)
    assert ('after its linear map' in page) == metric.definite
    assert ('which no map can show' in page) == (not metric.definite)
    assert ('may be negative' in page) == (not metric.definite and not rerank)


@pytest.mark.parametrize('distance', LEARNED)
def test_ranks_are_those_of_the_metrics_where_distances_lose_digits(distance):
    """The query's own bias, which only distances for people to read contain, is large here."""
    tables = people(30, 1, 'q', (1,)), people(30, 1, 'g', (1, 2, 3))
    tables[0].embedding[::2] *= 1e8
    query, gallery, protocol = ranked_tables(*tables, 'mars_official')
    scores = score_rows(query, gallery, distance, train=training())
    found = query_outcomes(scores, query, gallery, protocol, top=5)
    ranking = rank(scores, *label_arrays(query, gallery), protocol)
    np.testing.assert_array_equal(found.first_rank, np.nan_to_num(ranking.first_rank))
    assert found.one_person.sum() == ranking.num_matches.sum()
    assert found.edges[0] <= 0 and found.edges[0] <= found.distance.min() and (np.diff(found.distance) >= 0).all()


def test_training_embeddings_are_kept_for_learned_distances_only(tmp_path):
    workdir = tmp_path / 'work'
    evaluated(workdir, 'kissme')
    kept = read_embeddings(workdir / 'embeddings' / 'train.npz')
    np.testing.assert_array_equal(kept.embedding, training().embedding)
    query, gallery = people(30, 1, 'q', (1,)), people(30, 1, 'g')
    write_scored(workdir, Scored(score(query, gallery), query, gallery, None), ['latest'])
    assert not (workdir / 'embeddings' / 'train.npz').exists()  # it would be of other weights
    assert json.loads((workdir / 'eval' / 'latest.json').read_text())['distance'] == 'cosine'
