"""The gradient of the kernel of `cpu_frame_conv.frame_conv`, as matrix products.

Over all places, the sum of (output gradient) x (what a tap sees): gᵀ [D, places] @ x [places, kw·C] for each of kh taps. What JAX derives
is a convolution whose window is the whole picture and whose result has 3 x 3 places, far from what any convolution is made for.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.models.cpu_frame_conv import Pair


def width_windows(x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int) -> Float[Array, 'N T H w kC']:
    """What each tap of a kernel sees along the width, zeros outside, side by side in the channels.

    A window lies together in memory, so each is copied as a whole: 1.7 ms for clips of 2 x 8 x 64 x 32 x 64, against 7.9 for a
    concatenation of shifted copies.
    """
    n, t, h, width, c = x.shape
    if k == 1 and stride == 1:
        return x
    end = (outputs - 1) * stride + k - front - width
    rows = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (front, end, 0), (0, 0, 0)]).reshape(n * t * h, -1)
    starts = jnp.arange(outputs) * (stride * c)
    windows = jax.vmap(lambda start: lax.dynamic_slice(rows, (0, start), (n * t * h, k * c)), out_axes=1)(starts)
    return windows.reshape(n, t, h, outputs, k * c)


def phases(x: Array, axis: int, taps: int, stride: int, front: int) -> tuple[dict[int, Array], list[tuple[int, int]]]:
    """(what taps of a strided kernel see of x, by its first place; for every tap that place and an offset).

    Place o of the output sees place o + offset of what its tap sees. Cut once for all taps that share it, before windows are made: cutting
    rows and frames out of windows took 97 ms of a step of R3D-18.
    """
    seen = [((tap - front) % stride, (tap - front) // stride) for tap in range(taps)]
    return {first: x if stride == 1 else lax.slice_in_dim(x, first, None, stride, axis) for first in {first for first, _ in seen}}, seen


def shifted(g: Array, axis: int, offset: int, size: int) -> Array | None:
    """g moved along an axis to the places that its places see: g of place o stands at o + offset of `size`. None where nothing is seen."""
    outputs = g.shape[axis]
    if offset + outputs <= 0 or offset >= size:
        return None
    # A negative width of padding cuts off.
    widths = [(offset, size - outputs - offset, 0) if i == axis else (0, 0, 0) for i in range(g.ndim)]
    return lax.pad(g, jnp.zeros((), g.dtype), widths)


def frame_kernel_gradient(
    x: Float[Array, 'N T H W C'], g: Float[Array, 'N T h w D'], kernel: Pair, strides: Sequence[int], padding: Sequence[Pair]
) -> Float[Array, 'kh kw C D']:
    """float32. kernel: (kh, kw); g: gradient of the output; strides and padding in (H, W).

    It is g that is shifted against x, since its copies are smaller. gᵀ comes first, because the factor that lies across memory should be
    the narrow one.
    """
    (kh, kw), c, (w, d) = kernel, x.shape[-1], g.shape[-2:]
    parts, taps = phases(x, 2, kh, strides[0], padding[0][0])
    windows = {first: width_windows(part, kw, w, strides[1], padding[1][0]) for first, part in parts.items()}

    def product(first, offset):
        gradient = shifted(g, 2, offset, parts[first].shape[2])
        if gradient is None:
            return jnp.zeros((d, kw * c), jnp.float32)
        factors = gradient.reshape(-1, d), windows[first].reshape(-1, kw * c)
        return lax.dot_general(*factors, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    return jnp.stack([product(*tap) for tap in taps]).reshape(kh, d, kw, c).transpose(0, 2, 3, 1)
