"""The smallest whole experiment: flat coloured "people" in 16x8 frames and a backbone of one convolution.

For wiring, not for accuracy.
"""

import os
from functools import partial
from pathlib import Path

import flax.linen as nn
import numpy as np
import simplejpeg

from configs.default import get_config
from data_prep.builder.build import build
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.config import Config, freeze
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.backbones.r3d import ConvNorm
from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec
from pvlad_jax.ops.frame_mask import mask_frames, strided_valid


class MicroBackbone(Backbone):
    """conv 3x3x3, stride (2, 4, 4), 8 channels, BatchNorm, ReLU."""

    @nn.compact
    def __call__(self, clips, valid, train):
        after = strided_valid(valid, 2)
        stem = ConvNorm(8, (3, 3, 3), (2, 4, 4), self.temporal, self.batch_norm == 'frozen', self.dtype, name='stem')
        return nn.relu(stem(mask_frames(clips.astype(self.dtype), valid), after, train)), after


PROJECT_BACKBONES = dict(BACKBONES)  # those of the project, for tests that look at each of them
BACKBONES['micro'] = BackboneSpec(
    build=MicroBackbone,
    channels=8,
    stride_t=2,
    stride_hw=8,
    stages=(('stem',),),
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.25, 0.25, 0.25),
)


def _frames(seed: int, source: TrackletSource) -> list[bytes]:
    # A person: two halves of a colour each.
    colour = np.random.default_rng([seed, source.person_id]).integers(30, 220, (2, 1, 3))
    images = []
    for number in source.frame_numbers:
        noise = np.random.default_rng([seed, source.person_id, source.camera_id, number]).integers(-25, 25, (16, 8, 3))
        picture = np.clip(np.repeat(colour, 8, 0) + noise, 0, 255).astype(np.uint8)
        images.append(simplejpeg.encode_jpeg(picture, 90, 'RGB', '444'))
    return images


def micro_raw(people: int = 6, name: str = 'micro', seed: int = 0) -> RawDataset:
    """`people` to train on and 4 others to search for, two cameras, two tracklets in each, of 3 to 12 frames."""

    def tracklet(p, c, t):
        name, numbers = f'p{p}c{c}t{t}', range(1, 2 + 2 + (3 * p + 5 * c + t) % 10)
        return TrackletSource(name, str(p), p, c, tuple(numbers), tuple(f'{name}f{f}' for f in numbers))

    def tracklets(persons, numbers):
        return [tracklet(p, c, t) for p in persons for c in (1, 2) for t in numbers]

    train, test = range(1, people + 1), range(people + 1, people + 5)
    splits = {'train': tracklets(train, (1, 2)), 'query': tracklets(test, (1,)), 'gallery': tracklets(test, (2,))}
    return RawDataset(name, splits, partial(_frames, seed), encoding='jpeg', layout='roles')


def build_micro(data_dir: Path, **options) -> Path:
    return build(micro_raw(**options), data_dir, workers=1, progress=False)


def micro_config(data_dir, **fields) -> Config:
    """A configuration of the micro experiment; fields by path: **{'training.steps': 4}."""
    return freeze(micro_config_dict(data_dir, **fields))


def micro_config_dict(data_dir, **fields):
    c = get_config()
    c.dataset.name, c.dataset.data_dir = 'micro', str(data_dir)
    c.clips.frames, c.clips.height, c.clips.width, c.clips.segments = 4, 16, 8, 2
    c.batch.identities, c.batch.tracklets = 4, 2
    c.augment.pad = 1
    c.input.threads, c.input.prefetch = 2, 2
    c.model.backbone.name = 'micro'
    c.model.parts, c.model.clusters, c.model.descriptor_dim, c.model.embedding_dim = 2, 3, 4, 8
    c.vlad_init.batches, c.vlad_init.max_descriptors = 2, 200
    c.optimizer.warmup_steps = 2
    c.training.steps, c.training.log_every, c.training.checkpoint_every, c.training.eval_every = 6, 1, 2, 0
    c.evaluation.clips_per_step, c.evaluation.strips = 8, 0
    c.compile_cache = os.environ.get('PVLAD_TEST_COMPILE_CACHE', '')  # tests/conftest.py
    for path, value in fields.items():
        node = c
        *parents, leaf = path.split('.')
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    return c
