"""The start of a job: networks are traced once, and the search for garbage waits."""

import gc

import pytest

from pvlad_jax.jobs.evaluate import Evaluator
from pvlad_jax.jobs.experiment import prepare
from pvlad_jax.jobs.garbage import never_searched, searched_later
from pvlad_jax.models.tracklet_network import TrackletNetwork
from tests.micro import micro_config


def test_each_use_of_a_network_is_traced_once(micro_data, monkeypatch):
    traced, statistics = [], TrackletNetwork.statistics

    def counting(self, *args):
        traced.append('first weights' if self.is_initializing() else 'clips')
        return statistics(self, *args)

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


@pytest.mark.parametrize('before', [True, False])
@pytest.mark.parametrize('ends', [searched_later, never_searched])
def test_the_search_for_garbage_is_on_after_the_start_where_it_was_before(ends, before):
    enabled = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(KeyError), ends():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == before
    finally:
        (gc.enable if enabled else gc.disable)()


def test_what_is_imported_is_not_searched_again():
    frozen = gc.get_freeze_count()
    try:
        with never_searched():
            kept = [[] for _ in range(1000)]
        assert gc.get_freeze_count() >= frozen + 1000
        assert not any(kept[0] is one for one in gc.get_objects(generation=2))
    finally:
        gc.unfreeze()
