"""Padding frames and what is left of them behind a temporal stride.

One law holds for every backbone: an output frame o of a layer with temporal stride s stands for input frame s·o and is
valid exactly if that frame is. Features of invalid frames are zero wherever a temporal kernel looks, which is what
zero padding behind a shorter clip would have shown it. So neither the content nor the amount of padding matters.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def mask_frames(x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T']) -> Float[Array, 'N T H W C']:
    """Zeros at the invalid frames, whatever stood there (NaN included)."""
    return jnp.where(valid[:, :, None, None, None], x, jnp.zeros((), x.dtype))


def strided_valid(valid: Bool[Array, 'N T'], stride: int) -> Bool[Array, 'N t']:
    """Validity behind a layer of temporal stride `stride` with t = ceil(T / stride) output frames."""
    return valid[:, ::stride]
