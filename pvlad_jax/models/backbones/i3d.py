"""I3D: Inception-v1 inflated to 3D (Carreira and Zisserman 2017, figure 3), cut at Mixed_4f or Mixed_5c.

| layer | kernel, stride (T x H x W) | channels |
|---|---|---|
| Conv3d_1a_7x7 | 7x7x7, 2x2x2 | 64 |
| max pool 2a | 1x3x3, 1x2x2 | |
| Conv3d_2b_1x1, Conv3d_2c_3x3 | 1x1x1; 3x3x3 | 64; 192 |
| max pool 3a | 1x3x3, 1x2x2 | |
| Mixed_3b, 3c | `MIXED` | 256, 480 |
| max pool 4a | 3x3x3, 2x2x2 | |
| Mixed_4b ... 4f | `MIXED` | 512, 512, 512, 528, 832 |
| max pool 5a | 2x2x2, 2x2x2 | |
| Mixed_5b, 5c | `MIXED` | 832, 1024 |

Every convolution is followed by BatchNorm without scale (epsilon 1e-3) and ReLU; padding is TensorFlow's 'SAME' (see
`same_padding` for what that means in time: as published at even lengths). `last_stride=1` takes the spatial stride out
of the last pooling before the cut (4a for Mixed_4f, 5a for Mixed_5c). Names are those of the published checkpoint.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec, check_clip, temporal_kernel
from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.ops.frame_mask import mask_frames, strided_valid
from pvlad_jax.ops.max_pool3d import max_pool3d
from pvlad_jax.ops.padding import Triple, same_padding

# Channels of a Mixed block: branch 0 1x1x1; branch 1 1x1x1, 3x3x3; branch 2 1x1x1, 3x3x3; branch 3 max pool, 1x1x1.
MIXED = {
    'Mixed_3b': (64, 96, 128, 16, 32, 32),
    'Mixed_3c': (128, 128, 192, 32, 96, 64),
    'Mixed_4b': (192, 96, 208, 16, 48, 64),
    'Mixed_4c': (160, 112, 224, 24, 64, 64),
    'Mixed_4d': (128, 128, 256, 24, 64, 64),
    'Mixed_4e': (112, 144, 288, 32, 64, 64),
    'Mixed_4f': (256, 160, 320, 32, 128, 128),
    'Mixed_5b': (256, 160, 320, 32, 128, 128),
    'Mixed_5c': (384, 192, 384, 48, 128, 128),
}
STAGES = (
    ('Conv3d_1a_7x7',),
    ('Conv3d_2b_1x1', 'Conv3d_2c_3x3'),
    ('Mixed_3b', 'Mixed_3c'),
    ('Mixed_4b', 'Mixed_4c', 'Mixed_4d', 'Mixed_4e', 'Mixed_4f'),
    ('Mixed_5b', 'Mixed_5c'),
)
# (kernel, stride) of the max pooling before a layer.
POOLS: dict[str, tuple[Triple, Triple]] = {
    'Conv3d_2b_1x1': ((1, 3, 3), (1, 2, 2)),
    'Mixed_3b': ((1, 3, 3), (1, 2, 2)),
    'Mixed_4b': ((3, 3, 3), (2, 2, 2)),
    'Mixed_5b': ((2, 2, 2), (2, 2, 2)),
}


class Unit3D(nn.Module):
    """Convolution, BatchNorm, ReLU; zeros at invalid frames. Parameters `conv`, `norm`."""

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    temporal: str = '3d'
    frozen: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N t'], train: bool
    ) -> Float[Array, 'N t h w D']:
        """valid: of the output's frames."""
        kernel = temporal_kernel(self.kernel, self.temporal)
        padding = same_padding(x.shape[1:4], kernel, self.strides)
        init = nn.initializers.variance_scaling(2.0, 'fan_in', 'truncated_normal')
        conv = Conv3D(self.features, kernel, self.strides, padding, dtype=self.dtype, kernel_init=init, name='conv')
        norm = BatchNorm(self.frozen, epsilon=1e-3, use_scale=False, dtype=self.dtype, name='norm')
        return nn.relu(norm(conv(x), valid, train))


