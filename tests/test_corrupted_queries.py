"""Queries that are corrupted on purpose: the pictures, and what benchmarks/corrupted_queries.py makes of them."""

import dataclasses

import numpy as np
import pytest

from benchmarks import corrupted_queries
from benchmarks.corrupted_queries import AS_IT_IS, CorruptedDataset, scores_of_run
from benchmarks.corruptions import CORRUPTIONS, occluded, occluded_below, scaled, shifted
from pvlad_jax.core.errors import UserError
from pvlad_jax.runs.evaluator import Evaluator
from pvlad_jax.runs.experiment import NetworkOnData
from pvlad_jax.runs.open_data import open_data
from pvlad_jax.runs.trained_model import load_trained
from tests.helpers.small_models import write_workdir

FRAMES = np.random.default_rng(0).integers(0, 200, (4, 40, 20, 3), dtype=np.uint8)
OTHER = np.full((3, 60, 30, 3), 255, np.uint8)  # of another size and number


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize('share', [0.2, 0.4])
def test_that_share_is_covered_by_the_other_person(share):
    for seed in range(30):
        out = occluded(share)(FRAMES, OTHER, rng(seed))
        covered = (out == 255).all(-1)
        assert (covered == covered[:1]).all()  # the same in all frames
        assert abs(covered[0].mean() - share) < 0.05
        np.testing.assert_array_equal(out[~covered], FRAMES[~covered])
    late = occluded(share, of_frames=0.5)(FRAMES, OTHER, rng())
    np.testing.assert_array_equal(late[:2], FRAMES[:2])
    assert ((late[2:] == 255).all(-1).mean((1, 2)) > share - 0.05).all()
    below = occluded_below(share)(FRAMES, OTHER, rng())
    kept = round(40 * (1 - share))
    np.testing.assert_array_equal(below[:, :kept], FRAMES[:, :kept])
    assert (below[:, kept:] == 255).all()


def test_boxes():
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None] * 4 + 20, (2, 40, 20, 3)).copy()
    np.testing.assert_array_equal(scaled(1.0)(FRAMES, OTHER, rng()), FRAMES)
    np.testing.assert_array_equal(shifted(0.0)(FRAMES, OTHER, rng()), FRAMES)
    large, small = (scaled(factor)(ramp, OTHER, rng())[0, :, 10, 0].astype(int) for factor in (2.0, 0.5))
    np.testing.assert_allclose(large[10:30], 20 + 4 * (2 * np.arange(20) + 0.5), atol=3)  # the whole ramp in the middle
    assert (large[:9] == large[0]).all() and (large[31:] == large[-1]).all()  # the border goes on
    np.testing.assert_allclose(small, 20 + 4 * (9.75 + 0.5 * np.arange(40)), atol=1)  # its middle half
    sides = {shifted(0.25)(ramp, OTHER, rng(seed))[0, 0, 0, 0] for seed in range(30)}
    assert sides == {20, 60}  # down by ten rows; else the first row stays the first
    whole = FRAMES.copy()
    for corrupt in CORRUPTIONS.values():
        out = corrupt(FRAMES, OTHER, rng())
        assert out.shape == FRAMES.shape and out.dtype == np.uint8 and (out != FRAMES).any()
    np.testing.assert_array_equal(FRAMES, whole)  # the given frames are left alone


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp('corrupted') / 'run', **{'dataset.validation_share': 0.5})


def test_held_out_people_are_scored_as_by_the_run(workdir, micro_data, monkeypatch):
    other = {'left alone': lambda frames, _other, _rng: frames, 'somebody else': occluded_below(1.0)}
    monkeypatch.setattr(corrupted_queries, 'CORRUPTIONS', other)
    scores = scores_of_run(workdir, None, str(micro_data))
    model = load_trained(workdir)
    config = dataclasses.replace(
        model.config, dataset=dataclasses.replace(model.config.dataset, data_dir=str(micro_data))
    )
    data = open_data(config)
    scored = Evaluator(NetworkOnData(config, data.dataset, data.roles, model.network))
    result = scored(model.variables, 2, 'validation').result.to_json()
    assert scores[AS_IT_IS] == scores['left alone'] == {name: 100 * result[name] for name in ('rank_1', 'mAP')}
    assert scores['somebody else']['mAP'] < scores[AS_IT_IS]['mAP']


def test_every_run_is_asked_for_the_same_pictures(workdir, micro_data):
    config = load_trained(workdir).config
    data = open_data(dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, data_dir=str(micro_data))))
    table, dataset = data.roles.validation_query, data.dataset

    def read(rows):
        corrupted = CorruptedDataset(dataset, table, occluded(0.4), (16, 8))
        return {row: list(corrupted.read(table.split[row], table.row[row]).frames) for row in rows}

    forward, backward = read(range(len(table))), read(reversed(range(len(table))))
    assert forward == backward and len(set(map(tuple, forward.values()))) == len(table)


def test_a_run_without_held_out_people_is_refused(micro_data, tmp_path):
    workdir = write_workdir(tmp_path / 'run')
    with pytest.raises(UserError, match=r'holds no two people out\. Train with'):
        scores_of_run(workdir, None, str(micro_data))
