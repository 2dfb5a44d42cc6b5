"""The learning rate over a run: a linear warm-up, then cosine, steps or constant."""

from collections.abc import Callable, Sequence

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
    A run that goes on with more steps: `steps_of_schedule`.
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


def steps_of_schedule(config: OptimizerConfig, ends: Sequence[int], now: int) -> int:
    """What `learning_rate` takes for the total steps of a run that was given more of them.

    'steps' falls where it was to fall at first, so that a rate that has fallen does not rise again; 'cosine' is defined
    by its new end.

    Args:
      ends: numbers of steps that the run was given before, the first one first; [] = a new run.
      now: its number of steps now.
    """
    return ends[0] if ends and config.schedule == 'steps' else now


def longer_run(config: OptimizerConfig, step: int, ends: Sequence[int], now: int) -> str:
    """A sentence on the learning rate of a run that goes on after `step` updates with more steps than its last end;
    arguments as above.
    """
    before, after = (
        float(learning_rate(config, steps_of_schedule(config, ends, end))(step)) for end in (ends[-1], now)
    )
    what = {
        'constant': 'is constant and stays',
        'steps': f'falls at the same steps as before, shares of the first {ends[0]},',
    }
    if config.schedule == 'cosine':
        return (
            f'{now} steps instead of {ends[-1]}: the cosine of the learning rate is defined by its new end, so the '
            f'rate goes on at {after:.3g}, where it was {before:.3g}.'
        )
    return f'{now} steps instead of {ends[-1]}: the learning rate {what[config.schedule]} and goes on at {after:.3g}.'
