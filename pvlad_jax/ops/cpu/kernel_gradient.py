"""The gradient of the kernel of `frame_conv`, as matrix products.

Over all L locations, the sum of (output gradient) x (what a tap sees): gᵀ [D, L] @ x [L, kw·C] for each of kh taps,
fewer and of half the locations with `winograd_height`. What JAX derives is a convolution whose window is the whole
picture and whose result has 3 x 3 locations, which no convolution is optimised for; its long sums round up to eight
times as much.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu.thin_columns import THIN_CHANNELS
from pvlad_jax.ops.cpu.winograd_height import FILTERS, MAX_TAPS, G, weighted
from pvlad_jax.ops.hidden_zero import zero_after
from pvlad_jax.ops.padding import Pair

# Columns of a product that one thread takes. Narrower windows that meet the same factor are put together: the stem of
# R3D-18, 63 columns, 51 -> 36 ms; of I3D, 147 columns, 35 -> 42.
NARROW = 64


def width_windows(
    x: Float[Array, 'N T H W C'], k: int, outputs: int, stride: int, front: int
) -> Float[Array, 'N T H w kC']:
    """What each tap of a kernel sees along the width, zeros outside, side by side in the channels.

    A window lies together in memory, so each is copied as a whole: 1.7 ms for clips of 2 x 8 x 64 x 32 x 64, against
    7.9 for a concatenation of shifted copies.
    """
    n, t, h, width, c = x.shape
    if (k, stride, front, outputs) == (1, 1, 0, width):
        return x
    end = (outputs - 1) * stride + k - front - width
    rows = lax.pad(x, jnp.zeros((), x.dtype), [*[(0, 0, 0)] * 3, (front, end, 0), (0, 0, 0)]).reshape(n * t * h, -1)
    starts = jnp.arange(outputs) * (stride * c)
    windows = jax.vmap(lambda start: lax.dynamic_slice(rows, (0, start), (n * t * h, k * c)), out_axes=1)(starts)
    return windows.reshape(n, t, h, outputs, k * c)


def _neighbours(kernel: int, stride: int, front: int, at_most: int) -> list[list[int]]:
    """Taps of a kernel that see rows next to each other in a picture with every stride-th row, at most `at_most`
    together.
    """
    phases = [[tap for tap in range(kernel) if (tap - front) % stride == first] for first in range(stride)]
    return [taps[i : i + at_most] for taps in phases for i in range(0, len(taps), at_most)]


def frame_kernel_gradient(
    x: Float[Array, 'N T H W C'],
    g: Float[Array, 'N T h w D'],
    kernel: Pair,
    strides: Sequence[int],
    padding: Sequence[Pair],
) -> Float[Array, 'kh kw C D']:
    """float32. kernel: (kh, kw); g: gradient of the output; strides and padding in (H, W).

    gᵀ comes first in the products, because the factor that lies across memory should be the narrow one. In half
    precision, where sums of rows would be rounded, every tap goes by itself.

    Pixels are known from the start, but the windows of thin inputs are not made before g is known: XLA would keep them.
    """
    (kh, kw), height, c, (h, w, d) = kernel, x.shape[2], x.shape[-1], g.shape[2:]
    if c <= THIN_CHANNELS:
        x = (x + zero_after(g)).astype(x.dtype)
    stride, front, pairs = strides[0], padding[0][0], -(-h // 2)
    if h % 2:
        g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 0)])
    g = g[:, :, ::2], g[:, :, 1::2]

    # What the taps see: for every point of the filtering, of every set of taps that has it.
    sets = _neighbours(kh, stride, front, MAX_TAPS if x.dtype == jnp.float32 else 1)
    windows: dict[int | str, dict[int, Array]] = {}
    for i, taps in enumerate(sets):
        first, needed = taps[0] - front, 2 * pairs + len(taps) - 1
        behind = first + (needed - 1) * stride + 1 - height
        rows = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (-first, behind, 0), (0, 0, 0), (0, 0, 0)])
        end = (pairs - 1) * 2 * stride + 1
        rows = [lax.slice_in_dim(rows, j * stride, j * stride + end, 2 * stride, 2) for j in range(len(taps) + 1)]
        for point, weights in zip(FILTERS[len(taps)].points, FILTERS[len(taps)].seen):
            seen = width_windows(weighted(weights, rows), kw, w, strides[1], padding[1][0])
            windows.setdefault(point, {})[i] = seen.reshape(-1, kw * c)

    # Its products with the output's gradient, by set and point.
    products: dict[tuple[int, int | str], Float[Array, 'D kw C']] = {}
    for point, of_sets in windows.items():
        gradient = weighted(G[point], g).reshape(-1, d)
        together = len(of_sets) if kw * c <= NARROW else 1
        for i in range(0, len(of_sets), together):
            some = list(of_sets)[i : i + together]
            factors = gradient, jnp.concatenate([of_sets[j] for j in some], axis=1)
            product = lax.dot_general(*factors, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
            products |= {
                (j, point): part.reshape(d, kw, c) for j, part in zip(some, jnp.split(product, len(some), axis=1))
            }

    of_tap = {}
    for i, taps in enumerate(sets):
        points, _, weights_of_taps = FILTERS[len(taps)]
        of_tap |= {
            tap: weighted(weights, [products[i, point] for point in points])
            for tap, weights in zip(taps, weights_of_taps)
        }
    return jnp.stack([of_tap[tap] for tap in range(kh)]).transpose(0, 2, 3, 1)
