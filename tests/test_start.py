"""The start of a job: networks are traced once, and the garbage collector waits."""

import gc

import pytest

from pvlad_jax.jobs.evaluate import Evaluator
from pvlad_jax.jobs.experiment import prepare
from pvlad_jax.jobs.garbage_collection import collection_paused, frozen_imports
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.training.train_state import init_state
from tests.micro import micro_config


def test_each_use_of_a_network_is_traced_once(micro_data, monkeypatch):
    traced, statistics = [], TrackletNetwork.statistics

    def counting(self, *args, **kwargs):
        traced.append('first weights' if self.is_initializing() else 'clips')
        return statistics(self, *args, **kwargs)

    monkeypatch.setattr(TrackletNetwork, 'statistics', counting)
    # A size that no other test has, since traces are kept.
    experiment = prepare(micro_config(micro_data, **{'model.embedding': 37, 'model.pooling': 'average'}))
    experiment.state_shapes()
    state = experiment.first_state()
    assert traced == ['first weights']
    evaluator = Evaluator(experiment)
    evaluator(state.variables(), 0)
    evaluator(state.variables(), 1)
    assert traced == ['first weights', 'clips']
    # Codewords are sought in training mode, once; evaluation has the other trace.
    traced.clear()
    experiment = prepare(micro_config(micro_data, **{'model.embedding': 37}))
    experiment.first_state()
    assert traced == ['first weights', 'clips']


def test_first_weights_need_no_trace_of_the_filtered_convolutions(micro_data, monkeypatch):
    class Traced(Exception):
        pass

    def traced(*args, **kwargs):
        raise Traced

    monkeypatch.setattr('pvlad_jax.models.conv3d.forward', traced)
    experiment = prepare(micro_config(micro_data, **{'clips.width': 24}))  # as no other test has it
    init_state(experiment.config, experiment.network, experiment.optimizer, experiment.people, experiment.mesh)
    with pytest.raises(Traced):
        experiment.first_state()  # which looks at features


@pytest.mark.parametrize('before', [True, False])
@pytest.mark.parametrize('start', [collection_paused, frozen_imports])
def test_the_collector_is_on_after_the_start_where_it_was_before(start, before):
    enabled = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(KeyError), start():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == before
    finally:
        (gc.enable if enabled else gc.disable)()


def test_what_is_imported_is_not_gone_through_again_but_a_former_job_is():
    gc.unfreeze()
    try:
        with frozen_imports():
            modules = [[] for _ in range(1000)]
        frozen = gc.get_freeze_count()
        assert frozen >= 1000 and not any(modules[0] is one for one in gc.get_objects(generation=2))
        with frozen_imports():
            job = [[] for _ in range(1000)]
        assert gc.get_freeze_count() <= frozen and any(job[0] is one for one in gc.get_objects())
    finally:
        gc.unfreeze()
