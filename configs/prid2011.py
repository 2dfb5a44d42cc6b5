"""PRID 2011: the method of configs/mars.py on 178 people, half to train on and half to test, ten times.

    python data_prep/build_tfds.py --dataset=prid2011 --source=prid_2011.zip --info_dir=FOLDER_OF_SPLITS --data_dir=data
    python data_prep/import_weights.py --source=torchreid --backbone=osnet_x1_0 --file=osnet_x1_0_msmt17.pth \
        --output=weights/osnet_x1_0_msmt17.safetensors
    python main.py --config=configs/prid2011.py --config.dataset.split=all --workdir=runs/prid2011

The last command trains and scores all ten splits (WORKDIR/split_0 ... split_9) and writes mean and standard deviation
to WORKDIR/eval/latest.json. Given again it resumes; given to several processes or machines that share WORKDIR, they
share the splits.
One split alone: --config.dataset.split=3 with a working directory of its own.

What to expect: NOT RUN on PRID 2011 here, so no result is promised; docs/benchmarks.md has the published ones to
compare with. Query camera A, gallery camera B, 89 people; one match a query: rank-1 is the number that is reported, and
mAP is the mean reciprocal rank.

Arguments after the file's name, weights and smaller devices: as in configs/mars.py.
"""

from ml_collections import ConfigDict

from configs.mars import video
from configs.recipe import start


def get_config(arguments: str = '') -> ConfigDict:
    c = video(steps=1_000)  # 180 passes over 178 tracklets
    c.dataset.name = 'prid2011'
    c.dataset.validation_share = 0.0  # 89 people are few: all train, and the last checkpoint is scored
    c.clips.segments = 4  # S: every tracklet has at least 27 frames; 32 frames are seen of one that has them
    c.batch.identities, c.batch.tracklets = 16, 2  # a person has one tracklet in each of two cameras
    c.training.eval_every = 500
    return start(c, arguments)
