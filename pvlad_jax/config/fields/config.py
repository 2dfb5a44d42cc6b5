"""The whole configuration: its sections, and the fields that belong to none."""

from dataclasses import dataclass

from pvlad_jax.config.fields.data import AugmentConfig, BatchConfig, ClipsConfig, DatasetConfig, InputConfig
from pvlad_jax.config.fields.evaluation import EvaluationConfig
from pvlad_jax.config.fields.model import ModelConfig, VladInitConfig
from pvlad_jax.config.fields.training import LossConfig, OptimizerConfig, TrainingConfig
from pvlad_jax.core.settings import section, setting


@dataclass(frozen=True)
class MeshConfig:
    data: int = setting(-1, 'devices over which the batch alone is split; -1 = all that fsdp leaves')
    fsdp: int = setting(
        1, 'devices over which parameters and optimiser state are sharded; the batch is split over these too'
    )


@dataclass(frozen=True)
class CheckpointConfig:
    keep_latest: int = setting(2, 'last checkpoints kept', at_least=1)
    keep_best: int = setting(1, 'best ones kept, by validation mAP, where a validation share is held out', at_least=0)


@dataclass(frozen=True)
class Config:
    seed: int = setting(
        0,
        'seed of initial weights, batches and augmentation; the same seed gives the same run',
        at_least=0,
        short='seed',
    )
    init_from: str = setting(
        '',
        'working directory of a run whose weights a new run begins with: WORKDIR or WORKDIR@STEP, a number, last '
        'or best (docs/transfer.md); read for a new run only; empty = none',
        resumable=True,
    )
    dataset: DatasetConfig = section(DatasetConfig)
    clips: ClipsConfig = section(ClipsConfig)
    batch: BatchConfig = section(BatchConfig)
    augment: AugmentConfig = section(AugmentConfig)
    input: InputConfig = section(InputConfig, resumable=True)
    model: ModelConfig = section(ModelConfig)
    vlad_init: VladInitConfig = section(VladInitConfig)
    loss: LossConfig = section(LossConfig)
    optimizer: OptimizerConfig = section(OptimizerConfig)
    training: TrainingConfig = section(TrainingConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig, resumable=True)
    mesh: MeshConfig = section(MeshConfig, resumable=True)
    checkpoint: CheckpointConfig = section(CheckpointConfig, resumable=True)
    compile_cache: str = setting(
        'workdir',
        'compiled programs are kept in WORKDIR/compile_cache; another folder, or empty = nowhere',
        resumable=True,
    )
    profile: str = setting(
        '', "'FIRST:LAST' writes a trace of these steps to WORKDIR/profile; empty = none", resumable=True
    )
