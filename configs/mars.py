"""MARS: the whole method from Kinetics weights, on one large GPU (smaller ones: see below) or a TPU slice.

    python data_prep/build_tfds.py --dataset=mars --source=MARS_FOLDER --data_dir=data
    python data_prep/import_weights.py --source=i3d-kinetics --output=weights/i3d_kinetics.safetensors
    python main.py --config=configs/mars.py --workdir=runs/mars
    python main.py --config=configs/mars.py --workdir=runs/mars --mode=eval --config.evaluation.rerank=True

What to expect: NOT RUN on MARS here, so no result is promised; docs/benchmarks.md has the published ones to compare
with. The official protocol (1,980 queries, gallery 12,180) is the default. A tenth of the training people is held out,
and the checkpoint that ranks *them* best is scored. To train on all 625: --config.dataset.validation_share=0
--config.evaluation.checkpoint=last

Arguments after the file's name make ablations (short names in docs/configuration.md):
configs/mars.py:pooling=average,last_stride=2
- The Kinetics weights fit i3d and i3d_mixed_4f in 3D. Any other backbone, and temporal=2d, has other shapes and begins
  at random, unless weights=FILE names some that fit. A random start also turns off the frozen first stage, lets
  BatchNorm learn and uses a BNNeck (function `start`). So the fair partner of configs/mars.py:temporal=2d is
  configs/mars.py:weights= (3D, also at random), and not configs/mars.py.
- Give the backbone here and not as --config.model.backbone.name=..., which comes too late for the choice of weights.

Memory: a batch keeps some 56 GiB for the backward pass, 0.88 a tracklet (the residuals of jax.vjp in bfloat16, traced
on 22 November 2026, without XLA's fusions; not measured on a device), so a GPU of 80 GB or more. Smaller ones:
--config.optimizer.accumulate=2, 4 or 8 takes the batch in as many parts, each of whole people; the triplet loss then
finds its hardest negatives within a part, among the seven, three or one other people in it, which is an easier loss
than that of the whole batch;
--config.model.backbone.remat=True trades time for memory; --config.clips.height=128 --config.clips.width=64 needs a
quarter. Several devices share the batch by themselves.
"""

from ml_collections import ConfigDict

from configs import default

KINETICS = 'weights/i3d_kinetics.safetensors'  # made by data_prep/import_weights.py --source=i3d-kinetics
KINETICS_FITS = ('i3d', 'i3d_mixed_4f')


def get_config(arguments: str = '') -> ConfigDict:
    c = method()
    c.dataset.name = 'mars'
    c.dataset.validation_share = 0.1  # 62 of the 625 people choose the checkpoint
    # P x K of Hermans 2017 at twice the people; 130 batches pass over 8,298 tracklets once.
    c.batch.identities, c.batch.tracklets = 16, 4
    c.training.steps = 12_000  # 92 passes (ours)
    c.training.frozen_backbone_steps = 1_000  # first stage: the new layers on a frozen backbone (ActionVLAD)
    c.training.eval_every = 2_000
    c.evaluation.checkpoint = 'best'
    return start(default.apply_arguments(c, arguments), arguments)


def method() -> ConfigDict:
    """What the benchmarks share: the method's network and losses, and a recipe around it.

    Numbers are the method's unless marked (ours).
    """
    c = default.get_config()
    c.clips.segments = 2  # S: with T = 16 up to 32 frames, near the median tracklet of MARS (36) (ours)
    # T: four times the stride in time of Mixed_4f; 18 % of MARS's training tracklets are shorter, and are masked.
    c.clips.frames = 16
    c.clips.stride = 1  # every frame, as at test: a walk is then seen at the same speed (ours)
    c.clips.height, c.clips.width = 256, 128  # pixels, of MARS's own frames

    c.augment.pad = 10  # pixels; as Luo 2019
    c.augment.erase = 0.5  # as Luo 2019
    c.augment.brightness = c.augment.contrast = c.augment.saturation = 0.1  # (ours)

    c.input.threads = 16  # decoding 2,048 frames a batch of 16 x 4 is the host's work; set it to the number of cores
    c.input.prefetch = 4

    c.model.backbone.name = 'i3d_mixed_4f'  # I3D cut at Mixed_4f: 832 channels, a feature map of 4 x 32 x 16 for a clip
    c.model.backbone.weights = KINETICS
    c.model.backbone.last_stride = 1  # Luo 2019, Sun 2018
    c.model.backbone.batch_norm = (
        'frozen'  # Kinetics' statistics: the codebooks are initialised with them; for any batch (ours)
    )
    c.model.dtype = 'bfloat16'
    c.model.pooling = 'person_vlad'
    c.model.parts, c.model.clusters, c.model.descriptor_dim = 8, 16, 64  # P, K, D
    c.model.embedding_dim = 512  # E

    c.vlad_init.max_descriptors = 100_000  # a part's k-means
    c.vlad_init.batches = 16  # that they are drawn from

    c.loss.identity, c.loss.label_smoothing = 1.0, 0.1
    c.loss.triplet, c.loss.triplet_margin = 1.0, 0.3  # batch hard

    c.optimizer.name = 'adamw'
    c.optimizer.learning_rate = 3.5e-4  # as Luo 2019, for the new layers
    c.optimizer.backbone_factor = 0.3  # the backbone has learned before (ours)
    c.optimizer.schedule = 'cosine'
    c.optimizer.warmup_steps = 500  # (ours)
    c.optimizer.weight_decay = 5e-4  # as Luo 2019
    c.optimizer.clip_norm = 5.0  # (ours)

    c.training.log_every = 50
    c.training.checkpoint_every = 500

    c.evaluation.frames = 'all'
    c.evaluation.flip = True  # a video and its mirror image, averaged
    c.evaluation.distance = 'cosine'
    c.evaluation.clips_per_step = 64
    return c


def start(config: ConfigDict, arguments: str) -> ConfigDict:
    """Where the Kinetics weights do not fit and none are given, a random start and what goes with it."""
    backbone = config.model.backbone
    given = any(a.startswith('weights=') for a in arguments.split(','))
    if not given and (backbone.name not in KINETICS_FITS or backbone.temporal != '3d'):
        backbone.weights = ''
    if not backbone.weights:
        backbone.batch_norm = 'sync'  # there are no statistics yet
        config.training.frozen_backbone_steps = 0  # nothing is learned on top of random features
        config.optimizer.backbone_factor = 1.0
        config.model.bnneck = True  # from scratch, the losses on a bare embedding collapse it to a point
    return config
