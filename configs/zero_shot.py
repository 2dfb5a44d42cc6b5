"""A published image network as it is, without any training: its own feature, averaged over a tracklet's frames.

    python data_prep/import_weights.py --source=torchreid --file=osnet_x0_25_msmt17.pth \
        --output=weights/osnet_x0_25_msmt17.safetensors
    python main.py --mode=eval --config=configs/zero_shot.py:weights=weights/osnet_x0_25_msmt17.safetensors \
        --config.dataset.name=my_tracklets --workdir=runs/zero_shot

The yardstick that training has to beat. The feature is that of the network's own head (OSNet, resnet50_fc512: global
average, linear layer to 512, BatchNorm, ReLU); ResNet-50 without one:
configs/zero_shot.py:backbone=resnet50,pooling=average,weights=... (2,048 channels). Frames are resized to 256 x 128, as
these networks were trained.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(arguments: str = '') -> ConfigDict:
    c = default.get_config()
    c.dataset.name = 'tracklet_folder'
    c.clips.height, c.clips.width = 256, 128
    c.model.backbone.name = 'osnet_x0_25'
    c.model.backbone.temporal = '2d'  # the published network; at its start the 3D one is the same function
    c.model.backbone.last_stride = 2
    c.model.pooling = 'pretrained_head'
    c.model.embedding_dim = 0
    c.evaluation.checkpoint = 'untrained'
    return default.apply_arguments(c, arguments)
