"""Losses on one batch: pure, float32 inside, finite gradients for duplicate and zero embeddings.

`LOSSES` is what config.loss may give a weight.
"""

from pvlad_jax.config import LossConfig
from pvlad_jax.core.registry import Registry
from pvlad_jax.losses.auxiliary import AuxiliaryLoss
from pvlad_jax.losses.centre import CentreLoss
from pvlad_jax.losses.circle import CircleLoss
from pvlad_jax.losses.diversity import DiversityLoss
from pvlad_jax.losses.identity import IdentityLoss
from pvlad_jax.losses.oim import OimLoss
from pvlad_jax.losses.term import LossSizes, LossTerm, TermOutput
from pvlad_jax.losses.total import Terms, WeightedTerm, init_losses, total_loss
from pvlad_jax.losses.triplet import TripletLoss

__all__ = ['LOSSES', 'LossSizes', 'LossTerm', 'TermOutput', 'Terms', 'build_losses', 'init_losses', 'total_loss']

LOSSES = Registry(
    'config.loss',
    {
        'identity': IdentityLoss,
        'triplet': TripletLoss,
        'circle': CircleLoss,
        'centre': CentreLoss,
        'oim': OimLoss,
        'diversity': DiversityLoss,
        'auxiliary': AuxiliaryLoss,
    },
)


def build_losses(config: LossConfig) -> Terms:
    """The terms whose weight is above 0; one of weight 0 is not computed at all."""
    return {
        name: WeightedTerm(getattr(config, name), kind(config))
        for name, kind in LOSSES.items()
        if getattr(config, name)
    }
