"""Residual 3D networks: R3D and R(2+1)D 18/34 (Tran 2018), 50 layers (Hara 2018), and a compact one for CPUs.

Layer tables, kernel T x H x W and channels; every convolution is followed by BatchNorm, blocks end in ReLU:

| stage | r3d_18, r3d_34 (Tran 2018, table 1) | r3d_50 (Hara 2018, table 1) | r3d_tiny (ours) |
|---|---|---|---|
| stem | 3x7x7, 64, stride 1x2x2 | 7x7x7, 64, stride 1x2x2; max pool 3x3x3 / 2 | 3x5x5, 16, stride 1x2x2 |
| stage1 | [3x3x3, 64] x2 blocks of 2, 3 | [1, 64; 3x3x3, 64; 1, 256] x 3 | [3x3x3, 16] x 2, one block |
| stage2 | [.., 128] x2 blocks of 2, 4, stride 2x2x2 | [128, 512] x 4, stride 2 | 32, one block, stride 1x2x2 |
| stage3 | [.., 256] x2 blocks of 2, 6, stride 2x2x2 | [256, 1024] x 6, stride 2 | 64, one block, stride 2x2x2 |
| stage4 | [.., 512] x2 blocks of 2, 3, stride 2x2x2 | [512, 2048] x 3, stride 2 | 128, one block, stride 1x2x2 |

A block whose size or channels change has a 1x1x1 strided convolution on its shortcut. R(2+1)D factors every 3x3x3 into
1x3x3 to M channels, BatchNorm, ReLU, 3x1x1, with M such that the parameters stay those of 3D (Tran 2018, section 3.5;
M is that of the block's first convolution, as in the reference code), and its stem into 1x7x7, 45, and 3x1x1, 64.
r2plus1d_50 is the bottleneck network with that stem and factored 3x3x3 (the paper stops at 34). The 50-layer networks
have their stride in the 3x3x3. `last_stride=1` takes the spatial stride out of stage4.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec, check_clip, temporal_kernel
from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.ops.frame_mask import continued, mask_frames, strided_valid
from pvlad_jax.ops.max_pool3d import max_pool3d
from pvlad_jax.ops.padding import Triple, centred_padding


class ConvNorm(nn.Module):
    """Convolution without bias, BatchNorm, zeros at invalid frames. Parameters `conv`, `norm`.

    time_padding: 'zero', or 'continued' (`frame_mask.continued`).
    """

    features: int
    kernel: Triple
    strides: Triple
    temporal: str
    frozen: bool
    dtype: Any
    time_padding: str = 'zero'

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'N T H W C'],
        valid: Bool[Array, 'N t'],
        train: bool,
        valid_in: Bool[Array, 'N T'] | None = None,
    ) -> Float[Array, 'N t h w D']:
        """valid: of the output's frames; valid_in: of the input's, where they are others."""
        kernel = temporal_kernel(self.kernel, self.temporal)
        padding = centred_padding(kernel)
        if self.time_padding == 'continued' and kernel[0] > 1:
            x = continued(x, valid if valid_in is None else valid_in, kernel[0] // 2)
            padding = ((0, 0), *padding[1:])
        x = Conv3D(self.features, kernel, self.strides, padding, dtype=self.dtype, name='conv')(x)
        return BatchNorm(self.frozen, dtype=self.dtype, name='norm')(x, valid, train)


class FactoredConvNorm(nn.Module):
    """R(2+1)D: 1 x k x k to `middle` channels, BatchNorm, ReLU, k x 1 x 1, BatchNorm. Parameters `spatial`, `time`."""

    features: int
    middle: int
    kernel: Triple
    strides: Triple
    temporal: str
    frozen: bool
    dtype: Any
    time_padding: str = 'zero'

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid_in: Bool[Array, 'N T'], valid: Bool[Array, 'N t'], train: bool
    ) -> Float[Array, 'N t h w D']:
        (kt, kh, kw), (st, sh, sw) = self.kernel, self.strides
        rest = (self.temporal, self.frozen, self.dtype, self.time_padding)
        x = nn.relu(ConvNorm(self.middle, (1, kh, kw), (1, sh, sw), *rest, name='spatial')(x, valid_in, train))
        return ConvNorm(self.features, (kt, 1, 1), (st, 1, 1), *rest, name='time')(x, valid, train, valid_in)


def middle_channels(c_in: int, c_out: int) -> int:
    """M of R(2+1)D: 1x3x3 and 3x1x1 through M channels have about the parameters of one 3x3x3."""
    return c_in * c_out * 27 // (c_in * 9 + 3 * c_out)


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, or 1x1x1, 3x3x3, 1x1x1 to four times the width (`bottleneck`), parallel to the
    shortcut.
    """

    width: int
    strides: Triple
    bottleneck: bool
    factored: bool
    temporal: str
    frozen: bool
    dtype: Any
    time_padding: str = 'zero'

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N t h w D']:
        rest = (self.temporal, self.frozen, self.dtype, self.time_padding)
        valid_out = strided_valid(valid, self.strides[0])
        middle = middle_channels(x.shape[-1], self.width)

        def cube(y, strides, valid_in, name):
            if self.factored:
                conv = FactoredConvNorm(self.width, middle, (3, 3, 3), strides, *rest, name=name)
                return conv(y, valid_in, valid_out, train)
            return ConvNorm(self.width, (3, 3, 3), strides, *rest, name=name)(y, valid_out, train, valid_in)

        if self.bottleneck:
            features = 4 * self.width
            y = nn.relu(ConvNorm(self.width, (1, 1, 1), (1, 1, 1), *rest, name='conv1')(x, valid, train))
            y = nn.relu(cube(y, self.strides, valid, 'conv2'))
            y = ConvNorm(features, (1, 1, 1), (1, 1, 1), *rest, name='conv3')(y, valid_out, train)
        else:
            features = self.width
            y = nn.relu(cube(x, self.strides, valid, 'conv1'))
            y = cube(y, (1, 1, 1), valid_out, 'conv2')
        if self.strides != (1, 1, 1) or x.shape[-1] != features:
            x = ConvNorm(features, (1, 1, 1), self.strides, *rest, name='shortcut')(x, valid_out, train)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Residual blocks of one width, the first of them with the stage's stride. Parameters `block0`, `block1`, ..."""

    blocks: int
    block: Mapping  # arguments of ResidualBlock
    strides: Triple

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N t h w D']:
        for i in range(self.blocks):
            strides = self.strides if i == 0 else (1, 1, 1)
            x = ResidualBlock(strides=strides, **self.block, name=f'block{i}')(x, valid, train)
            valid = strided_valid(valid, strides[0])
        return x


