"""The configuration of a run: every field once (`fields`), and what goes together (`combinations`)."""

from pvlad_jax.config.fields.config import CheckpointConfig, Config, MeshConfig
from pvlad_jax.config.fields.data import AugmentConfig, BatchConfig, ClipsConfig, DatasetConfig, InputConfig
from pvlad_jax.config.fields.evaluation import EvaluationConfig
from pvlad_jax.config.fields.model import BackboneConfig, ModelConfig, VladInitConfig
from pvlad_jax.config.fields.training import LossConfig, OptimizerConfig, TrainingConfig
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
