"""Fields of the network: backbone, pooling, how the codebook begins."""

from dataclasses import dataclass

from pvlad_jax.core.settings import section, setting


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
        'of inflated 2D networks, where imported 2D kernels go: centre = to the tap of the centre frame, mean = to all '
        'three taps alike',
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
        'type of the convolutions; norms, softmax, sums, embedding and losses are float32 always, with all its bits',
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
    mask_kernel: int = setting(1, "kernel of the part masks' convolution: 1 (1x1x1) or 3 (3x3x3)", choices=(1, 3))
    shared_codebook: bool = setting(False, 'one codebook for all parts')
    vlad_norm: str = setting(
        'codeword',
        'what of the VLAD vector is brought to length 1 before the whole: codeword = the residuals of each codeword '
        '(intra-normalisation, Arandjelović 2013); part = those of each part, whose codewords keep their shares (ours)',
        choices=('codeword', 'part'),
        short='vlad_norm',
    )
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
    embedding_by_part: bool = setting(
        False,
        "each part's share of the descriptor has an embedding layer of its own, for E / P numbers; in place of one for "
        'all (ours; for few training people)',
        short='embedding_by_part',
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
    batches: int = setting(8, 'training batches that the local descriptors of k-means are drawn from', at_least=1)
