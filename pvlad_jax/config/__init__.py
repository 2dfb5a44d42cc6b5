"""The configuration of a run: every field once (`fields`), and what goes together (`combinations`)."""

from pvlad_jax.config.fields import (
    AugmentConfig,
    BackboneConfig,
    BatchConfig,
    CheckpointConfig,
    ClipsConfig,
    Config,
    DatasetConfig,
    EvaluationConfig,
    InputConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    VladInitConfig,
)
from pvlad_jax.config.freezing import apply_arguments, freeze, profiled_steps
from pvlad_jax.core.settings import changes, differences, flatten

__all__ = [
    'AugmentConfig',
    'BackboneConfig',
    'BatchConfig',
    'CheckpointConfig',
    'ClipsConfig',
    'Config',
    'DatasetConfig',
    'EvaluationConfig',
    'InputConfig',
    'LossConfig',
    'MeshConfig',
    'ModelConfig',
    'OptimizerConfig',
    'TrainingConfig',
    'VladInitConfig',
    'apply_arguments',
    'changes',
    'differences',
    'flatten',
    'freeze',
    'profiled_steps',
]
