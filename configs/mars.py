"""MARS: the whole method on an inflated image network, on one large GPU (smaller ones: see below) or a TPU slice.

    python data_prep/build_tfds.py --dataset=mars --source=MARS_FOLDER --data_dir=data
    python data_prep/import_weights.py --source=torchreid --backbone=osnet_x1_0 --file=osnet_x1_0_msmt17.pth \
        --output=weights/osnet_x1_0_msmt17.safetensors
    python main.py --config=configs/mars.py --workdir=runs/mars
    python main.py --config=configs/mars.py --workdir=runs/mars --mode=eval --config.evaluation.rerank=True

Losses, augmentation and optimisation are those of configs/mars_panels.py (configs/recipe.py). The network is wider and
3D, on clips of eight consecutive frames, two a tracklet, and in bfloat16. docs/weights.md says where the weights are
found.

What to expect: NOT RUN on MARS here, so no result is promised; docs/benchmarks.md has the published ones to compare
with, and docs/results.md what the recipe does on a part of MARS. The official protocol (1,980 queries, gallery 12,180)
is the default. A tenth of the training people is held out, and the checkpoint that ranks *them* best is scored. To
train on all 625: --config.dataset.validation_share=0 --config.evaluation.checkpoint=last

Arguments after the file's name make ablations (short names in docs/configuration.md):
configs/mars.py:pooling=average,last_stride=1
- backbone=NAME brings its weights: osnet_* those of people (MSMT17), resnet50 and resnet50_ibn_a ImageNet's, i3d and
  i3d_mixed_4f those of Kinetics, which one command fetches: data_prep/import_weights.py --source=i3d-kinetics
  --output=weights/i3d_kinetics.safetensors. Most published results begin with ImageNet, so compare those with
  backbone=resnet50. Other backbones, and I3D in 2D, have no public weights: they begin at random, in one stage
  (weights=FILE names some that fit, weights= none).
- Give the backbone here and not as --config.model.backbone.name=..., which comes too late for the choice of weights,
  and the number of steps here as well: a tenth of them is warm-up, and the first stage.

Memory: a batch keeps some 61 GiB for the backward pass, 0.95 a tracklet (with resnet50 50 GiB, i3d_mixed_4f 14 GiB;
python benchmarks/backward_memory.py --config=configs/mars.py, 26 November 2026: traced, not measured on a device), so a
GPU of 80 GB or more. Smaller ones:
--config.model.backbone.remat=True trades time for memory: 8 GiB;
--config.optimizer.accumulate=2, 4 or 8 takes the batch in as many parts, each of whole people; the triplet loss then
finds its hardest negatives within a part, among the seven, three or one other people in it, which is an easier loss
than that of the whole batch;
--config.clips.height=128 --config.clips.width=64 needs a quarter. Several devices share the batch by themselves.
"""

from ml_collections import ConfigDict

from configs.recipe import recipe, start


def get_config(arguments: str = '') -> ConfigDict:
    c = video(steps=12_000)  # of 64 tracklets each: 93 passes over all 8,298, 103 over the nine tenths
    c.dataset.name = 'mars'
    c.dataset.validation_share = 0.1  # 62 of the 625 people choose the checkpoint
    c.clips.segments = 2  # S: up to 16 frames of a tracklet, whose median is 36
    c.training.eval_every = 2_000
    c.evaluation.checkpoint = 'best'
    return start(c, arguments)


def video(steps: int) -> ConfigDict:
    """The recipe for whole videos of full size, on a GPU or TPU: what MARS, iLIDS-VID and PRID 2011 share."""
    c = recipe(steps, height=256, width=128)
    c.clips.frames = 8  # T
    c.clips.stride = 1  # every frame, as at test: a walk is then seen at the same speed
    c.input.threads = 16  # decoding 1,024 frames a batch is the host's work; set it to the number of cores
    c.input.prefetch = 4
    c.model.backbone.name = 'osnet_x1_0'
    c.model.dtype = 'bfloat16'
    c.vlad_init.max_descriptors = 100_000  # a part's k-means
    c.vlad_init.batches = 16  # that they are drawn from
    c.training.log_every = 50
    c.training.checkpoint_every = 500
    c.evaluation.clips_per_step = 64
    return c
