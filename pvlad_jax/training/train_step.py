"""One update: forward, losses, gradients, optimiser, moving average; one program over the whole mesh."""

import contextlib
import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pvlad_jax.config import Config
from pvlad_jax.losses import build_losses, total_loss
from pvlad_jax.models.batch_norm import statistics_by_group
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.ops import vector_options
from pvlad_jax.parallel.mesh import BATCH_AXES, batch_sharding, replicated
from pvlad_jax.parallel.sharding import state_shardings
from pvlad_jax.training.ema import ema_update
from pvlad_jax.training.train_state import TrainState


def make_train_step(
    config: Config, network: TrackletNetwork, optimizer: optax.GradientTransformation, mesh: Mesh, state: TrainState
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """(state, batch) -> (state, metrics), jitted; the given state is consumed.

    `state` (or its shapes) is needed for its shardings only. The batch is that of `pvlad_jax.data.train_batches`, as
    global arrays.
    """

    terms = build_losses(config.loss)

    def loss_of(params, batch_stats, loss_state, batch):
        with statistics_by_group(mesh.size if config.model.backbone.batch_norm == 'local' else 1):
            output, updates = network.apply(
                {'params': params, 'batch_stats': batch_stats},
                batch['clips'],
                batch['valid'],
                train=True,
                mutable=['batch_stats'],
            )
        loss, metrics, loss_state = total_loss(terms, output, batch['label'], params, loss_state)
        return loss, (metrics, dict(updates.get('batch_stats', {})), loss_state)

    def gradients(state: TrainState, batch):
        """Of the whole batch, or the mean over `accumulate` parts of whole people, one after the other in the memory of
        one.
        """
        grad = jax.grad(loss_of, has_aux=True)
        parts = config.optimizer.accumulate
        if parts == 1:
            return grad(state.params, state.batch_stats, state.loss_state, batch)

        def one(carry, part):
            total, batch_stats, loss_state = carry
            grads, (metrics, batch_stats, loss_state) = grad(state.params, batch_stats, loss_state, part)
            return (jax.tree.map(jnp.add, total, grads), batch_stats, loss_state), metrics

        start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats, state.loss_state)
        cut = {key: _parts(value, parts, config.batch.tracklets, mesh) for key, value in batch.items()}
        (total, batch_stats, loss_state), metrics = jax.lax.scan(one, start, cut)
        return jax.tree.map(lambda g: g / parts, total), (
            jax.tree.map(lambda m: m.mean(0), metrics),
            batch_stats,
            loss_state,
        )

    def step(state: TrainState, batch):
        grads, (metrics, batch_stats, loss_state) = gradients(state, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = {'params': params, 'batch_stats': batch_stats}
        ema = None if state.ema is None else ema_update(state.ema, averaged, config.optimizer.ema, state.step)
        metrics['gradient_norm'] = optax.tree.norm(grads)
        metrics['parameter_norm'] = optax.tree.norm(params)  # of those that a checkpoint of this step would hold
        return TrainState(state.step + 1, params, batch_stats, opt_state, loss_state, ema), metrics

    shardings = state_shardings(state, mesh)
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
        compiler_options=vector_options(mesh.devices.flat[0].platform),
    )


def compile_ahead(train_step: Callable, config: Config, mesh: Mesh, shapes: TrainState) -> threading.Thread:
    """Traces and compiles a step of `make_train_step` in a thread, while others prepare for it. Join it before the
    first step.

    The jitted function keeps what is made here. What fails here fails again, and is reported, when the step is called.
    """
    clips, sharding = config.clips, batch_sharding(mesh)
    frames = (config.batch.size, clips.segments, clips.frames)
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, shape, dtype in (
            ('clips', (*frames, clips.height, clips.width, 3), 'uint8'),
            ('valid', frames, 'bool'),
            ('label', frames[:1], 'int32'),
        )
    }

    def compile_step() -> None:
        with contextlib.suppress(Exception):
            train_step.lower(shapes, batch).compile()

    thread = threading.Thread(target=compile_step, name='compile_ahead')
    thread.start()
    return thread


def rows_of_part(rows: int, part: int, parts: int, tracklets: int) -> np.ndarray:
    """The rows of a batch, whole people of `tracklets` rows each, that go into that part of an accumulated gradient:
    see `_parts`.
    """
    return np.arange(rows).reshape(-1, parts, tracklets)[:, part].reshape(-1)


def _parts(x, parts: int, tracklets: int, mesh: Mesh):
    """[B, ...] -> [A, B/A, ...]: every A-th person, so that each part takes its share from every device and nothing
    moves between them.
    """
    by_person = x.reshape(-1, parts, tracklets, *x.shape[1:])
    cut = jnp.moveaxis(by_person, 1, 0).reshape(parts, -1, *x.shape[1:])
    return jax.lax.with_sharding_constraint(cut, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))
