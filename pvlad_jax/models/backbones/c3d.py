"""C3D (Tran 2015, figure 3) to conv5b before its ReLU, with and without BatchNorm.

| layer | channels | | layer | channels |
|---|---|---|---|---|
| conv1a | 64 | | pool3 2x2x2, conv4a, conv4b | 512, 512 |
| pool1 1x2x2, conv2a | 128 | | pool4 2x2x2, conv5a, conv5b | 512, 512 |
| pool2 2x2x2, conv3a, conv3b | 256, 256 | | | |

All kernels 3x3x3, stride 1, padding 1; pools of stride = kernel, sizes rounded up as Caffe does. Published with biases
and no normalisation (`c3d`); `c3d_bn` has BatchNorm between each convolution and its ReLU instead of the bias. Initial
values are He 2015's (the publication's Gaussians of 0.01 do not train without its schedule). `last_stride=1` takes the
spatial stride out of pool4.
"""

from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec, check_clip, temporal_kernel
from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.ops.frame_mask import mask_frames, strided_valid
from pvlad_jax.ops.max_pool3d import max_pool3d
from pvlad_jax.ops.padding import same_padding

STAGES = (('conv1a',), ('conv2a',), ('conv3a', 'conv3b'), ('conv4a', 'conv4b'), ('conv5a', 'conv5b'))
CHANNELS = {layer: features for stage, features in zip(STAGES, (64, 128, 256, 512, 512)) for layer in stage}
# (kernel, stride) of the max pooling before a layer.
POOLS = {
    'conv2a': ((1, 2, 2), (1, 2, 2)),
    'conv3a': ((2, 2, 2), (2, 2, 2)),
    'conv4a': ((2, 2, 2), (2, 2, 2)),
    'conv5a': ((2, 2, 2), (2, 2, 2)),
}


class C3DUnit(nn.Module):
    """3x3x3 convolution with bias, or with BatchNorm; zeros at invalid frames; no ReLU. Parameters `conv`, `norm`."""

    features: int
    normalise: bool
    temporal: str
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W D']:
        kernel = temporal_kernel((3, 3, 3), self.temporal)
        init = nn.initializers.variance_scaling(2.0, 'fan_in', 'truncated_normal')
        conv = Conv3D(
            self.features, kernel, use_bias=not self.normalise, dtype=self.dtype, kernel_init=init, name='conv'
        )
        if self.normalise:
            return BatchNorm(self.frozen, dtype=self.dtype, name='norm')(conv(x), valid, train)
        return mask_frames(conv(x), valid)


class C3D(Backbone):
    """See the module's docstring. Parameters `conv1a` ... `conv5b`."""

    normalise: bool = False

    @nn.compact
    def __call__(
        self, clips: Float[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        spatial = 8 * self.last_stride
        check_clip(clips.shape[1:4], (8, spatial, spatial), self.label)
        unit_class = nn.remat(C3DUnit, static_argnums=(3,)) if self.remat else C3DUnit
        x = mask_frames(clips.astype(self.dtype), valid)
        for layer, features in CHANNELS.items():
            if layer != 'conv1a':
                x = nn.relu(x)
            if layer in POOLS:
                # Behind a ReLU zeros at invalid frames are what -inf would be: they never win against a valid frame.
                window, strides = POOLS[layer]
                if layer == 'conv5a' and self.last_stride == 1:
                    strides = (strides[0], 1, 1)
                window = temporal_kernel(window, self.temporal)
                x = max_pool3d(x, window, strides, same_padding(x.shape[1:4], window, strides))
                valid = strided_valid(valid, strides[0])
                x = mask_frames(x, valid)
            rest = (self.normalise, self.temporal, self.batch_norm == 'frozen', self.dtype)
            x = unit_class(features, *rest, name=layer)(x, valid, train)
        return x, valid


# Trained on 0..255 minus the mean of Sports-1M; the importer folds this scale into its first convolution.
SPORTS_PIXELS = {'pixel_mean': (128 / 255, 117 / 255, 104 / 255), 'pixel_std': (0.225, 0.225, 0.225)}

SPECS = {
    name: BackboneSpec(partial(C3D, label=name, normalise=normalise), 512, 8, 16, STAGES, **SPORTS_PIXELS)
    for name, normalise in (('c3d', False), ('c3d_bn', True))
}
