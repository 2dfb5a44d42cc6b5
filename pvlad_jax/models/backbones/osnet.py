"""OSNet (Zhou, Yang, Cavallaro, Xiang: Omni-Scale Feature Learning, ICCV 2019), inflated to 3D.

| stage | layers (as published) | channels x1.0, x0.75, x0.5, x0.25 | stride in space |
|---|---|---|---|
| conv1 | 7x7 / 2, max pool 3x3 / 2 | 64, 48, 32, 16 | 4 |
| conv2 | 2 blocks; transition 1x1, average pool 2x2 / 2 | 256, 192, 128, 64 | 8 |
| conv3 | 2 blocks; transition 1x1, average pool 2x2 / 2 | 384, 288, 192, 96 | 16 |
| conv4 | 2 blocks | 512, 384, 256, 128 | 16 |
| conv5 | 1x1 | 512, 384, 256, 128 | 16 |

A block has m = channels / 4: 1x1 to m (`conv1`); four streams of 1, 2, 3 and 4 light convolutions (1x1 without ReLU,
depthwise 3x3); one gate for all streams (average over the frame, m -> m / 16 -> m, sigmoid); the gated streams' sum;
1x1 to the channels (`conv3`); the shortcut, ReLU. Every convolution but the 1x1 within a light one is followed by
BatchNorm, all but `conv3` and the shortcut's by ReLU.

In time: stride 1. The blocks of `temporal_blocks` have 3x1x1 instead of 1x1 at their end (`conv3`): behind the streams,
whose fields of view in space are large by then, so that a person may move between frames, and on few channels. Default:
the four blocks of conv3 and conv4, a field of view of 9 frames; conv2 has four times the locations and is left out.
Gates see single frames. `last_stride=1` takes the average pool out of conv3: stride 8. Odd sizes are rounded up, as in
every backbone here.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.backbones.inflation import IMAGENET_PIXELS, ConvNorm
from pvlad_jax.models.backbones.spec import Backbone, BackboneSpec, check_clip
from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.ops.depthwise_conv import depthwise_conv
from pvlad_jax.ops.frame_mask import mask_frames
from pvlad_jax.ops.max_pool3d import max_pool3d

STAGES = (('conv1',), ('conv2',), ('conv3',), ('conv4',), ('conv5',))
BLOCK_STAGES = ('conv2', 'conv3', 'conv4')
BLOCKS = tuple(f'{stage}.{i}' for stage in BLOCK_STAGES for i in range(2))
TEMPORAL_BLOCKS = ('conv3.0', 'conv3.1', 'conv4.0', 'conv4.1')
STREAMS = 'abcd'  # of 1, 2, 3 and 4 light convolutions
HEAD_FEATURES = 512
CHANNELS = {
    'osnet_x0_25': (16, 64, 96, 128),
    'osnet_x0_5': (32, 128, 192, 256),
    'osnet_x0_75': (48, 192, 288, 384),
    'osnet_x1_0': (64, 256, 384, 512),
}


class DepthwiseConv(nn.Module):
    """3x3 within each channel. Parameter `kernel` [1, 3, 3, 1, C], drawn as published (He 2015, fan out)."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, 'N T H W C']) -> Float[Array, 'N T H W C']:
        init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
        kernel = self.param('kernel', init, (1, 3, 3, 1, x.shape[-1]), jnp.float32)
        return depthwise_conv(x.astype(self.dtype), kernel[0, :, :, 0].astype(self.dtype))


class LightConv(nn.Module):
    """1x1 without ReLU, depthwise 3x3, BatchNorm, ReLU. Parameters `conv1`, `conv2`, `norm`."""

    features: int
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W D']:
        x = Conv3D(self.features, (1, 1, 1), dtype=self.dtype, name='conv1')(x)
        x = DepthwiseConv(self.dtype, name='conv2')(x)
        return nn.relu(BatchNorm(self.frozen, dtype=self.dtype, name='norm')(x, valid, train))


