"""Everything that a configuration stands for, put together once: data, network, optimiser, mesh, the state at its start."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import optax
from jax.sharding import Mesh

from pvlad_jax.config import Config
from pvlad_jax.data.partition import Partition, partition, person_labels
from pvlad_jax.data.records import TrackletDataset
from pvlad_jax.errors import UserError
from pvlad_jax.jobs.garbage_collection import collection_paused
from pvlad_jax.models.backbones import build_backbone
from pvlad_jax.models.tracklet_network import TrackletNetwork, build_network, first_variables
from pvlad_jax.models.weights import load_backbone_weights, load_head
from pvlad_jax.parallel.mesh import check_divides, make_mesh, whole_on_host
from pvlad_jax.training.losses import check_loss
from pvlad_jax.training.optimizer import make_optimizer
from pvlad_jax.training.train_state import TrainState, init_state, state_shapes
from pvlad_jax.training.word_start import words_from_data


@dataclasses.dataclass(frozen=True)
class Experiment:
    config: Config
    dataset: TrackletDataset
    partition: Partition
    people: int  # I, in training
    network: TrackletNetwork
    optimizer: optax.GradientTransformation
    mesh: Mesh

    def state_shapes(self) -> TrainState:
        """What a checkpoint is restored into."""
        return state_shapes(self.config, self.network, self.optimizer, self.people, self.mesh)

    @collection_paused()
    def first_state(self, say: Callable[[str], None] = lambda text: None) -> TrainState:
        """What training begins with: imported backbone weights, VLAD words by k-means over the training set."""
        state = init_state(self.config, self.network, self.optimizer, self.people, self.mesh)
        weights = self.config.model.backbone.weights
        if weights:
            say(f'Backbone weights from {weights}.')
            params, batch_stats = load_backbone_weights(weights, self.config.model.backbone.name, whole_on_host(state.params['backbone']),
                                                        whole_on_host(state.batch_stats.get('backbone', {})),
                                                        self.config.model.backbone.inflation)
            state = _put(state, ('backbone',), params, batch_stats or None)
            if self.config.model.pooling == 'pretrained_head':
                head = load_head(weights)
                stats = {name: head.pop(name) for name in ('mean', 'var')}
                state = _put(state, ('aggregator', 'head'), head, stats)
        if 'vlad' in state.params.get('aggregator', {}):
            say(f'VLAD words: k-means over local descriptors of {self.config.vlad_init.batches} training batches.')
            variables = whole_on_host({'params': state.params, 'batch_stats': state.batch_stats})
            words, shift = words_from_data(self.config, self.network, variables, self.dataset, self.partition.train)
            bias = ('aggregator', 'part_alignment', 'part_descriptor', 'bias')
            state = _put(state, ('aggregator', 'vlad'), words)
            state = _put(state, bias, variables['params'][bias[0]][bias[1]][bias[2]][bias[3]] + shift)
        return state


def _put(state: TrainState, path: tuple[str, ...], params, batch_stats=None) -> TrainState:
    """The state with a subtree of parameters (and its moving average's, and statistics) replaced, shardings kept."""

    def replaced(tree, path, value):
        if not path:
            return jax.tree.map(lambda old, new: jax.device_put(new.astype(old.dtype), old.sharding), tree, value)
        return {**tree, path[0]: replaced(tree[path[0]], path[1:], value)}

    state = state.replace(params=replaced(state.params, path, params))
    if state.ema is not None:
        state = state.replace(ema=replaced(state.ema, path, params))
    if batch_stats is not None:
        state = state.replace(batch_stats=replaced(state.batch_stats, path, batch_stats))
    return state


@collection_paused()
def prepare(config: Config) -> Experiment:
    """Opens and builds; UserError for everything that does not fit together, before anything is computed."""
    clips, model = config.clips, config.model
    build_backbone(model.backbone.name, last_stride=model.backbone.last_stride, clip=(clips.frames, clips.height, clips.width))
    check_loss(config.loss)
    mesh = make_mesh(config.mesh)
    check_divides('config.batch.people x config.batch.tracklets', config.batch.size, mesh)
    if config.model.backbone.weights and not Path(config.model.backbone.weights).is_file():
        raise UserError(f'config.model.backbone.weights: there is no file {config.model.backbone.weights}. '
                        'Make it with data_prep/import_weights.py.')
    dataset = TrackletDataset.open(config.dataset.data_dir, config.dataset.name)
    roles = partition(dataset, config.dataset.split, config.dataset.halves, config.dataset.validation_share, config.seed)
    people = len(person_labels(roles.train)[1])
    network = build_network(model, people)
    shapes = jax.eval_shape(first_variables, network, (clips.frames, clips.height, clips.width), jax.random.key(0))
    optimizer = make_optimizer(config.optimizer, config.training.steps, shapes['params'], config.training.head_steps)
    return Experiment(config, dataset, roles, people, network, optimizer, mesh)
