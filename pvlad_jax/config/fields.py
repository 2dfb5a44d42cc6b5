"""Every field of a configuration, once: default, meaning with unit and source, and what it may be.

`configs/default.py`, --help, docs/configuration.md and the checks of `freeze` are derived from this file. Names of
backbones, poolings, protocols and distances are those of their registries, which refuse an unknown one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pvlad_jax.core.settings import section, setting


@dataclass(frozen=True)
class DatasetConfig:
    name: str = setting(
        'synthetic',
        'a folder of data_dir, made by data_prep/build_tfds.py; several, joined by +, train one network, each '
        'NAME or NAME@SPLIT: mars+prid2011@3 (docs/transfer.md)',
    )
    data_dir: str = setting('data', 'folder of the data sets', resumable=True)
    split: str = setting(
        '0',
        "which of the ten splits (iLIDS-VID, PRID 2011), or 'all' for all in turn; others have '0' only",
        short='split',
    )
    halves: str = setting(
        'wang2014',
        "of iLIDS-VID's splits: 'wang2014' (the first 150 of a row are test) or 'swapped'",
        choices=('wang2014', 'swapped'),
    )
    validation_share: float = setting(
        0.0, 'share of the training identities held out to choose checkpoints by; 0 = none', at_least=0, below=1
    )
    train_people: int = setting(
        0,
        'training identities that are kept, drawn by the seed so that more hold fewer, of each data set of a join; '
        '0 = all',
        at_least=0,
        short='train_people',
    )
    on_change: str = setting(
        'stop',
        'when a run is resumed and its data set was rebuilt from other data: stop, or accept them',
        choices=('stop', 'accept'),
        resumable=True,
    )
    build_options: Mapping = setting(
        {}, 'how main.py builds a synthetic data set that is missing; empty = never', resumable=True
    )


@dataclass(frozen=True)
class ClipsConfig:
    segments: int = setting(1, 'S: clips of a training tracklet, one from each of S equal stretches', at_least=1)
    frames: int = setting(8, 'T: frames of a clip', at_least=1)
    stride: int = setting(
        1, 'step between the frames of a training clip, in frames; test clips use every frame', at_least=1
    )
    height: int = setting(128, "height of the network's input, in pixels", at_least=1)
    width: int = setting(64, "width of the network's input, in pixels", at_least=1)


@dataclass(frozen=True)
class BatchConfig:
    identities: int = setting(
        8,
        'P of P x K sampling: identities in a training batch (Hermans 2017)',
        at_least=1,
        renamed_from='batch.people',
        former_works=True,
    )
    tracklets: int = setting(4, 'K of P x K sampling: tracklets of each of them', at_least=1)
    group_size: int = setting(
        1,
        'identities of consecutive numbers drawn together (2 for twins: they meet in a batch); divides identities',
        at_least=1,
        renamed_from='batch.together',
    )
    sampling: str = setting(
        'proportional',
        'of joined data sets: proportional = people are drawn from all of them alike, so that a data set has the share '
        'of its number of people; balanced = each gives equally many people to every batch',
        choices=('proportional', 'balanced'),
    )

    @property
    def size(self) -> int:
        """Tracklets in a batch, P·K."""
        return self.identities * self.tracklets


@dataclass(frozen=True)
class AugmentConfig:
    flip: float = setting(
        0.5,
        'probability of a horizontal flip; as all of these, the same for all frames of a clip',
        at_least=0,
        at_most=1,
    )
    pad: int = setting(4, 'pixels added on each side before a random crop back to size', at_least=0)
    erase: float = setting(0.3, 'probability that a rectangle is erased (Zhong 2020)', at_least=0, at_most=1)
    erase_area: tuple = setting((0.02, 0.25), 'its share of the picture, least and most')
    brightness: float = setting(
        0.2, 'colour jitter: the factor of the brightness is drawn from 1 - value .. 1 + value', at_least=0
    )
    contrast: float = setting(0.2, "likewise for the contrast about the clip's mean grey", at_least=0)
    saturation: float = setting(0.2, 'likewise for the saturation', at_least=0)
    channel: float = setting(
        0.0, "likewise for each colour channel by itself, as another camera's white balance would", at_least=0
    )


@dataclass(frozen=True)
class InputConfig:
    threads: int = setting(4, 'threads that read and decode; batches are the same for any number', at_least=1)
    prefetch: int = setting(4, 'batches prepared ahead', at_least=0)
    on_error: str = setting(
        'stop',
        'a tracklet that cannot be decoded: stop with its name, or skip it (docs/cloud.md) and count',
        choices=('stop', 'skip'),
    )


@dataclass(frozen=True)
class BackboneConfig:
    name: str = setting('r3d_tiny', 'architecture: a name of models.backbones.BACKBONES', short='backbone')
    weights: str = setting(
        '',
        'safetensors file of data_prep/import_weights.py, read for a new run only; empty = random values',
        short='weights',
        resumable=True,
    )
    temporal: str = setting(
        '3d', '3d, or 2d: every temporal kernel 1 (the control)', choices=('3d', '2d'), short='temporal'
    )
    temporal_blocks: str = setting(
        'default',
        'of inflated 2D networks (osnet_*, resnet50*), which blocks see three frames: default, all, '
        'none, or blocks and stages: conv3.1+conv4',
        short='temporal_blocks',
    )
    inflation: str = setting(
        'centre',
        "where their imported 2D kernels go: to the centre frame's tap, or mean: all three taps alike",
        choices=('centre', 'mean'),
        short='inflation',
        resumable=True,
    )
    last_stride: int = setting(
        1,
        'spatial stride of the last stage: 1 (Luo 2019, Sun 2018) or 2 (as published)',
        choices=(1, 2),
        short='last_stride',
    )
    time_padding: str = setting(
        'zero',
        'what temporal kernels of R3D and R(2+1)D see beyond the ends of a clip: zero (as published), or continued: '
        'the first and the last frame again',
        choices=('zero', 'continued'),
    )
    batch_norm: str = setting(
        'sync',
        "statistics of BatchNorm in training: sync = of the whole batch; local = of each device's share; "
        'frozen = the imported ones',
        choices=('sync', 'local', 'frozen'),
        renamed_choices={'live': 'sync', 'device': 'local'},
    )
    remat: bool = setting(False, 'recompute each stage in the backward pass: less memory, more time', resumable=True)


@dataclass(frozen=True)
class ModelConfig:
    backbone: BackboneConfig = section(BackboneConfig)
    dtype: str = setting(
        'float32',
        'of the convolutions; norms, softmax, sums and losses are float32 always',
        choices=('float32', 'bfloat16'),
        short='dtype',
    )
    pooling: str = setting(
        'person_vlad', 'how local features become one descriptor: a name of models.pooling.POOLINGS', short='pooling'
    )
    parts: int = setting(
        8, 'P: parts; 0 = VLAD without parts (NetVLAD); of stripes, their number', at_least=0, short='parts'
    )
    clusters: int = setting(
        16,
        "K: clusters of a part's codebook",
        at_least=1,
        short='clusters',
        renamed_from='model.words',
        former_works=True,
    )
    descriptor_dim: int = setting(
        64,
        "D: channels of a part's descriptor",
        at_least=1,
        short='descriptor_dim',
        renamed_from='model.descriptor',
        former_works=True,
    )
    mask_kernel: int = setting(1, "of the part masks' convolution: 1 (1x1x1) or 3 (3x3x3)", choices=(1, 3))
    shared_codebook: bool = setting(False, 'one codebook for all parts')
    position_term: bool = setting(
        False,
        "a learned value for each part and location in the mask's logit, initialised as bands from head to feet (ours)",
        short='position',
    )
    colour_masks: bool = setting(
        False,
        'part masks that begin as a segmentation of each clip by colour into parts and background, and compete in a '
        'softmax; in place of sigmoids (docs/part_masks.md; ours)',
        short='colour_masks',
    )
    embedding_dim: int = setting(
        512,
        'E: size of the embedding; 0 = the pooled descriptor itself',
        at_least=0,
        short='embedding_dim',
        renamed_from='model.embedding',
        former_works=True,
    )
    bnneck: bool = setting(False, 'BatchNorm between embedding and classifier (Luo 2019)')


@dataclass(frozen=True)
class VladInitConfig:
    centre_descriptors: bool = setting(
        True,
        "initialise the descriptors' biases so that u has mean 0 over the training set (ours)",
        renamed_from='vlad_init.centred',
    )
    rule: str = setting(
        'netvlad',
        'netvlad: α from the distances to the two nearest centres (Arandjelović 2016); fixed: vlad_init.alpha',
        choices=('netvlad', 'fixed'),
    )
    alpha: float = setting(1000.0, "α of the rule 'fixed' (ActionVLAD, Girdhar 2017)", above=0)
    alpha_scale: float = setting(1.0, "factor of the rule's α", above=0)
    from_data: bool = setting(
        False,
        'with init_from: codewords and centring from the training data anew, instead of those of that run',
        resumable=True,
    )
    max_descriptors: int = setting(
        20_000,
        "the most local descriptors in a part's k-means",
        at_least=1,
        renamed_from='vlad_init.descriptors',
        former_works=True,
    )
    batches: int = setting(8, 'training batches that they are drawn from', at_least=1)


@dataclass(frozen=True)
class LossConfig:
    identity: float = setting(
        1.0, 'weight of the cross-entropy over the training identities; 0 turns it off, as all of these', at_least=0
    )
    label_smoothing: float = setting(0.1, 'of the cross-entropy (Szegedy 2016)', at_least=0, below=1)
    triplet: float = setting(1.0, 'weight of the batch-hard triplet loss (Hermans 2017)', at_least=0)
    triplet_margin: float = setting(0.3, 'its margin, in Euclidean distance of unit vectors; negative = soft margin')
    circle: float = setting(0.0, 'weight of the circle loss (Sun 2020)', at_least=0)
    circle_margin: float = setting(0.25, 'its relaxation margin m')
    circle_scale: float = setting(64.0, 'its scale γ', above=0)
    centre: float = setting(0.0, 'weight of the centre loss (Wen 2016)', at_least=0)
    oim: float = setting(0.0, 'weight of online instance matching (Xiao 2017)', at_least=0)
    oim_temperature: float = setting(0.1, 'its temperature', above=0)
    oim_momentum: float = setting(0.5, "share of the old row in its table's update", at_least=0, below=1)
    diversity: float = setting(0.0, 'weight of the overlap of part masks (ours)', at_least=0)


@dataclass(frozen=True)
class OptimizerConfig:
    name: str = setting('adamw', 'update rule', choices=('adamw', 'adam', 'sgd'))
    learning_rate: float = setting(1e-3, 'at its peak', above=0)
    backbone_factor: float = setting(1.0, "factor of the learning rate for the backbone's parameters", at_least=0)
    layer_decay: float = setting(1.0, 'further factor for each backbone stage away from the head', at_least=0)
    schedule: str = setting('cosine', 'of the learning rate after the warm-up', choices=('cosine', 'steps', 'constant'))
    warmup_steps: int = setting(20, 'steps of linear warm-up', at_least=0)
    decay_steps: tuple = setting((0.5, 0.8), "schedule 'steps': where the rate falls, as shares of the run")
    decay_factor: float = setting(0.1, "schedule 'steps': the factor of each fall")
    final_factor: float = setting(0.01, "schedule 'cosine': where it ends, as a share of the peak")
    weight_decay: float = setting(1e-4, 'not on biases, norms, codebooks and position terms', at_least=0)
    momentum: float = setting(0.9, 'of sgd', at_least=0, below=1)
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
    steps: int = setting(200, 'updates', at_least=1, short='steps', grows=True)
    frozen_backbone_steps: int = setting(
        0,
        "first stage: updates with the backbone frozen (ActionVLAD's two stages)",
        at_least=0,
        renamed_from='training.head_steps',
    )
    log_every: int = setting(10, 'steps', at_least=1, resumable=True)
    eval_every: int = setting(100, 'steps; 0 = at the end only', at_least=0, resumable=True)
    eval_untrained: bool = setting(False, 'evaluate before the first step as well', resumable=True)
    checkpoint_every: int = setting(50, 'steps', at_least=1, resumable=True)
    stop_on_nonfinite: bool = setting(
        True, 'NaN or Inf in the loss or gradient ends the run; the last good checkpoint is kept'
    )
    grace_seconds: float = setting(
        25.0, 'from SIGTERM to the end, saved or not; clouds give 30 s or more', at_least=0, resumable=True
    )


@dataclass(frozen=True)
class EvaluationConfig:
    dataset: str = setting(
        '',
        'for --mode=eval: other data sets of data_dir to score the same network on, NAME or NAME@SPLIT, several by '
        'commas (docs/transfer.md); empty = its own',
    )
    protocol: str = setting('', "a name of evaluation.protocols.PROTOCOLS; empty = the data set's own")
    unknown_cameras: str = setting(
        'refuse',
        'where a protocol compares them: refuse; other: each is a camera of its own; ignore',
        choices=('refuse', 'other', 'ignore'),
    )
    frames: str = setting(
        'all', "'all', 'even:N' evenly spread, 'every:N' the first and every N-th after it, 'first:N'"
    )
    checkpoint: str = setting(
        'last',
        'last, or best by the mAP of the validation identities; for --mode=eval also untrained',
        choices=('last', 'best', 'untrained'),
    )
    flip: bool = setting(False, 'average the embeddings of a video and of its mirror image')
    distance: str = setting('cosine', 'a name of evaluation.distances.DISTANCES; some are learned on the training set')
    rerank: bool = setting(False, 'k-reciprocal re-ranking (Zhong 2017)')
    trained_people: str = setting(
        'refuse',
        'where people of a test set were trained on, as far as that is known: refuse, or accept and '
        'say so in the result',
        choices=('refuse', 'accept'),
    )
    clips_per_step: int = setting(32, 'clips on all devices together in a step of embedding', at_least=1)
    strips: int = setting(
        8,
        'queries in the picture of ranked strips (and up to 4 in that of part masks); 0 = no pictures, and no count of '
        'codewords',
        at_least=0,
    )


@dataclass(frozen=True)
class MeshConfig:
    data: int = setting(-1, 'devices along the batch; -1 = the rest')
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
        0, 'of initial weights, batches and augmentation; the same seed gives the same run', at_least=0, short='seed'
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
