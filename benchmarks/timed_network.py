"""A configuration's training step and embedding, compiled and run on one batch again and again."""

import time

import jax
import numpy as np
from random_batch import PEOPLE

from pvlad_jax.config import Config
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.ops import vector_options
from pvlad_jax.training.optimizer import make_optimizer
from pvlad_jax.training.train_state import init_state
from pvlad_jax.training.train_step import make_train_step


class TimedNetwork:
    """Nothing is frozen in its training.

    Args:
      batch: of `random_batch`, as global arrays.
      start: (params, batch_stats) to begin with; random ones by default.

    Attributes:
      compile_seconds: of the training step, which is compiled at once; the embedding is when it is first asked for, or
        by `compile_embedding`.
    """

    def __init__(
        self,
        config: Config,
        batch: dict[str, jax.Array],
        mesh: jax.sharding.Mesh,
        start: tuple[dict, dict] | None = None,
    ):
        network, self.batch = build_network(config.model, PEOPLE), batch
        clip = (config.clips.frames, config.clips.height, config.clips.width)
        shapes = jax.eval_shape(lambda: init_variables(network, clip, jax.random.key(0)))
        optimizer = make_optimizer(config.optimizer, config.training.steps, shapes['params'])
        self.state = init_state(config, network, optimizer, PEOPLE, mesh)
        if start:
            of = self.state.params, self.state.batch_stats
            params, batch_stats = (jax.tree.map(_put, given, like) for given, like in zip(start, of))
            self.state = self.state.replace(params=params, batch_stats=batch_stats)
        step = make_train_step(config, network, optimizer, mesh, self.state)
        began = time.perf_counter()
        self._step = step.lower(self.state, batch).compile()
        self.compile_seconds = time.perf_counter() - began
        self._embed = jax.jit(
            lambda variables, clips, valid: network.apply(variables, clips, valid).embedding,
            compiler_options=vector_options(mesh.devices.flat[0].platform),
        )

    def compile_embedding(self) -> None:
        self._embed = self._embed.lower(self.state.variables(), self.batch['clips'], self.batch['valid']).compile()

    def step(self) -> tuple[float, float]:
        """(loss, gradient norm)"""
        self.state, metrics = self._step(self.state, self.batch)
        jax.block_until_ready(self.state)
        return float(metrics['loss']), float(metrics['gradient_norm'])

    def embed(self) -> np.ndarray:
        return np.asarray(self._embed(self.state.variables(), self.batch['clips'], self.batch['valid']))


def _put(given: np.ndarray, like: jax.Array) -> jax.Array:
    return jax.device_put(np.asarray(given).reshape(like.shape), like.sharding)
