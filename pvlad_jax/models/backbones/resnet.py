"""ResNet-50 (He 2016) inflated to 3D, as AP3D (Gu 2020) and its successors in video re-identification use it; IBN-a
(Pan 2018).

| stage | layers (as published) | channels | stride in space |
|---|---|---|---|
| stem | 7x7 / 2, max pool 3x3 / 2 | 64 | 4 |
| layer1 | 3 blocks [1x1, 64; 3x3, 64; 1x1, 256] | 256 | 4 |
| layer2 | 4 blocks [128; 128; 512] | 512 | 8 |
| layer3 | 6 blocks [256; 256; 1024] | 1024 | 16 |
| layer4 | 3 blocks [512; 512; 2048] | 2048 | 32 |

Each convolution is followed by BatchNorm; a stage's first block has its stride in the 3x3 (as torchvision's) and a 1x1
convolution on its shortcut. `ibn`: in layer1 to layer3 the norm of a block's first 1x1 is IBN-a, instance normalisation
for half of the channels.

In time: stride 1. The blocks of `temporal_blocks` have 3x3x3 instead of 3x3. Default: AP3D's five, every second one of
layer2 and layer3. `last_stride=1` takes the stride out of layer4, as AP3D does (Luo 2019, Sun 2018): stride 16.
"""

from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.backbones.inflation import IMAGENET_PIXELS, ConvNorm
from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec, check_clip
from pvlad_jax.ops.frame_mask import mask_frames
from pvlad_jax.ops.max_pool3d import max_pool3d

LAYERS = {'layer1': 3, 'layer2': 4, 'layer3': 6, 'layer4': 3}  # blocks
BLOCKS = tuple(f'{layer}.{i}' for layer, count in LAYERS.items() for i in range(count))
TEMPORAL_BLOCKS = ('layer2.0', 'layer2.2', 'layer3.0', 'layer3.2', 'layer3.4')
IBN_LAYERS = ('layer1', 'layer2', 'layer3')
STAGES = (('stem',), *((layer,) for layer in LAYERS))
HEAD_FEATURES = 512  # of torchreid's resnet50_fc512


class Bottleneck(nn.Module):
    """1x1, 3x3 (3x3x3 with `three`), 1x1 to four times the width, and the shortcut.

    Parameters `conv1`, `conv2`, `conv3` and, where size or channels change, `downsample`.
    """

    width: int
    stride: int
    three: bool
    ibn: bool
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T h w D']:
        rest, features = {'frozen': self.frozen, 'dtype': self.dtype}, 4 * self.width
        y = nn.relu(ConvNorm(self.width, instance=self.ibn, **rest, name='conv1')(x, valid, train))
        y = nn.relu(ConvNorm(self.width, 3, self.stride, self.three, **rest, name='conv2')(y, valid, train))
        y = ConvNorm(features, **rest, name='conv3')(y, valid, train)
        if self.stride != 1 or x.shape[-1] != features:
            x = ConvNorm(features, 1, self.stride, **rest, name='downsample')(x, valid, train)
        return nn.relu(x + y)


class Layer(nn.Module):
    """Bottlenecks of one width, the first of them with the stride. Parameters `block0`, `block1`, ..."""

    width: int
    stride: int
    three: tuple[bool, ...]  # a block
    ibn: bool
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T h w D']:
        for i, three in enumerate(self.three):
            stride = self.stride if i == 0 else 1
            block = Bottleneck(self.width, stride, three, self.ibn, self.frozen, self.dtype, name=f'block{i}')
            x = block(x, valid, train)
        return x


class ResNet50(Backbone):
    """See the module's docstring. Parameters `stem`, `layer1` ... `layer4`."""

    width: int = 64  # of the stem and of layer1's blocks
    ibn: bool = False
    temporal_blocks: tuple[str, ...] = TEMPORAL_BLOCKS

    @nn.compact
    def __call__(
        self, clips: Float[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        check_clip(clips.shape[1:4], (1, 16 * self.last_stride, 16 * self.last_stride), self.label)
        rest = {'frozen': self.batch_norm == 'frozen', 'dtype': self.dtype}
        inflated = self.temporal_blocks if self.temporal == '3d' else ()
        x = mask_frames(clips.astype(self.dtype), valid)
        x = nn.relu(ConvNorm(self.width, 7, 2, **rest, name='stem')(x, valid, train))
        x = max_pool3d(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
        layer_class = nn.remat(Layer, static_argnums=(3,)) if self.remat else Layer
        strides = {'layer1': 1, 'layer2': 2, 'layer3': 2, 'layer4': self.last_stride}
        for i, (name, count) in enumerate(LAYERS.items()):
            three = tuple(f'{name}.{block}' in inflated for block in range(count))
            ibn = self.ibn and name in IBN_LAYERS
            x = layer_class(self.width * 2**i, strides[name], three, ibn, **rest, name=name)(x, valid, train)
        return x, valid


_INFLATED = {'blocks': BLOCKS, 'temporal_blocks': TEMPORAL_BLOCKS, 'head_features': HEAD_FEATURES, **IMAGENET_PIXELS}
SPECS = {
    name: BackboneSpec(
        partial(ResNet50, ibn=ibn, label=name), 2048, stride_t=1, stride_hw=32, stages=STAGES, **_INFLATED
    )
    for name, ibn in (('resnet50', False), ('resnet50_ibn_a', True))
}
