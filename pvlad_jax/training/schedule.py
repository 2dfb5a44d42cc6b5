"""The learning rate over a run: a linear warm-up, then cosine, steps or constant."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from pvlad_jax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, total_steps: int) -> Callable[[int | Array], Float[Array, '']]:
    """The rate of the update with number `step`, 0 .. total_steps - 1, as a function that may be jitted.

    Warm-up: update number s has (s + 1) / warmup_steps of the peak, so the first one is not wasted on a rate
    of 0 and the last one of the warm-up has the peak. A run shorter than its warm-up ends below the peak.
    Afterwards
      - 'cosine' falls from the peak to final_factor · peak, which the last update of the run has
        (Loshchilov and Hutter 2017, without restarts);
      - 'steps' is multiplied by decay_factor at each of decay_steps, shares of the whole run;
      - 'constant' stays.
    Backbone and stage factors come on top (optimizer.py).
    """
    def rate(step: int | Array) -> Float[Array, '']:
        step = jnp.asarray(step, jnp.float32)
        warm = jnp.minimum((step + 1) / max(config.warmup_steps, 1), 1.0)
        if config.schedule == 'cosine':
            length = max(total_steps - 1 - config.warmup_steps, 1)
            progress = jnp.clip((step - config.warmup_steps) / length, 0.0, 1.0)
            after = config.final_factor + (1 - config.final_factor) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        elif config.schedule == 'steps':
            falls = sum(jnp.where(step >= round(share * total_steps), 1, 0) for share in config.decay_steps)
            after = jnp.asarray(config.decay_factor, jnp.float32) ** falls
        else:
            after = 1.0
        return jnp.float32(config.learning_rate) * warm * after

    return rate
