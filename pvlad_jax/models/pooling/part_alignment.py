"""3D part alignment: soft masks of body parts over space and time, and a descriptor a part (Zhao et al., ICCV 2017,
lifted to 3D).

No part is labelled; the masks learn from the loss behind them. The lift to (t, h, w) jointly follows the abstract of 3D
PersonVLAD; the layers are ours where it is silent.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

LEAST_SHARE = 1e-4  # what a mask can be lifted from where a segmentation says 0
# The most by which the features change a logit that a segmentation gives. Without a bound, training carries the masks
# away from the limbs (docs/part_masks.md).
BOUND = 0.5


def horizontal_bands(parts: int, height: int, width: int) -> Float[Array, 'P h w']:
    """Logits that begin part p as a band of the picture, from head (0) to feet (P-1): 2 at the band's middle, falling
    to -2 (ours).
    """
    middle = (jnp.arange(parts) + 0.5) / parts
    place = (jnp.arange(height) + 0.5) / height
    bump = jnp.exp(-0.5 * ((place[None] - middle[:, None]) * parts) ** 2)
    return jnp.broadcast_to((4 * bump - 2)[:, :, None], (parts, height, width))


def _bias_in_float32(x: Array, kernel: Array, bias: Array, *, dtype: DTypeLike) -> tuple[Array, Array, Array]:
    """What of a layer is computed in `dtype`. Not the bias, whose gradient is a sum over all locations: bfloat16 loses
    most of it.
    """
    return x.astype(dtype), kernel.astype(dtype), bias


class PartAlignment(nn.Module):
    """Masks `M_p = sigmoid(conv_p(x))` and descriptors `u_p = conv1x1x1_p(x)`, with bias and no activation.

    Given the shares of a segmentation, `M = softmax(BOUND tanh(conv(x)) + log shares)` over the parts and a background,
    whose mask is left out.

    Attributes:
      parts: P. 0 = one part whose mask is 1 everywhere (no alignment).
      descriptor_dim: D.
      mask_kernel: 1 or 3, the edge of the mask's convolution in time and space.
      position_term: adds a learned value a part and location (not a time) to the mask's logit, initialised as
        horizontal bands (ours).
      dtype: of the convolutions' products; masks and descriptors come out in float32.
    """

    parts: int
    descriptor_dim: int
    mask_kernel: int = 1
    position_term: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'N t h w C'], shares: Float[Array, 'N t h w R'] | None = None
    ) -> tuple[Float[Array, 'N t h w P'], Float[Array, 'N t h w P D']]:
        """(masks in [0,1], descriptors u, not normalised), float32.

        Args:
          x: the backbone's features, 0 at times that are not valid.
          shares: of P parts and of the background (R = P + 1) in each location (`ops.colour_segmentation`).
        """
        n, t, h, w, _ = x.shape
        parts = max(self.parts, 1)
        about = {'dtype': self.dtype, 'promote_dtype': _bias_in_float32}
        descriptors = nn.Dense(parts * self.descriptor_dim, **about, name='part_descriptor')(x)
        descriptors = descriptors.reshape(n, t, h, w, parts, self.descriptor_dim)
        if self.parts == 0:
            return jnp.ones((n, t, h, w, 1), jnp.float32), descriptors
        masks = parts if shares is None else parts + 1
        logits = nn.Conv(masks, (self.mask_kernel,) * 3, padding='SAME', **about, name='part_mask')(x)
        if self.position_term:
            position = self.param('position_term', lambda _key: horizontal_bands(parts, h, w))
            logits += jnp.moveaxis(position, 0, -1)
        if shares is not None:
            return jax.nn.softmax(BOUND * jnp.tanh(logits) + jnp.log(shares + LEAST_SHARE))[..., :parts], descriptors
        return jax.nn.sigmoid(logits), descriptors
