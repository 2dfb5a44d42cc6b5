"""The configuration of a run: every field once, and what it may be."""

from pvlad_jax.config.fields import (
    ADDED,
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
    differences,
    flatten,
    freeze,
    profiled_steps,
)

__all__ = ['ADDED', 'AugmentConfig', 'BackboneConfig', 'BatchConfig', 'CheckpointConfig', 'ClipsConfig', 'Config', 'DatasetConfig',
           'EvaluationConfig', 'InputConfig', 'LossConfig', 'MeshConfig', 'ModelConfig', 'OptimizerConfig', 'TrainingConfig',
           'VladInitConfig', 'differences', 'flatten', 'freeze', 'profiled_steps']
