"""Diversity of the part masks (ours): without part labels they may all settle on the same region."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pvlad_jax.losses.term import LossTerm, TermOutput

EPSILON = 1e-12


def diversity_loss(masks: Float[Array, 'B ... P'], valid: Bool[Array, 'B ...'] | None = None) -> Float[Array, '']:
    """Mean over videos and pairs of different parts of the cosine between the two masks, taken over all
    locations of a video.

    1 = all masks proportional to each other, 0 = no two overlap. `valid` covers the leading axes of `masks`
    (such as [B S t] of [B S t h w P]); locations that are not valid count nothing. With fewer than two parts the
    loss is 0.
    """
    parts = masks.shape[-1]
    if parts < 2:
        return jnp.zeros((), jnp.float32)
    masks = masks.astype(jnp.float32)
    if valid is not None:
        masks = jnp.where(valid.reshape(valid.shape + (1,) * (masks.ndim - valid.ndim)), masks, 0.0)
    flat = masks.reshape(masks.shape[0], -1, parts)
    unit = flat / jnp.sqrt(jnp.sum(flat**2, axis=1, keepdims=True) + EPSILON)
    # Σ_{p≠q} u_p · u_q = |Σ_p u_p|² - Σ_p |u_p|²: no P x P products are needed.
    overlap = jnp.sum(jnp.sum(unit, axis=2) ** 2, axis=1) - jnp.sum(unit**2, axis=(1, 2))
    return jnp.mean(overlap) / (parts * (parts - 1))


class DiversityLoss(LossTerm):
    """A mean over videos: accumulation changes nothing in it. For poolings with part masks (config/combinations.py)."""

    def __call__(self, output: Any, labels: Int[Array, 'B'], params: dict, state: dict) -> TermOutput:
        return TermOutput(diversity_loss(output.part_masks, output.valid), {}, {})
