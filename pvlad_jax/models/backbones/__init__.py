"""The registry of backbones: a name, its module, its strides, its pixel normalisation."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import c3d, i3d, osnet, resnet
from pvlad_jax.models.backbones.c3d import C3D
from pvlad_jax.models.backbones.i3d import I3D
from pvlad_jax.models.backbones.inflation import choose_temporal_blocks
from pvlad_jax.models.backbones.r3d import R3D
from pvlad_jax.models.backbones.spec import BackboneSpec, check_clip

# Mean and standard deviation of Kinetics-400's pixels: torchvision's video weights were trained with them.
KINETICS_PIXELS = {'pixel_mean': (0.43216, 0.394666, 0.37645), 'pixel_std': (0.22803, 0.22145, 0.216989)}
# I3D was trained on RGB in [-1, 1].
SYMMETRIC_PIXELS = {'pixel_mean': (0.5, 0.5, 0.5), 'pixel_std': (0.5, 0.5, 0.5)}
# C3D was trained on 0..255 minus the mean of Sports-1M; the importer folds this scale into its first convolution.
SPORTS_PIXELS = {'pixel_mean': (128 / 255, 117 / 255, 104 / 255), 'pixel_std': (0.225, 0.225, 0.225)}
R3D_STAGES = ('stem', 'stage1', 'stage2', 'stage3', 'stage4')
TINY = {
    'blocks': (1, 1, 1, 1),
    'widths': (16, 32, 64, 128),
    'stage_strides': ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
    'stem_kernel': (3, 5, 5),
    'stem_width': 16,
}


def _r3d(name: str, channels: int, stride_t: int, stride_hw: int, **options) -> BackboneSpec:
    return BackboneSpec(
        build=partial(R3D, label=name, **options),
        channels=channels,
        stride_t=stride_t,
        stride_hw=stride_hw,
        stages=R3D_STAGES,
        **KINETICS_PIXELS,
    )


def _i3d(name: str, final: str, channels: int, stride_t: int, stride_hw: int) -> BackboneSpec:
    stages = i3d.STAGES[: i3d.STAGES.index(final) + 1]
    build = partial(I3D, label=name, final=final)
    return BackboneSpec(build, channels, stride_t, stride_hw, stages, **SYMMETRIC_PIXELS)


def _c3d(name: str, normalise: bool) -> BackboneSpec:
    return BackboneSpec(partial(C3D, label=name, normalise=normalise), 512, 8, 16, c3d.STAGES, **SPORTS_PIXELS)


DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BACKBONES: dict[str, BackboneSpec] = {
    'r3d_tiny': _r3d('r3d_tiny', 128, 2, 16, **TINY),
    **{f'r3d_{n}': _r3d(f'r3d_{n}', 512, 8, 16, blocks=blocks) for n, blocks in DEPTHS.items()},
    **{f'r2plus1d_{n}': _r3d(f'r2plus1d_{n}', 512, 8, 16, blocks=blocks, factored=True) for n, blocks in DEPTHS.items()},
    'r3d_50': _r3d(
        'r3d_50', 2048, 16, 32, blocks=DEPTHS[34], stem_kernel=(7, 7, 7), stem_pool=True, bottleneck=True
    ),
    'r2plus1d_50': _r3d('r2plus1d_50', 2048, 8, 16, blocks=DEPTHS[34], bottleneck=True, factored=True),
    'i3d': _i3d('i3d', 'Mixed_5c', 1024, 8, 32),
    'i3d_mixed_4f': _i3d('i3d_mixed_4f', 'Mixed_4f', 832, 4, 16),
    'c3d': _c3d('c3d', normalise=False),
    'c3d_bn': _c3d('c3d_bn', normalise=True),
    **osnet.SPECS,
    **resnet.SPECS,
}


def find_backbone(name: str) -> BackboneSpec:
    """The registry's entry, or UserError with the known names."""
    if name not in BACKBONES:
        raise UserError(f'Backbone {name!r} (model.backbone.name) is unknown; known are: {", ".join(BACKBONES)}.')
    return BACKBONES[name]


def build_backbone(
    name: str,
    temporal: str = '3d',
    last_stride: int = 1,
    batch_norm: str = 'live',
    remat: bool = False,
    dtype: Any = jnp.float32,
    clip: tuple[int, int, int] | None = None,
    temporal_blocks: str = 'default',
) -> nn.Module:
    """The module of a backbone; see `BackboneSpec` for its call.

    temporal: '3d', or '2d' for the control whose temporal kernels are 1. last_stride: 1 or 2, spatial stride of the last
    strided layer. batch_norm: 'live', 'device' (statistics of each device's share, which the training step
    sees to) or 'frozen' (running statistics in training too). remat: recompute stages in
    the backward pass. dtype: of the convolutions. clip: (T, H, W) to check beforehand.
    temporal_blocks: of an inflated 2D network, which blocks see three frames (`choose_temporal_blocks`).
    Raises UserError for unknown names and values and for a clip smaller than the stride.
    """
    spec = find_backbone(name)
    for field, value, known in (
        ('temporal', temporal, ('3d', '2d')),
        ('last_stride', last_stride, (1, 2)),
        ('batch_norm', batch_norm, ('live', 'device', 'frozen')),
    ):
        if value not in known:
            raise UserError(f'model.backbone.{field} is {value!r}; it must be one of {", ".join(map(repr, known))}.')
    if clip is not None:
        check_clip(clip, spec.min_clip(last_stride), name)
    chosen = choose_temporal_blocks(temporal_blocks, spec.blocks, spec.temporal_blocks, name)
    inflated = {'temporal_blocks': chosen} if spec.blocks else {}
    return spec.build(
        temporal=temporal, last_stride=last_stride, batch_norm=batch_norm, remat=remat, dtype=dtype, **inflated
    )
