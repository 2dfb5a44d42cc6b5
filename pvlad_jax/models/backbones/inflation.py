"""2D networks inflated to 3D (Carreira and Zisserman 2017; for re-identification AP3D, Gu 2020).

Spatial layers stay as published. Some convolutions, at places that each backbone documents, see three frames: the one
before, the frame itself, the one after. They start from the 2D kernel, at the centre tap or shared out over the taps,
so that the 3D network first computes what the 2D network does and then learns motion.

At the ends of a clip, and where padding begins, there is no frame before or after: the frame itself stands in for it
("padding by continuity and not zero", as AP3D's code puts it). Zeros there would darken the first and last frame of
every clip under the mean, and make their features differ from the others'. Padding frames are never seen.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.models.batch_norm import BatchNorm
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.models.instance_norm import InstanceBatchNorm
from pvlad_jax.ops.conv3d import conv3d
from pvlad_jax.ops.hidden_zero import hidden_zero
from pvlad_jax.ops.padding import Triple

Clips = Float[Array, 'N T H W C']
INFLATIONS = ('centre', 'mean')
IMAGENET_PIXELS = {'pixel_mean': (0.485, 0.456, 0.406), 'pixel_std': (0.229, 0.224, 0.225)}


def inflate(kernel: Float[np.ndarray, '1 kh kw C D'], frames: int, how: str) -> Float[np.ndarray, 'kt kh kw C D']:
    """A 2D kernel over `frames` (odd) frames: 'centre' puts it at the middle tap, zeros elsewhere; 'mean' gives each
    tap its share.
    """
    if how == 'mean':
        return np.repeat(kernel / np.float32(frames), frames, axis=0)
    if how != 'centre':
        raise UserError(f'model.backbone.inflation is {how!r}; it must be one of {", ".join(map(repr, INFLATIONS))}.')
    inflated = np.zeros((frames, *kernel.shape[1:]), kernel.dtype)
    inflated[frames // 2] = kernel[0]
    return inflated


def choose_temporal_blocks(
    chosen: str, blocks: tuple[str, ...], default: tuple[str, ...], backbone: str
) -> tuple[str, ...]:
    """The blocks of a backbone that see three frames.

    chosen: 'default', 'all', 'none', or blocks and stages joined by '+' such as 'layer2.0+layer3'.
    blocks: those that can; empty for a backbone that is no inflated one. UserError for a name that is none of them.
    """
    field = f'model.backbone.temporal_blocks = {chosen!r}'
    if not blocks:
        if chosen == 'default':
            return ()
        raise UserError(
            f"{field}: backbone {backbone} is not an inflated 2D network and has no such choice. Set it to 'default'."
        )
    known = {'default': default, 'all': blocks, 'none': ()}
    if chosen in known:
        return known[chosen]
    names = [name.strip() for name in chosen.split('+')]
    for name in names:
        if not any(name in (block, block.split('.')[0]) for block in blocks):
            raise UserError(
                f"{field}: backbone {backbone} has no block {name!r}. Set it to 'default' ({'+'.join(default)}), "
                f"'all', 'none', or to blocks or stages joined by +: {', '.join(blocks)}."
            )
    return tuple(block for block in blocks if block in names or block.split('.')[0] in names)


def check_effect(chosen: str, how: str, temporal: str, weights: str) -> None:
    """UserError for a choice of temporal blocks or of inflation that a configuration would ignore."""
    if chosen != 'default' and temporal == '2d':
        raise UserError(
            f"model.backbone.temporal_blocks = {chosen!r} has no effect: model.backbone.temporal = '2d' leaves out all "
            "temporal kernels. Set it to 'default', or temporal to '3d'."
        )
    if how != 'centre' and (temporal == '2d' or chosen == 'none' or not weights):
        raise UserError(
            f'model.backbone.inflation = {how!r} has no effect: there are no imported 2D kernels '
            "(model.backbone.weights) to be turned into temporal ones (temporal, temporal_blocks). Set it to 'centre'."
        )


def three_frames(x: Clips, valid: Bool[Array, 'N T'], zero: Int[Array, '']) -> tuple[Clips, Clips, Clips]:
    """The frame before, the frame, the frame after; the frame itself where a neighbour is not valid.

    zero: `hidden_zero` of anything. So x is written once, and not computed again for each of the three.
    """
    outside, frames = jnp.zeros_like(valid[:, :1]), x.shape[1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    before, after = padded[:, :frames], padded[:, 2:]
    x = lax.dynamic_slice_in_dim(padded, 1 + zero, frames, axis=1)
    has_before, has_after = jnp.concatenate([outside, valid[:, :-1]], 1), jnp.concatenate([valid[:, 1:], outside], 1)
    before, after = (
        jnp.where(has[:, :, None, None, None], y, x) for has, y in ((has_before, before), (has_after, after))
    )
    return before, x, after


class ThreeFrameConv(nn.Module):
    """3 x k x k convolution over a frame and its neighbours. Parameter `kernel` [3, kh, kw, C, features].

    One convolution of `three_frames` side by side in the channels, which costs a copy of the input and needs no 3D
    convolution on any platform. As the sum of three convolutions a 1x1 kernel took twice as long on a CPU, and XLA kept
    the three results instead of their sum.
    """

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T']) -> Float[Array, 'N T h w D']:
        init, (kt, kh, kw), c = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'), self.kernel, x.shape[-1]
        kernel = self.param('kernel', init, (kt, kh, kw, c, self.features), jnp.float32)
        formulation = 'native' if self.is_initializing() else 'auto'  # as Conv3D
        frames = three_frames(x.astype(self.dtype), valid, hidden_zero(kernel))
        stacked = kernel.astype(self.dtype).transpose(1, 2, 0, 3, 4).reshape(1, kh, kw, kt * c, self.features)
        return conv3d(jnp.concatenate(frames, axis=-1), stacked, self.strides, formulation=formulation)


class ConvNorm(nn.Module):
    """1 x k x k convolution without bias, or 3 x k x k with `three`, and its norm; zeros at invalid frames.

    Parameters `conv`, `norm`.
    """

    features: int
    size: int = 1  # k
    stride: int = 1  # in space
    three: bool = False
    frozen: bool = False
    dtype: Any = jnp.float32
    instance: bool = False  # IBN-a instead of BatchNorm

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], train: bool
    ) -> Float[Array, 'N T h w D']:
        kernel, strides = (3 if self.three else 1, self.size, self.size), (1, self.stride, self.stride)
        if self.three:
            x = ThreeFrameConv(self.features, kernel, strides, self.dtype, name='conv')(x, valid)
        else:
            x = Conv3D(self.features, kernel, strides, dtype=self.dtype, name='conv')(x)
        norm = InstanceBatchNorm if self.instance else BatchNorm
        return norm(self.frozen, dtype=self.dtype, name='norm')(x, valid, train)
