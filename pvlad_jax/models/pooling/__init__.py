"""How local features of a video become one descriptor; `POOLINGS` is what config.model.pooling may say."""

from pvlad_jax.config import ModelConfig
from pvlad_jax.core.registry import Registry
from pvlad_jax.models.pooling.global_pooling import Average, Maximum
from pvlad_jax.models.pooling.interface import Intermediates, Pooling, Statistics
from pvlad_jax.models.pooling.part_attention import PartAttention
from pvlad_jax.models.pooling.person_vlad import PersonVlad
from pvlad_jax.models.pooling.pretrained_head import HeadAverage
from pvlad_jax.models.pooling.stripes import Stripes

__all__ = ['POOLINGS', 'Intermediates', 'Pooling', 'Statistics', 'build_pooling']

POOLINGS = Registry(
    'config.model.pooling',
    {
        'person_vlad': PersonVlad,
        'part_attention': PartAttention,
        'average': Average,
        'max': Maximum,
        'stripes': Stripes,
        'pretrained_head': HeadAverage,
    },
)


def build_pooling(model: ModelConfig) -> Pooling:
    """The pooling of a configuration. UserError for an unknown name or a combination that there cannot be."""
    return POOLINGS[model.pooling].from_config(model)
