"""Embeddings of whole tables: packing tracklets into steps, over any devices, changes no embedding."""

import itertools

import jax
import numpy as np
import pytest

from pvlad_jax.data.clip_sampling import kept_frames
from pvlad_jax.data.eval_batches import eval_batches
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.embedding.tracklets import TrackletEmbedder, shares_of_processes
from pvlad_jax.embedding.video import embed_video
from pvlad_jax.runs.experiment import prepare
from tests.helpers.micro import micro_config


@pytest.fixture(scope='module')
def made(micro_data):
    config = micro_config(micro_data)
    experiment = prepare(config)
    state = experiment.initial_state()
    return experiment, jax.device_get(state.variables())


def one_by_one(experiment, variables, table, policy='all'):
    """Each tracklet alone, frame by frame."""
    clips, result = experiment.config.clips, []
    for row in range(len(table)):
        record = experiment.dataset.read(table.split[row], table.row[row])
        frames = decode_clips(record.frames, kept_frames(len(record.frames), policy), clips.height, clips.width, '')
        result.append(embed_video(experiment.network, variables, iter(frames), clips.frames, clips_per_step=2))
    return np.stack(result)


@pytest.mark.parametrize(('devices', 'clips_per_step'), [(1, 1), (1, 3), (1, 64), (8, 8)])
def test_packed_steps_equal_each_video_alone(made, micro_data, devices, clips_per_step):
    experiment, variables = made
    table = experiment.partition.gallery
    config = micro_config(micro_data, **{'evaluation.clips_per_step': clips_per_step})
    embed = TrackletEmbedder(experiment.network, config, experiment.dataset, jax.devices()[:devices])
    done = []
    together = embed(variables, table, done.append)
    np.testing.assert_allclose(together, one_by_one(experiment, variables, table), atol=1e-5)
    assert done[-1] == len(table) and done == sorted(done)
    order = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_allclose(embed(variables, table.select(order)), together[order], atol=1e-5)


@pytest.mark.parametrize('policy', ['first:5', 'even:4'])
def test_frame_policies_reach_the_embedding(made, micro_data, policy):
    experiment, variables = made
    config = micro_config(micro_data, **{'evaluation.frames': policy})
    embed = TrackletEmbedder(experiment.network, config, experiment.dataset)
    together = embed(variables, experiment.partition.query)
    np.testing.assert_allclose(
        together, one_by_one(experiment, variables, experiment.partition.query, policy), atol=1e-5
    )
    everything = one_by_one(experiment, variables, experiment.partition.query)
    assert np.abs(together - everything).max() > 1e-4


def test_steps_hold_every_frame_once_and_are_full(made):
    experiment, _ = made
    table, clips = experiment.partition.gallery, experiment.config.clips
    steps = list(eval_batches(experiment.dataset, table, 5, (clips.frames, clips.height, clips.width), threads=3))
    assert sum(int(s.valid.sum()) for s in steps) == table.n_frames.sum()
    assert all((s.segment < 5).all() for s in steps[:-1])
    for step, following in itertools.pairwise(steps):
        assert step.unfinished == following.continues == (step.videos[-1] == following.videos[0])
        assert (step.clips[~step.valid] == 0).all() and (np.diff(step.segment) >= 0).all()
    assert not steps[0].continues and not steps[-1].unfinished


def test_an_empty_table_gives_no_embeddings(made, micro_data):
    experiment, variables = made
    embed = TrackletEmbedder(experiment.network, micro_config(micro_data), experiment.dataset)
    assert embed(variables, experiment.partition.validation_query).shape == (0, 8)


def test_processes_get_like_loads_and_everything_once():
    n_clips = np.random.default_rng(0).integers(1, 60, 500)
    shares = shares_of_processes(n_clips, 7)
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(500))
    loads = [n_clips[s].sum() for s in shares]
    assert max(loads) - min(loads) <= 3
