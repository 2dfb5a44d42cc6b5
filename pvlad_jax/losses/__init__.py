"""Losses on one batch: pure functions, float32 inside, finite gradients for duplicate and zero embeddings."""

from pvlad_jax.losses.centre import centre_loss
from pvlad_jax.losses.circle import circle_loss
from pvlad_jax.losses.diversity import diversity_loss
from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.oim import oim_loss
from pvlad_jax.losses.total import check_loss, init_loss_state, total_loss
from pvlad_jax.losses.triplet import batch_hard_triplet

__all__ = [
    'batch_hard_triplet',
    'centre_loss',
    'check_loss',
    'circle_loss',
    'cross_entropy',
    'diversity_loss',
    'init_loss_state',
    'oim_loss',
    'total_loss',
]
