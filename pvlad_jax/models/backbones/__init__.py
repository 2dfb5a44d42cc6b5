"""Backbones: clips of pixels -> local features. `BACKBONES` is what config.model.backbone.name may say."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.registry import Registry
from pvlad_jax.models.backbones import c3d, i3d, osnet, r3d, resnet
from pvlad_jax.models.backbones.inflation import choose_temporal_blocks
from pvlad_jax.models.backbones.spec import BackboneSpec, check_clip

BACKBONES: dict[str, BackboneSpec] = Registry(
    'config.model.backbone.name', {**r3d.SPECS, **i3d.SPECS, **c3d.SPECS, **osnet.SPECS, **resnet.SPECS}
)


def build_backbone(
    name: str,
    temporal: str = '3d',
    last_stride: int = 1,
    batch_norm: str = 'sync',
    remat: bool = False,
    dtype: Any = jnp.float32,
    clip: tuple[int, int, int] | None = None,
    temporal_blocks: str = 'default',
    time_padding: str = 'zero',
) -> nn.Module:
    """The module of a backbone; see `BackboneSpec` for its call.

    Args:
      name: an entry of BACKBONES.
      temporal: '3d', or '2d' for the control whose temporal kernels are 1.
      last_stride: 1 or 2, spatial stride of the last strided layer.
      batch_norm: 'sync', 'local' (statistics of each device's share, which the training step sees to) or 'frozen'
        (running statistics in training too).
      remat: recompute stages in the backward pass.
      dtype: of the convolutions.
      clip: (T, H, W) to check beforehand.
      temporal_blocks: of an inflated 2D network, which blocks see three frames (`choose_temporal_blocks`).
      time_padding: of R3D and R(2+1)D, 'zero' or 'continued' (`ops.frame_mask.continued`).

    Raises:
      UserError: an unknown name or value, or a clip smaller than the stride.
    """
    spec = BACKBONES[name]
    for field, value, known in (
        ('temporal', temporal, ('3d', '2d')),
        ('last_stride', last_stride, (1, 2)),
        ('batch_norm', batch_norm, ('sync', 'local', 'frozen')),
    ):
        if value not in known:
            raise UserError(f'model.backbone.{field} is {value!r}; it must be one of {", ".join(map(repr, known))}.')
    if clip is not None:
        check_clip(clip, spec.min_clip(last_stride), name)
    chosen = choose_temporal_blocks(temporal_blocks, spec.blocks, spec.temporal_blocks, name)
    options = {'temporal_blocks': chosen} if spec.blocks else {}
    if time_padding not in spec.time_paddings:
        raise UserError(
            f'model.backbone.time_padding = {time_padding!r}: backbone {name} has no such choice, only R3D and R(2+1)D '
            "have. Set it to 'zero'."
        )
    if time_padding != 'zero':
        options['time_padding'] = time_padding
    return spec.build(
        temporal=temporal, last_stride=last_stride, batch_norm=batch_norm, remat=remat, dtype=dtype, **options
    )
