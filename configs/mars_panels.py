"""MARS panels: 404 people in a folder of small tracklets (8 frames of 54 x 118), on two CPU cores.

    python data_prep/build_tfds.py --dataset=tracklet_folder --source=mars_panels.zip --name=mars_panels --data_dir=data
    python data_prep/import_weights.py --source=torchreid --backbone=osnet_x0_25 --file=osnet_x0_25_msmt17.safetensors \
        --output=weights/osnet_x0_25_msmt17.safetensors
    python main.py --config=configs/mars_panels.py --workdir=runs/mars_panels
    python main.py --config=configs/mars_panels.py:backbone=osnet_x0_5 --workdir=runs/mars_panels_x0_5

A network that already knows people (OSNet, trained on the image data set MSMT17), frame by frame, with PersonVLAD on
top: first the new layers on the frozen backbone, then all. Results are not those of MARS: the pictures have half its
resolution, tracklets eight frames, and the gallery is small (docs/results.md). Training takes about an hour on two
cores. The last command, with a network twice as wide, takes as long and reaches nine points of mAP more; its
weights are imported with --source=torchreid-onnx (docs/results.md). Memory in huge pages makes steps faster
(docs/performance.md). To choose settings, hold out training people: --config.dataset.validation_share=0.2

Arguments after the file's name, and the weights of other backbones: as in configs/mars.py.
"""

from ml_collections import ConfigDict

from configs.recipe import recipe, start


def get_config(arguments: str = '') -> ConfigDict:
    c = recipe(steps=900, height=256, width=128)
    c.dataset.name = 'mars_panels'
    c.clips.frames, c.clips.stride = 2, 4  # two of a tracklet's eight frames, which lie apart
    c.model.backbone.name = 'osnet_x0_25'
    c.model.backbone.temporal = '2d'  # eight frames spread over a tracklet hold no motion
    c.training.log_every = 20
    c.training.eval_every = 0  # at the end
    c.training.checkpoint_every = 100
    c.evaluation.clips_per_step = 16
    return start(c, arguments)
