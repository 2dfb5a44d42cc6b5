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


def continued(x: Float[Array, 'N T H W C'], valid: Bool[Array, 'N T'], frames: int) -> Float[Array, 'N S H W C']:
    """`frames` more at either end, S = T + 2·frames, that repeat the first and the last valid frame; an invalid frame
    within `frames` of a valid one before it repeats that too, all others are zero.

    In place of a temporal kernel's zero padding: a clip of one frame repeated then gives the same features at all its
    times. Frames that are not valid are not seen.
    """
    more = jnp.zeros((x.shape[0], frames), bool)
    held = jnp.concatenate([valid[:, :1]] * frames + [valid, more], 1)
    x = mask_frames(jnp.concatenate([x[:, :1]] * frames + [x] + [x[:, -1:]] * frames, 1), held)
    for _ in range(frames):
        # One step later, or zero.
        before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
        x = jnp.where(held[:, :, None, None, None], x, before)
        held |= jnp.pad(held[:, :-1], ((0, 0), (1, 0)))
    return x
