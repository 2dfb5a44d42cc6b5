"""Everything that a configuration stands for, built once: data, network, optimiser, mesh, the state at its start."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import optax
from jax.sharding import Mesh

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.partition import Partition, person_labels
from pvlad_jax.models.backbones import BACKBONES, build_backbone
from pvlad_jax.models.tracklet_network import TrackletNetwork, build_network, init_variables
from pvlad_jax.parallel.mesh import gather_to_host, make_mesh
from pvlad_jax.runs.inherited_weights import Inherited
from pvlad_jax.runs.open_data import open_data
from pvlad_jax.runs.preflight import check_batch, check_labels_of
from pvlad_jax.training.initialisation.data_dependent import data_dependent_params
from pvlad_jax.training.initialisation.pretrained import check_backbone_weights, load_backbone_weights, load_head
from pvlad_jax.training.optimizer import make_optimizer
from pvlad_jax.training.schedule import steps_of_schedule
from pvlad_jax.training.train_state import TrainState, init_state, state_shapes


@dataclasses.dataclass(frozen=True)
class NetworkOnData:
    """A network and the data set that it is scored on."""

    config: Config
    dataset: AnyDataset
    partition: Partition
    network: TrackletNetwork


@dataclasses.dataclass(frozen=True)
class Experiment(NetworkOnData):
    """With all that training needs.

    Where data sets are joined, `dataset` and `partition` are those of all together, and `parts` has each with its own
    roles, by name.
    """

    num_identities: int  # I, in training
    optimizer: optax.GradientTransformation
    mesh: Mesh
    schedule_steps: int  # that the learning rate's schedule counts by
    parts: Mapping[str, NetworkOnData] = dataclasses.field(default_factory=dict)

    @property
    def tests(self) -> Mapping[str, NetworkOnData]:
        """What is scored: each data set of a join by its name; otherwise {'': the run's own}."""
        return self.parts or {'': self}

    def with_roles(self, name: str, roles: Partition) -> 'Experiment':
        """Other roles of the data set that `tests` calls so."""
        if not name:
            return dataclasses.replace(self, partition=roles)
        return dataclasses.replace(
            self, parts={**self.parts, name: dataclasses.replace(self.parts[name], partition=roles)}
        )

    def state_shapes(self) -> TrainState:
        """What a checkpoint is restored into."""
        return state_shapes(self.config, self.network, self.optimizer, self.num_identities, self.mesh)

    def check_weights(self, shapes: TrainState) -> None:
        """UserError where imported backbone weights, which a new run begins with, are not there or do not fit; nothing
        is computed. `shapes`: of `state_shapes`."""
        weights = self.config.model.backbone.weights
        if weights:
            arrays = shapes.params['backbone'], shapes.batch_stats.get('backbone', {})
            check_backbone_weights(weights, self.config.model.backbone.name, *arrays)

    def initial_state(
        self, log: Callable[[str], None] = lambda text: None, inherited: Inherited | None = None
    ) -> TrainState:
        """What training begins with: random values, then imported backbone weights or those of another run, then those
        that depend on the training data."""
        weights, pooling = self.config.model.backbone.weights, self.network.aggregator
        has_pooling = inherited is not None and 'aggregator' in inherited.params
        if pooling.pretrained_head and not has_pooling:
            if not weights:
                raise UserError(
                    "model.pooling = 'pretrained_head' takes its layer from imported weights: set "
                    'model.backbone.weights.'
                )
            head = load_head(weights)
        state = init_state(self.config, self.network, self.optimizer, self.num_identities, self.mesh)
        if weights:
            log(f'Backbone weights from {weights}.')
            begun = (gather_to_host(kind.get('backbone', {})) for kind in (state.params, state.batch_stats))
            backbone = self.config.model.backbone
            params, batch_stats = load_backbone_weights(weights, backbone.name, *begun, backbone.inflation)
            state = state.with_params('backbone', params, batch_stats or None)
        if inherited is not None:
            log(inherited.table)
            state = inherited.into(state)
        if pooling.pretrained_head and not has_pooling:
            begun = (gather_to_host(kind['aggregator']) for kind in (state.params, state.batch_stats))
            state = state.with_params('aggregator', *pooling.head_params(*begun, head))
        if pooling.data_dependent and (not has_pooling or self.config.vlad_init.from_data):
            log(f'Codebooks: k-means over local descriptors of {self.config.vlad_init.batches} training batches.')
            variables = gather_to_host({'params': state.params, 'batch_stats': state.batch_stats})
            data = self.dataset, self.partition.train, self.mesh.size
            state = state.with_params('aggregator', data_dependent_params(self.config, self.network, variables, *data))
        return state


def prepare(config: Config, planned_ends: Sequence[int] = ()) -> Experiment:
    """Opens and builds; UserError for everything that does not fit together, before anything is computed.

    planned_ends: numbers of steps that the run was given before, where it goes on (`steps_of_schedule`).
    """
    clips, model = config.clips, config.model
    build_backbone(
        model.backbone.name, last_stride=model.backbone.last_stride, clip=(clips.frames, clips.height, clips.width)
    )
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
    check_batch(config, mesh)
    data = open_data(config)
    check_labels_of(config, data.roles, {name: roles for name, (_, roles) in data.parts.items()})
    num_identities = len(person_labels(data.roles.train)[1])
    network = build_network(model, num_identities)
    shapes = jax.eval_shape(init_variables, network, (clips.frames, clips.height, clips.width), jax.random.key(0))
    schedule_steps = steps_of_schedule(config.optimizer, planned_ends, config.training.steps)
    stages = BACKBONES[model.backbone.name].stages
    optimizer = make_optimizer(
        config.optimizer, schedule_steps, shapes['params'], config.training.frozen_backbone_steps, stages
    )
    parts = {name: NetworkOnData(config, *opened, network) for name, opened in data.parts.items()}
    return Experiment(config, data.dataset, data.roles, network, num_identities, optimizer, mesh, schedule_steps, parts)
