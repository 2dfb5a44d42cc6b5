"""The start of a job: networks are traced once."""

import pytest

from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.runs.evaluator import Evaluator
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.training.train_state import init_state
from tests.helpers.micro import micro_config


def test_each_use_of_a_network_is_traced_once(micro_data, monkeypatch):
    traced, local_features = [], TrackletNetwork.local_features

    def counting(self, *args, **kwargs):
        traced.append('first weights' if self.is_initializing() else 'clips')
        return local_features(self, *args, **kwargs)

    monkeypatch.setattr(TrackletNetwork, 'local_features', counting)
    # A size that no other test has, since traces are kept.
    experiment = prepare(micro_config(micro_data, **{'model.embedding_dim': 37, 'model.pooling': 'average'}))
    experiment.state_shapes()
    state = experiment.initial_state()
    assert traced == ['first weights']
    evaluator = Evaluator(experiment)
    evaluator(state.variables(), 0)
    evaluator(state.variables(), 1)
    assert traced == ['first weights', 'clips']
    # Codewords are sought in training mode, once; evaluation has the other trace.
    traced.clear()
    experiment = prepare(micro_config(micro_data, **{'model.embedding_dim': 37}))
    experiment.initial_state()
    assert traced == ['first weights', 'clips']


def test_first_weights_need_no_trace_of_the_filtered_convolutions(micro_data, monkeypatch):
    class Traced(Exception):
        pass

    def traced(*args, **kwargs):
        raise Traced

    monkeypatch.setattr('pvlad_jax.ops.conv3d.forward', traced)
    experiment = prepare(micro_config(micro_data, **{'clips.width': 24}))  # as no other test has it
    init_state(experiment.config, experiment.network, experiment.optimizer, experiment.num_identities, experiment.mesh)
    with pytest.raises(Traced):
        experiment.initial_state()  # which looks at features