class R3D(Backbone):
    """See the module's docstring. Parameters `stem` and `stage1` ... `stage4`."""

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stage_strides: tuple[Triple, Triple, Triple, Triple] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    stem_kernel: Triple = (3, 7, 7)
    stem_width: int = 64
    stem_pool: bool = False  # 3x3x3 max pooling with stride 2
    bottleneck: bool = False
    factored: bool = False
    time_padding: str = 'zero'

    @nn.compact
    def __call__(
        self, clips: Float[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        strides = list(self.stage_strides)
        if self.last_stride == 1:
            strides[-1] = (strides[-1][0], 1, 1)
        pool = 2 if self.stem_pool else 1
        total = [pool * s0 * s1 * s2 * s3 for s0, s1, s2, s3 in zip(*strides)]
        check_clip(clips.shape[1:4], (total[0], 2 * total[1], 2 * total[2]), self.label)

        rest = (self.temporal, self.batch_norm == 'frozen', self.dtype, self.time_padding)
        x = mask_frames(clips.astype(self.dtype), valid)
        if self.factored:
            # 45 channels between the two: the reference code's stem.
            stem = FactoredConvNorm(self.stem_width, 45, self.stem_kernel, (1, 2, 2), *rest, name='stem')
            x = nn.relu(stem(x, valid, valid, train))
        else:
            stem = ConvNorm(self.stem_width, self.stem_kernel, (1, 2, 2), *rest, name='stem')
            x = nn.relu(stem(x, valid, train))
        if self.stem_pool:
            # After the ReLU zeros at invalid frames never win against a window's valid frame.
            kernel = temporal_kernel((3, 3, 3), self.temporal)
            x = max_pool3d(x, kernel, (2, 2, 2), centred_padding(kernel))
            valid = strided_valid(valid, 2)
            x = mask_frames(x, valid)
        stage_class = nn.remat(Stage, static_argnums=(3,)) if self.remat else Stage
        for i in range(4):
            block = {
                'width': self.widths[i],
                'bottleneck': self.bottleneck,
                'factored': self.factored,
                'temporal': self.temporal,
                'frozen': self.batch_norm == 'frozen',
                'dtype': self.dtype,
                'time_padding': self.time_padding,
            }
            x = stage_class(self.blocks[i], block, strides[i], name=f'stage{i + 1}')(x, valid, train)
            valid = strided_valid(valid, strides[i][0])
        return x, valid


# Mean and standard deviation of Kinetics-400's pixels: torchvision's video weights were trained with them.
KINETICS_PIXELS = {'pixel_mean': (0.43216, 0.394666, 0.37645), 'pixel_std': (0.22803, 0.22145, 0.216989)}
STAGES = (('stem',), ('stage1',), ('stage2',), ('stage3',), ('stage4',))
TINY = {
    'blocks': (1, 1, 1, 1),
    'widths': (16, 32, 64, 128),
    'stage_strides': ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
    'stem_kernel': (3, 5, 5),
    'stem_width': 16,
}
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def _spec(name: str, channels: int, stride_t: int, stride_hw: int, **options) -> BackboneSpec:
    fields = {'time_paddings': ('zero', 'continued'), **KINETICS_PIXELS}
    return BackboneSpec(partial(R3D, label=name, **options), channels, stride_t, stride_hw, STAGES, **fields)


SPECS = {
    'r3d_tiny': _spec('r3d_tiny', 128, 2, 16, **TINY),
    **{f'r3d_{n}': _spec(f'r3d_{n}', 512, 8, 16, blocks=blocks) for n, blocks in DEPTHS.items()},
    **{
        f'r2plus1d_{n}': _spec(f'r2plus1d_{n}', 512, 8, 16, blocks=blocks, factored=True)
        for n, blocks in DEPTHS.items()
    },
    'r3d_50': _spec('r3d_50', 2048, 16, 32, blocks=DEPTHS[34], stem_kernel=(7, 7, 7), stem_pool=True, bottleneck=True),
    'r2plus1d_50': _spec('r2plus1d_50', 2048, 8, 16, blocks=DEPTHS[34], bottleneck=True, factored=True),
}
