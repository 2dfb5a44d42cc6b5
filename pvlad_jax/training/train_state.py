"""All that a training step reads and writes on the device."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from pvlad_jax.config import Config
from pvlad_jax.models.tracklet_network import TrackletNetwork, first_variables
from pvlad_jax.parallel.sharding_rules import state_shardings
from pvlad_jax.training.losses import init_loss_state

# Of random draws that run once: with XLA's usual options, optimising them for CPU takes longer than anything they do. At level 0 it takes
# hardly less than at 1 (the demo: 2.0 instead of 2.3 s), and the draws five times as long (0.2 instead of 0.04 s, at every start).
FAST_COMPILATION = {'xla_backend_optimization_level': 1}


@flax.struct.dataclass
class TrainState:
    """`params` holds the network's parameters and, beside them, those of losses (`loss_centres`)."""

    step: Int[Array, '']  # updates made so far
    params: Any
    batch_stats: Any
    opt_state: Any
    loss_state: Any
    ema: Any  # moving average of params, or None

    def variables(self) -> dict:
        """What evaluation uses: the moving average where there is one."""
        return {'params': self.params if self.ema is None else self.ema, 'batch_stats': self.batch_stats}


def init_state(config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, people: int, mesh: Mesh) -> TrainState:
    """A fresh state, born sharded: no device ever holds more than its part. The same for every mesh."""
    init = _initialiser(config, network, optimizer, people)
    shapes = jax.eval_shape(init, jax.random.key(config.seed))
    fast = FAST_COMPILATION if mesh.devices.flat[0].platform == 'cpu' else None
    return jax.jit(init, out_shardings=state_shardings(shapes, mesh), compiler_options=fast)(jax.random.key(config.seed))


def state_shapes(config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, people: int, mesh: Mesh) -> TrainState:
    """Shapes and shardings of a state, nothing computed: what a checkpoint is restored into."""
    shapes = jax.eval_shape(_initialiser(config, network, optimizer, people), jax.random.key(config.seed))
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes,
                        state_shardings(shapes, mesh))


def _initialiser(config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, people: int) -> Callable:
    clips = config.clips

    def init(key) -> TrainState:
        network_key, loss_key = jax.random.split(key)
        variables = first_variables(network, (clips.frames, clips.height, clips.width), network_key)
        loss_params, loss_state = init_loss_state(config.loss, people, network.embedding, loss_key)
        # Some initialisers give weakly typed arrays. Updates are not, so the second step would be traced and compiled anew.
        variables, loss_params, loss_state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype),
                                                          (variables, loss_params, loss_state))
        params = dict(variables['params']) | loss_params
        return TrainState(jnp.zeros((), jnp.int32), params, dict(variables.get('batch_stats', {})), optimizer.init(params), loss_state,
                          jax.tree.map(jnp.copy, params) if config.optimizer.ema else None)

    return init