class ChannelGate(nn.Module):
    """A frame times a factor in (0, 1) a channel, from its own average. Parameters `fc1`, `fc2`; float32 inside."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, 'N T H W C']) -> Float[Array, 'N T H W C']:
        channels = x.shape[-1]
        mean = x.astype(jnp.float32).mean((2, 3))
        hidden = nn.relu(nn.Dense(channels // 16, name='fc1')(mean))
        gate = nn.sigmoid(nn.Dense(channels, name='fc2')(hidden))
        # In float32, as is then the gate's gradient: a sum over the frame.
        return (x.astype(jnp.float32) * gate[:, :, None, None]).astype(self.dtype)


class OmniScaleBlock(nn.Module):
    """Four streams of light convolutions, gated and added; see the module's docstring.

    Parameters `conv1`, then for stream s of STREAMS and its n-th convolution `conv2s_n` (`conv2a_0` to `conv2d_3`),
    `gate`, `conv3` and, where channels change, `downsample`.
    """

    features: int
    three: bool  # conv3 sees three frames
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T H W D']:
        rest, width = {'frozen': self.frozen, 'dtype': self.dtype}, self.features // 4
        first = nn.relu(ConvNorm(width, **rest, name='conv1')(x, valid, train))
        gate, total = ChannelGate(self.dtype, name='gate'), 0
        # Streams side by side in the channels, one depthwise convolution for all of the same depth, would be the same
        # function. On a CPU it is slower (a block of 64 channels at 32 x 32 x 16 locations: 0.18 s of processor time a
        # training step, not 0.13) and takes nearly twice as long to compile.
        for length, stream in enumerate(STREAMS, start=1):
            y = first
            for i in range(length):
                y = LightConv(width, **rest, name=f'conv2{stream}_{i}')(y, valid, train)
            total = total + gate(y)
        y = ConvNorm(self.features, three=self.three, **rest, name='conv3')(total, valid, train)
        if x.shape[-1] != self.features:
            x = ConvNorm(self.features, **rest, name='downsample')(x, valid, train)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Two blocks; with `transition` a 1x1 convolution, with `pool` the average of 2x2.

    Parameters `block0`, `block1`, `transition`.
    """

    features: int
    three: tuple[bool, bool]
    transition: bool
    pool: bool
    frozen: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T h w D']:
        for i, three in enumerate(self.three):
            x = OmniScaleBlock(self.features, three, self.frozen, self.dtype, name=f'block{i}')(x, valid, train)
        if self.transition:
            x = nn.relu(
                ConvNorm(self.features, frozen=self.frozen, dtype=self.dtype, name='transition')(x, valid, train)
            )
        return average_pool(x) if self.pool else x


@jax.custom_vjp
def _sums_of_four(x: Float[Array, 'N T H W C']) -> Float[Array, 'N T H/2 W/2 C']:
    """Of 2x2 locations, in float32: a sum over two axes takes XLA:CPU twice as long as one of four slices, whose
    gradient would be four padded arrays and not one that is repeated.
    """
    return sum(x[:, :, i::2, j::2].astype(jnp.float32) for i in (0, 1) for j in (0, 1))


def _repeated(like: Float[Array, '0'], g: Float[Array, 'N T h w C']) -> tuple[Float[Array, 'N T H W C']]:
    n, t, h, w, c = g.shape
    g = g.astype(like.dtype)[:, :, :, None, :, None]
    return (jnp.broadcast_to(g, (n, t, h, 2, w, 2, c)).reshape(n, t, 2 * h, 2 * w, c),)


_sums_of_four.defvjp(lambda x: (_sums_of_four(x), jnp.zeros(0, x.dtype)), _repeated)


def average_pool(x: Float[Array, 'N T H W C']) -> Float[Array, 'N T h w C']:
    """Mean of 2x2 locations, stride 2; of those there are at the edge of odd sizes, which are rounded up."""
    height, width = x.shape[2:4]
    h, w = -(-height // 2), -(-width // 2)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 2 * h - height), (0, 2 * w - width), (0, 0)))
    total = _sums_of_four(x)
    rows, columns = (jnp.minimum(2, size - 2 * jnp.arange(-(-size // 2))) for size in (height, width))
    return (total / (rows[:, None] * columns)[..., None]).astype(x.dtype)


class OSNet(Backbone):
    """See the module's docstring. Parameters `conv1` ... `conv5`."""

    channels: tuple[int, int, int, int]
    temporal_blocks: tuple[str, ...] = TEMPORAL_BLOCKS

    @nn.compact
    def __call__(
        self, clips: Float[Array, 'N T H W 3'], valid: Bool[Array, 'N T'], train: bool
    ) -> tuple[Float[Array, 'N t h w C'], Bool[Array, 'N t']]:
        check_clip(clips.shape[1:4], (1, 8 * self.last_stride, 8 * self.last_stride), self.label)
        rest = {'frozen': self.batch_norm == 'frozen', 'dtype': self.dtype}
        inflated = self.temporal_blocks if self.temporal == '3d' else ()
        x = mask_frames(clips.astype(self.dtype), valid)
        x = nn.relu(ConvNorm(self.channels[0], 7, 2, **rest, name='conv1')(x, valid, train))
        x = max_pool3d(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
        stage_class = nn.remat(Stage, static_argnums=(3,)) if self.remat else Stage
        pools = {'conv2': True, 'conv3': self.last_stride == 2, 'conv4': False}
        for name, features in zip(BLOCK_STAGES, self.channels[1:]):
            three = tuple(f'{name}.{i}' in inflated for i in range(2))
            x = stage_class(features, three, name != 'conv4', pools[name], **rest, name=name)(x, valid, train)
        x = nn.relu(ConvNorm(self.channels[-1], **rest, name='conv5')(x, valid, train))
        return x, valid


_INFLATED = {'blocks': BLOCKS, 'temporal_blocks': TEMPORAL_BLOCKS, 'head_features': HEAD_FEATURES, **IMAGENET_PIXELS}
SPECS = {
    name: BackboneSpec(
        partial(OSNet, channels, label=name), channels[-1], stride_t=1, stride_hw=16, stages=STAGES, **_INFLATED
    )
    for name, channels in CHANNELS.items()
}
