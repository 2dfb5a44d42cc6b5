"""What every backbone has in common: its fields, its call, its strides, the smallest clip it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pvlad_jax.core.errors import UserError


class Backbone(nn.Module, kw_only=True):
    """The fields that `build_backbone` sets; `BackboneSpec` says what the call takes and gives."""

    temporal: str = '3d'
    last_stride: int = 1
    batch_norm: str = 'sync'
    remat: bool = False
    dtype: Any = jnp.float32
    label: str = ''  # its name in messages


@dataclass(frozen=True)
class BackboneSpec:
    """One backbone of the registry.

    build(temporal, last_stride, batch_norm, remat, dtype) makes the module, which maps
    (clips Float[Array, 'N T H W 3'] normalised, valid Bool[Array, 'N T'], train: bool) to
    (features Float[Array, 'N t h w C'] in dtype, zero at invalid frames, valid Bool[Array, 'N t']);
    t = ceil(T / stride_t), and likewise h and w with the strides of `strides`.
    """

    build: Callable[..., nn.Module]
    channels: int  # C
    stride_t: int
    stride_hw: int  # with last_stride = 2, as published; half of it with last_stride = 1
    # Top-level names of its parameters, from the pixels to the features; layers of one stage are listed together and
    # share a learning rate under optimizer.layer_decay.
    stages: tuple[tuple[str, ...], ...]
    pixel_mean: tuple[float, float, float]  # the network's input is (uint8 / 255 - mean) / std, RGB
    pixel_std: tuple[float, float, float]
    time_paddings: tuple[str, ...] = ('zero',)  # values of model.backbone.time_padding; others are passed to `build`
    # Of a 2D network inflated to 3D (inflation.py), whose `build` also takes temporal_blocks: tuple[str, ...].
    blocks: tuple[str, ...] = ()  # those that can have temporal kernels
    temporal_blocks: tuple[str, ...] = ()  # those that have, unless chosen otherwise
    head_features: int = 0  # of the published network's layer behind its global average; 0 = it has none

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all stages, in order."""
        return tuple(chain.from_iterable(self.stages))

    def strides(self, last_stride: int = 1) -> tuple[int, int, int]:
        """(T, H, W) strides of the features."""
        s = self.stride_hw if last_stride == 2 else self.stride_hw // 2
        return self.stride_t, s, s

    def min_clip(self, last_stride: int = 1) -> tuple[int, int, int]:
        """(T, H, W) of the smallest clip: one feature."""
        return self.strides(last_stride)


def check_clip(clip: tuple[int, int, int], smallest: tuple[int, int, int], name: str) -> None:
    """UserError if a clip (T, H, W) is smaller than the network's stride on any axis."""
    if any(size < least for size, least in zip(clip, smallest)):
        sizes = ['x'.join(map(str, size)) for size in (clip, smallest)]
        raise UserError(
            f'A clip of {sizes[0]} (frames x height x width) is smaller than the stride of backbone {name}, '
            f'{sizes[1]}: raise clips.frames, clips.height or clips.width, or choose a backbone of smaller stride.'
        )


def temporal_kernel(kernel: tuple[int, int, int], temporal: str) -> tuple[int, int, int]:
    """The kernel itself, or its 2D control: one frame in time, the same taps in space.

    Strides stay, so the control subsamples.
    """
    return kernel if temporal == '3d' else (1, *kernel[1:])
