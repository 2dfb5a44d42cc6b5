"""Fields of training: losses, optimisation, length."""

from dataclasses import dataclass

from pvlad_jax.core.settings import setting


@dataclass(frozen=True)
class LossConfig:
    identity: float = setting(
        1.0, 'weight of the cross-entropy over the training identities; 0 turns it off, as all of these', at_least=0
    )
    label_smoothing: float = setting(0.1, 'label smoothing of the cross-entropy (Szegedy 2016)', at_least=0, below=1)
    triplet: float = setting(1.0, 'weight of the batch-hard triplet loss (Hermans 2017)', at_least=0)
    triplet_margin: float = setting(
        0.3, 'margin of the triplet loss, in Euclidean distance of unit vectors; negative = soft margin'
    )
    circle: float = setting(0.0, 'weight of the circle loss (Sun 2020)', at_least=0)
    circle_margin: float = setting(0.25, 'relaxation margin m of the circle loss')
    circle_scale: float = setting(64.0, 'scale γ of the circle loss', above=0)
    centre: float = setting(0.0, 'weight of the centre loss (Wen 2016)', at_least=0)
    oim: float = setting(0.0, 'weight of online instance matching (Xiao 2017)', at_least=0)
    oim_temperature: float = setting(0.1, 'temperature of online instance matching', above=0)
    oim_momentum: float = setting(
        0.5, 'share of the old row in an update of the table of online instance matching', at_least=0, below=1
    )
    diversity: float = setting(0.0, 'weight of the overlap of part masks, which keeps them apart (ours)', at_least=0)
    auxiliary: float = setting(
        0.0,
        'weight of identity and triplet losses of a second head, on the mean of the local features, which is left out '
        'at test (deep supervision, Lee 2015)',
        at_least=0,
    )


@dataclass(frozen=True)
class OptimizerConfig:
    name: str = setting('adamw', 'update rule', choices=('adamw', 'adam', 'sgd'))
    learning_rate: float = setting(1e-3, 'learning rate at its peak', above=0)
    backbone_factor: float = setting(1.0, "factor of the learning rate for the backbone's parameters", at_least=0)
    layer_decay: float = setting(1.0, 'further factor for each backbone stage away from the head', at_least=0)
    mask_factor: float = setting(
        1.0, 'factor of the learning rate for part masks: their convolution and position term', at_least=0
    )
    schedule: str = setting(
        'cosine', 'schedule of the learning rate after the warm-up', choices=('cosine', 'steps', 'constant')
    )
    warmup_steps: int = setting(20, 'steps of linear warm-up', at_least=0)
    decay_steps: tuple = setting((0.5, 0.8), "schedule 'steps': where the rate falls, as shares of the run")
    decay_factor: float = setting(0.1, "schedule 'steps': the factor of each fall")
    final_factor: float = setting(0.01, "schedule 'cosine': where the rate ends, as a share of its peak")
    weight_decay: float = setting(
        1e-4,
        'weight decay; not of biases, norms, codebooks, position terms and the centres of the centre loss',
        at_least=0,
    )
    momentum: float = setting(0.9, 'momentum of sgd', at_least=0, below=1)
    clip_norm: float = setting(5.0, 'largest norm of the whole gradient; 0 = no clipping', at_least=0)
    ema: float = setting(
        0.0,
        'decay of the moving average of parameters and BatchNorm statistics, which is then evaluated; 0 = none',
        at_least=0,
        at_most=1,
    )
    accumulate: int = setting(
        1,
        'parts that a batch is processed in, to save memory; with the triplet or circle loss each needs two identities',
        at_least=1,
    )


@dataclass(frozen=True)
class TrainingConfig:
    steps: int = setting(200, 'updates of the whole run', at_least=1, short='steps', grows=True)
    frozen_backbone_steps: int = setting(
        0,
        "first stage: updates with the backbone frozen (ActionVLAD's two stages)",
        at_least=0,
        renamed_from='training.head_steps',
    )
    log_every: int = setting(10, 'steps between two lines of the log', at_least=1, resumable=True)
    eval_every: int = setting(100, 'steps between two evaluations; 0 = one at the end only', at_least=0, resumable=True)
    eval_untrained: bool = setting(False, 'evaluate before the first step as well', resumable=True)
    checkpoint_every: int = setting(50, 'steps between two checkpoints', at_least=1, resumable=True)
    stop_on_nonfinite: bool = setting(
        True, 'NaN or Inf in loss, gradient or parameters ends the run before they are saved'
    )
    grace_seconds: float = setting(
        25.0, 'seconds from SIGTERM to the end, saved or not; clouds give 30 s or more', at_least=0, resumable=True
    )
