"""All that a training step reads and writes on the device."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from pvlad_jax.config import Config
from pvlad_jax.losses import LossSizes, build_losses, init_losses
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.tracklet_network import TrackletNetwork, init_variables
from pvlad_jax.parallel.sharding import state_shardings


@flax.struct.dataclass
class TrainState:
    """`params` holds the network's parameters and those of losses (`loss_centres`)."""

    __no_type_check__ = (
        True  # of __init__: JAX fills pytrees with placeholders too, which no annotation of an array fits
    )

    step: Int[Array, '']  # updates made so far
    params: Any
    batch_stats: Any
    opt_state: Any
    loss_state: Any
    ema: Any  # moving averages {'params': ..., 'batch_stats': ...}, or None

    def variables(self) -> dict:
        """What evaluation uses: the moving averages where there are some.

        The statistics of BatchNorm are averaged like the parameters: those of the last steps belong to other parameters
        than the average.
        """
        return self.ema or {'params': self.params, 'batch_stats': self.batch_stats}

    def with_params(self, name: str, params: PyTree, batch_stats: PyTree = None) -> 'TrainState':
        """The state with the parameters (and statistics) of a top-level module replaced, in the moving averages too;
        dtypes and shardings stay."""

        def replaced(tree, value):
            new = jax.tree.map(lambda old, new: jax.device_put(new.astype(old.dtype), old.sharding), tree[name], value)
            return {**tree, name: new}

        state = self
        for collection, value in (('params', params), ('batch_stats', batch_stats)):
            if value is None:
                continue
            state = state.replace(**{collection: replaced(getattr(state, collection), value)})
            if state.ema is not None:
                state = state.replace(ema={**state.ema, collection: replaced(state.ema[collection], value)})
        return state


def init_state(
    config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, num_identities: int, mesh: Mesh
) -> TrainState:
    """A fresh state, initialised with its sharding: no device ever holds more than its part.

    The same for every mesh.
    """
    init = _initialiser(config, network, optimizer, num_identities)
    shapes = jax.eval_shape(init, jax.random.key(config.seed))
    return jax.jit(init, out_shardings=state_shardings(shapes, mesh))(jax.random.key(config.seed))


def state_shapes(
    config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, num_identities: int, mesh: Mesh
) -> TrainState:
    """Shapes and shardings of a state, nothing computed: what a checkpoint is restored into."""
    shapes = jax.eval_shape(_initialiser(config, network, optimizer, num_identities), jax.random.key(config.seed))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        state_shardings(shapes, mesh),
    )


def _initialiser(
    config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, num_identities: int
) -> Callable:
    clips = config.clips

    def init(key) -> TrainState:
        network_key, loss_key = jax.random.split(key)
        variables = init_variables(network, (clips.frames, clips.height, clips.width), network_key)
        sizes = LossSizes(num_identities, network.embedding, BACKBONES[config.model.backbone.name].channels)
        loss_params, loss_state = init_losses(build_losses(config.loss), sizes, loss_key)
        # Some initialisers give weakly typed arrays. Updates are not, so the second step would be traced and compiled
        # again.
        variables, loss_params, loss_state = jax.tree.map(
            lambda x: jax.lax.convert_element_type(x, x.dtype), (variables, loss_params, loss_state)
        )
        params = dict(variables['params']) | loss_params
        batch_stats = dict(variables.get('batch_stats', {}))
        ema = jax.tree.map(jnp.copy, {'params': params, 'batch_stats': batch_stats}) if config.optimizer.ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), loss_state, ema)

    return init
