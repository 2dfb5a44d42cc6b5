"""Every field of a configuration, with its meaning, unit and source. The other files of this folder change some of them.

Arguments may follow the file's name: `--config=configs/mars.py:pooling=average,backbone=c3d` (see ARGUMENTS), and any field
can be set by its path: `--config.optimizer.learning_rate=1e-3`.
"""

from ml_collections import ConfigDict

# Short names for the choices that ablations turn, and the fields behind them.
ARGUMENTS = {
    'pooling': 'model.pooling',
    'backbone': 'model.backbone.name',
    'temporal': 'model.backbone.temporal',
    'temporal_blocks': 'model.backbone.temporal_blocks',
    'inflation': 'model.backbone.inflation',
    'weights': 'model.backbone.weights',
    'last_stride': 'model.backbone.last_stride',
    'parts': 'model.parts',
    'words': 'model.words',
    'descriptor': 'model.descriptor',
    'embedding': 'model.embedding',
    'position': 'model.position_term',
    'split': 'dataset.split',
    'steps': 'training.steps',
    'seed': 'seed',
    'dtype': 'model.dtype',
}


def get_config(arguments: str = '') -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # of initial weights, batches and augmentation; the same seed gives the same run

    c.dataset = ConfigDict()
    c.dataset.name = 'synthetic'  # a folder of data_dir, made by data_prep/build_tfds.py
    c.dataset.data_dir = 'data'  # where data sets lie
    c.dataset.split = '0'  # which of the ten splits (iLIDS-VID, PRID 2011), or 'all' for all in turn; others have '0' only
    c.dataset.halves = 'wang2014'  # iLIDS-VID: 'wang2014' (first 150 of a row test) or 'swapped'
    c.dataset.validation_share = 0.0  # share of the training people held out to choose checkpoints by; 0 = none
    c.dataset.build_options = ConfigDict()  # how main.py builds a synthetic data set that is missing; empty = never build

    c.clips = ConfigDict()
    c.clips.segments = 1  # S: clips drawn from a training tracklet, one from each of S equal stretches
    c.clips.frames = 8  # T: frames of a clip
    c.clips.stride = 1  # step between the frames of a training clip, in frames; test clips use every frame
    c.clips.height = 128  # pixels, of the network's input
    c.clips.width = 64  # pixels

    c.batch = ConfigDict()
    c.batch.people = 8  # people in a training batch (P of P x K sampling, Hermans 2017)
    c.batch.tracklets = 4  # tracklets of each of them (K of P x K sampling)
    c.batch.together = 1  # so many people of consecutive numbers are drawn together (2 for twins: they meet in a batch)

    c.augment = ConfigDict()  # the same for all frames of a clip
    c.augment.flip = 0.5  # probability of a horizontal flip
    c.augment.pad = 4  # pixels added on each side before a random crop back to size
    c.augment.erase = 0.3  # probability that a rectangle is erased (Zhong 2020)
    c.augment.erase_area = (0.02, 0.25)  # its share of the picture, least and most
    c.augment.brightness = 0.2  # colour jitter: factors are drawn from 1 - value .. 1 + value
    c.augment.contrast = 0.2
    c.augment.saturation = 0.2

    c.input = ConfigDict()
    c.input.threads = 4  # threads that read and decode; batches are the same for any number
    c.input.prefetch = 4  # batches made ahead
    c.input.on_error = 'stop'  # a corrupt record: 'stop' with its name, or 'skip' and count

    c.model = ConfigDict()
    c.model.backbone = ConfigDict()
    c.model.backbone.name = 'r3d_tiny'  # a name of pvlad_jax.models.backbones.BACKBONES
    c.model.backbone.weights = ''  # safetensors file made by data_prep/import_weights.py; empty = random start
    c.model.backbone.temporal = '3d'  # '3d', or '2d': every temporal kernel 1 (the control)
    # Inflated 2D networks (osnet_*): which blocks see three frames. 'default', 'all', 'none', or blocks and stages: 'conv3.1+conv4'
    c.model.backbone.temporal_blocks = 'default'
    c.model.backbone.inflation = 'centre'  # where their imported 2D kernels go: the 'centre' frame's tap, or 'mean': all three alike
    c.model.backbone.last_stride = 1  # spatial stride of the last stage: 1 (Luo 2019, Sun 2018) or 2 (as published)
    c.model.backbone.batch_norm = 'live'  # 'live'; 'device': of each device's share apart; 'frozen': the imported ones, in training too
    c.model.backbone.remat = False  # recompute each stage in the backward pass: less memory, more time
    c.model.dtype = 'float32'  # of the convolutions: 'float32' or 'bfloat16'; norms, softmax, sums and losses are float32 always
    c.model.pooling = 'person_vlad'  # person_vlad, part_attention, average, max, stripes; pretrained_head: docs/backbones.md
    c.model.parts = 8  # P; 0 = VLAD without parts (NetVLAD); stripes: their number
    c.model.words = 16  # K: VLAD words a part
    c.model.descriptor = 64  # D: channels of a part's descriptor
    c.model.mask_kernel = 1  # of the part masks' convolution: 1 (1x1x1) or 3 (3x3x3)
    c.model.shared_codebook = False  # one set of words for all parts
    c.model.position_term = False  # learned value a part and place in the mask's logit, begun as bands from head to feet (ours)
    c.model.embedding = 512  # E; 0 = none: the pooled descriptor itself is the embedding
    c.model.bnneck = False  # BatchNorm between embedding and classifier (Luo 2019)

    c.vlad_init = ConfigDict()
    c.vlad_init.centred = True  # the descriptors' biases start so that u has mean 0 over the training set (ours)
    c.vlad_init.rule = 'netvlad'  # α from the distances to the two nearest centres (Arandjelović 2016), or 'fixed'
    c.vlad_init.alpha = 1000.0  # α of the rule 'fixed' (ActionVLAD, Girdhar 2017)
    c.vlad_init.alpha_scale = 1.0  # times the rule's α
    c.vlad_init.descriptors = 20_000  # at most so many local descriptors go into a part's k-means
    c.vlad_init.batches = 8  # training batches that they are drawn from

    c.loss = ConfigDict()  # weights of the terms; 0 turns one off
    c.loss.identity = 1.0  # cross-entropy over the training people
    c.loss.label_smoothing = 0.1
    c.loss.triplet = 1.0  # batch-hard triplet (Hermans 2017)
    c.loss.triplet_margin = 0.3  # Euclidean distance on unit vectors; negative = soft margin
    c.loss.circle = 0.0  # circle loss (Sun 2020)
    c.loss.circle_margin = 0.25
    c.loss.circle_scale = 64.0
    c.loss.centre = 0.0  # centre loss (Wen 2016)
    c.loss.oim = 0.0  # online instance matching (Xiao 2017)
    c.loss.oim_temperature = 0.1
    c.loss.oim_momentum = 0.5
    c.loss.diversity = 0.0  # overlap of the part masks (ours)

    c.optimizer = ConfigDict()
    c.optimizer.name = 'adamw'  # adamw, adam, sgd
    c.optimizer.learning_rate = 1e-3  # at its peak
    c.optimizer.backbone_factor = 1.0  # times the learning rate for the backbone's parameters
    c.optimizer.layer_decay = 1.0  # times that for each backbone stage further from the head
    c.optimizer.schedule = 'cosine'  # cosine, steps, constant; all after the warm-up
    c.optimizer.warmup_steps = 20
    c.optimizer.decay_steps = (0.5, 0.8)  # schedule 'steps': where it falls, shares of the run
    c.optimizer.decay_factor = 0.1  # schedule 'steps': by how much
    c.optimizer.final_factor = 0.01  # schedule 'cosine': where it ends, times the peak
    c.optimizer.weight_decay = 1e-4  # not on biases, norms, VLAD words and position terms
    c.optimizer.momentum = 0.9  # sgd
    c.optimizer.clip_norm = 5.0  # of the whole gradient; 0 = no clipping
    c.optimizer.ema = 0.0  # decay of the parameters' moving average, which is then evaluated; 0 = none
    c.optimizer.accumulate = 1  # gradients of so many parts of a batch are added before an update

    c.training = ConfigDict()
    c.training.steps = 200
    c.training.head_steps = 0  # first stage: so many steps with the backbone frozen (ActionVLAD's two stages)
    c.training.log_every = 10  # steps
    c.training.eval_every = 100  # steps; 0 = at the end only
    c.training.eval_untrained = False  # evaluate before the first step as well
    c.training.checkpoint_every = 50  # steps
    c.training.stop_on_nonfinite = True  # NaN or Inf in the loss or gradient ends the run, the last good checkpoint kept
    c.training.grace_seconds = 25.0  # from SIGTERM to the end, saved or not; clouds give 30 s or more

    c.evaluation = ConfigDict()
    c.evaluation.protocol = ''  # mars_official, gallery_only, cross_camera; empty = the data set's own
    c.evaluation.frames = 'all'  # 'all', 'even:N' evenly spread, 'every:N' the first and every N-th after it, 'first:N'
    c.evaluation.checkpoint = 'last'  # 'last', 'best' by the mAP of the validation people; --mode=eval: 'untrained', none
    c.evaluation.flip = False  # average the embeddings of a video and of its mirror image
    c.evaluation.distance = 'cosine'  # cosine, euclidean, xqda, kissme
    c.evaluation.rerank = False  # k-reciprocal re-ranking (Zhong 2017)
    c.evaluation.clips_per_step = 32  # clips on all devices together in a step of embedding
    c.evaluation.strips = 8  # queries shown in the picture of ranked strips (and up to 4 in that of part masks); 0 = no pictures

    c.mesh = ConfigDict()
    c.mesh.data = -1  # devices along the batch; -1 = the rest
    c.mesh.fsdp = 1  # devices over which parameters and optimiser state are sharded; the batch is split over these too

    c.checkpoint = ConfigDict()
    c.checkpoint.keep_latest = 2
    c.checkpoint.keep_best = 1  # by validation mAP, where a validation share is held out

    c.compile_cache = 'workdir'  # compiled programs are kept in WORKDIR/compile_cache; another folder, or empty = nowhere
    c.profile = ''  # 'FIRST:LAST' writes a trace of these steps to WORKDIR/profile; empty = none
    return apply_arguments(c, arguments)


def apply_arguments(config: ConfigDict, arguments: str) -> ConfigDict:
    """Sets the fields named in 'pooling=average,parts=0'. An unknown name raises ValueError with the known ones."""
    for argument in filter(None, arguments.split(',')):
        name, equals, value = argument.partition('=')
        if not equals or name not in ARGUMENTS:
            raise ValueError(f'Config argument {argument!r} is not NAME=VALUE with NAME one of: {", ".join(sorted(ARGUMENTS))}.')
        *path, leaf = ARGUMENTS[name].split('.')
        node = config
        for part in path:
            node = node[part]
        old = node[leaf]
        node[leaf] = value.lower() in ('1', 'true', 'yes') if isinstance(old, bool) else type(old)(value)
    return config