class Mixed(nn.Module):
    """Four branches side by side, concatenated in the channels."""

    features: tuple[int, int, int, int, int, int]
    temporal: str
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W D']:
        def unit(y, features, kernel, name):
            rest = {'temporal': self.temporal, 'frozen': self.frozen, 'dtype': self.dtype}
            return Unit3D(features, kernel, **rest, name=name)(y, valid, train)

        f, point, cube = self.features, (1, 1, 1), (3, 3, 3)
        branch0 = unit(x, f[0], point, 'Branch_0_Conv3d_0a_1x1')
        branch1 = unit(x, f[1], point, 'Branch_1_Conv3d_0a_1x1')
        branch1 = unit(branch1, f[2], cube, 'Branch_1_Conv3d_0b_3x3')
        branch2 = unit(x, f[3], point, 'Branch_2_Conv3d_0a_1x1')
        branch2 = unit(branch2, f[4], cube, 'Branch_2_Conv3d_0b_3x3')
        window = temporal_kernel(cube, self.temporal)
        branch3 = max_pool3d(x, window, point, same_padding(x.shape[1:4], window, point))
        branch3 = unit(branch3, f[5], point, 'Branch_3_Conv3d_0b_1x1')
        return jnp.concatenate([branch0, branch1, branch2, branch3], axis=-1)


class I3D(Backbone):
    """See the module's docstring. Clips are RGB in [-1, 1]."""

    final: str = 'Mixed_5c'  # or 'Mixed_4f'

    @nn.compact
    def __call__(
        self, clips: Float[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        layers = [layer for stage in _stages_to(self.final) for layer in stage]
        pools = {layer: POOLS[layer] for layer in layers if layer in POOLS}
        if self.last_stride == 1:
            last = list(pools)[-1]
            window, (st, _, _) = pools[last]
            pools[last] = (window, (st, 1, 1))
        total = [2, 2, 2]
        for _, strides in pools.values():
            total = [a * s for a, s in zip(total, strides)]
        check_clip(clips.shape[1:4], tuple(total), self.label)

        rest = {'temporal': self.temporal, 'frozen': self.batch_norm == 'frozen', 'dtype': self.dtype}
        unit_class, mixed_class = Unit3D, Mixed
        if self.remat:
            unit_class, mixed_class = (nn.remat(c, static_argnums=(3,)) for c in (Unit3D, Mixed))
        x = mask_frames(clips.astype(self.dtype), valid)
        for layer in layers:
            if layer in pools:
                # Behind a ReLU zeros at invalid frames are what -inf would be: they never win against a valid frame.
                window, strides = pools[layer]
                window = temporal_kernel(window, self.temporal)
                x = max_pool3d(x, window, strides, same_padding(x.shape[1:4], window, strides))
                valid = strided_valid(valid, strides[0])
                x = mask_frames(x, valid)
            if layer == 'Conv3d_1a_7x7':
                valid = strided_valid(valid, 2)
                x = unit_class(64, (7, 7, 7), (2, 2, 2), **rest, name=layer)(x, valid, train)
            elif layer == 'Conv3d_2b_1x1':
                x = unit_class(64, (1, 1, 1), **rest, name=layer)(x, valid, train)
            elif layer == 'Conv3d_2c_3x3':
                x = unit_class(192, (3, 3, 3), **rest, name=layer)(x, valid, train)
            else:
                x = mixed_class(MIXED[layer], **rest, name=layer)(x, valid, train)
        return x, valid


def _stages_to(final: str) -> tuple[tuple[str, ...], ...]:
    """The stages of the network that ends with the layer `final`."""
    layers = [layer for stage in STAGES for layer in stage]
    kept = layers[: layers.index(final) + 1]
    return tuple(tuple(layer for layer in stage if layer in kept) for stage in STAGES if stage[0] in kept)


def kinetics_logits(
    features: Float[Array, 'N t h w C'], kernel: Float[Array, 'C L'], bias: Float[Array, ' L']
) -> Float[Array, 'N L']:
    """I3D's classifier on Mixed_5c features (as published: last_stride 2, 224 x 224 pixels): averages over windows of
    2 frames and all locations, a linear layer, the mean over windows. All frames count as valid."""
    frames = features.astype(jnp.float32).mean((2, 3))
    windows = (frames[:, :-1] + frames[:, 1:]) / 2 if frames.shape[1] > 1 else frames
    return (windows @ kernel + bias).mean(1)


SYMMETRIC_PIXELS = {'pixel_mean': (0.5, 0.5, 0.5), 'pixel_std': (0.5, 0.5, 0.5)}  # trained on RGB in [-1, 1]


def _spec(name: str, final: str, channels: int, stride_t: int, stride_hw: int) -> BackboneSpec:
    build = partial(I3D, label=name, final=final)
    return BackboneSpec(build, channels, stride_t, stride_hw, _stages_to(final), **SYMMETRIC_PIXELS)


SPECS = {'i3d': _spec('i3d', 'Mixed_5c', 1024, 8, 32), 'i3d_mixed_4f': _spec('i3d_mixed_4f', 'Mixed_4f', 832, 4, 16)}
