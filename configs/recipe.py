"""The recipe that the configurations of real people share: losses, augmentation, optimisation, two stages.

The other files of this folder add data, length and device. What is here was kept because it helped on training people
who were held out, or because the field does it; docs/results.md has the runs, with what did not help. Numbers are ours
unless a source is named.
"""

from ml_collections import ConfigDict

from configs import default

KINETICS = 'weights/i3d_kinetics.safetensors'


def recipe(steps: int, height: int, width: int) -> ConfigDict:
    """PersonVLAD on a backbone that has learned before. `start` completes it.

    Args:
      steps: of the whole run.
      height, width: of the frames, in pixels.
    """
    c = default.get_config()
    c.clips.height, c.clips.width = height, width
    c.batch.identities, c.batch.tracklets = 16, 4  # Hermans 2017 has 18 x 4

    c.augment.pad = round(height * 3 / 64)  # of 256 pixels 12; Luo 2019 has 10
    c.augment.erase = 0.5  # as Luo 2019
    c.augment.brightness = c.augment.contrast = c.augment.saturation = 0.1
    c.augment.channel = 0.1

    c.model.backbone.last_stride = 2  # as published weights were trained
    c.model.pooling = 'person_vlad'
    c.model.parts, c.model.clusters, c.model.descriptor_dim = 6, 8, 64  # P, K, D
    c.model.position_term = True
    c.model.embedding_dim = 512  # E
    c.model.bnneck = True  # Luo 2019
    c.vlad_init.batches = 4

    c.loss.identity, c.loss.label_smoothing = 1.0, 0.1
    c.loss.triplet, c.loss.triplet_margin = 1.0, 0.3  # batch hard

    c.optimizer.name = 'adamw'
    c.optimizer.learning_rate = 1.5e-3  # of the new layers
    c.optimizer.backbone_factor = 1 / 3  # 5e-4
    c.optimizer.weight_decay = 5e-4  # as Luo 2019
    c.optimizer.clip_norm = 5.0
    c.optimizer.schedule = 'cosine'
    c.training.steps = steps

    c.evaluation.frames = 'all'
    c.evaluation.flip = True  # a video and its mirror image, averaged
    c.evaluation.distance = 'cosine'
    return c


def start(config: ConfigDict, arguments: str) -> ConfigDict:
    """Applies the arguments and chooses what depends on them: weights, stages, warm-up.

    The weights are the file of `weights_of`, unless weights=FILE names others. Where there are none, the start is
    random: one stage, and one learning rate for all.
    """
    config = default.apply_arguments(config, arguments)
    backbone = config.model.backbone
    if not any(a.startswith('weights=') for a in arguments.split(',')):
        backbone.weights = weights_of(backbone.name, backbone.temporal)
    config.optimizer.warmup_steps = config.training.steps // 10
    # First the new layers on the frozen backbone, for a tenth of the run; on random features nothing would be learned.
    config.training.frozen_backbone_steps = config.training.steps // 10 if backbone.weights else 0
    if not backbone.weights:
        config.optimizer.backbone_factor = 1.0
    return config


def weights_of(backbone: str, temporal: str) -> str:
    """Where the file that docs/weights.md makes for a backbone is looked for; '' where no public weights fit."""
    if backbone.startswith('osnet_'):
        return f'weights/{backbone}_msmt17.safetensors'
    if backbone.startswith('resnet50'):
        return f'weights/{backbone}_imagenet.safetensors'
    if backbone in ('i3d', 'i3d_mixed_4f') and temporal == '3d':
        return KINETICS
    return ''
