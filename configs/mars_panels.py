"""MARS panels: 404 people in a folder of small tracklets (8 frames of 54 x 118), on two CPU cores.

    python data_prep/build_tfds.py --dataset=tracklet_folder --source=mars_panels.zip --name=mars_panels --data_dir=data
    python data_prep/import_weights.py --source=torchreid --backbone=osnet_x0_25 --file=osnet_x0_25_msmt17.safetensors \
        --output=weights/osnet_x0_25_msmt17.safetensors
    python main.py --config=configs/mars_panels.py --workdir=runs/mars_panels

A network that already knows people (OSNet, trained on the image data set MSMT17), frame by frame, with PersonVLAD on
top: first the new layers on the frozen backbone, then all. Results are not those of MARS: the pictures have half its
resolution, tracklets eight frames, and the gallery is small (docs/results.md). It takes about an hour on two cores. To
choose settings, hold out training people:
--config.dataset.validation_share=0.2
"""

from ml_collections import ConfigDict

from configs import default


def get_config(arguments: str = '') -> ConfigDict:
    c = default.get_config()
    c.dataset.name = 'mars_panels'
    c.clips.frames, c.clips.stride = 2, 4  # two of a tracklet's eight frames, which lie apart
    c.clips.height, c.clips.width = 256, 128
    c.batch.identities, c.batch.tracklets = 16, 4

    c.augment.pad = 12
    c.augment.erase = 0.5
    c.augment.brightness = c.augment.contrast = c.augment.saturation = 0.1
    c.augment.channel = 0.1

    c.model.backbone.name = 'osnet_x0_25'
    c.model.backbone.temporal = '2d'  # eight frames spread over a tracklet hold no motion
    c.model.backbone.last_stride = 2
    c.model.backbone.weights = 'weights/osnet_x0_25_msmt17.safetensors'
    c.model.parts, c.model.clusters, c.model.descriptor_dim = 6, 8, 64  # P, K, D
    c.model.position_term = True
    c.model.embedding_dim = 512  # E
    c.model.bnneck = True
    c.vlad_init.batches = 4

    c.optimizer.learning_rate = 1.5e-3  # of the new layers
    c.optimizer.backbone_factor = 1 / 3  # 5e-4
    c.optimizer.weight_decay = 5e-4
    c.training.steps = 900
    c.training.frozen_backbone_steps = 90  # a tenth
    c.optimizer.warmup_steps = 90
    c.training.log_every = 20
    c.training.eval_every = 0  # at the end
    c.training.checkpoint_every = 100
    c.evaluation.flip = True
    c.evaluation.clips_per_step = 16
    return default.apply_arguments(c, arguments)
