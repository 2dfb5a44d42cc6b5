"""Padding frames and what is left of them behind a temporal stride.

One law holds for every backbone: an output frame o of a layer with temporal stride s stands for input frame s·o and is
valid exactly if that frame is. Features of invalid frames are zero wherever a temporal kernel looks, which is what
zero padding behind a shorter clip would have shown it. So neither the content nor the amount of padding matters.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
    return _taken(x, _source(valid, frames), frames)


def _source(valid: Bool[Array, 'N T'], frames: int) -> Int[Array, 'N S']:
    """Which frame of the clip stands at each of S = T + 2·frames times; T where none does."""
    none = valid.shape[1]
    clip = jnp.where(valid, jnp.arange(none), none)
    source = jnp.concatenate([clip[:, :1]] * frames + [clip, jnp.full((clip.shape[0], frames), none)], 1)
    for _ in range(frames):
        before = jnp.pad(source[:, :-1], ((0, 0), (1, 0)), constant_values=none)
        source = jnp.where(source < none, source, before)
    return source


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _taken(x: Float[Array, 'N T H W C'], source: Int[Array, 'N S'], frames: int) -> Float[Array, 'N S H W C']:
    """The frames of `source`, zero where there is none.

    None is taken for a time further than `frames` from its own, so the result, and the gradient, is a sum of
    2·frames + 1 masked slices, faster on a CPU than the padded ones that JAX derives.
    """
    more, times = 2 * frames, jnp.arange(source.shape[1])
    padded = jnp.pad(x, ((0, 0), (more, more), *[(0, 0)] * 3))
    slices = [(padded[:, i : i + len(times)], source == times + i - more) for i in range(more + 1)]
    return sum(mask_frames(part, seen) for part, seen in slices)


def _taken_gradient(frames: int, source: Int[Array, 'N S'], g: Float[Array, 'N S H W C']):
    times = jnp.arange(g.shape[1] - 2 * frames)
    slices = [(g[:, i : i + len(times)], source[:, i : i + len(times)] == times) for i in range(2 * frames + 1)]
    return sum(mask_frames(part, seen) for part, seen in slices), None


_taken.defvjp(lambda x, source, frames: (_taken(x, source, frames), source), _taken_gradient)
