"""Depthwise 3x3 convolution and its gradients for XLA:CPU, as sums of shifted products in three loops over the frames.

XLA:CPU makes one vectorised loop, shared out among threads over the clips, of a sum of shifted slices of one array that
lies in memory. What each trick gave stands in docs/notes/cpu_convolution.md.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.hidden_zero import hidden_zero

Clips = Float[Array, 'N T H W C']
Padded = Float[Array, 'N T Hp Wp C']  # among zeros


def _among_zeros(x: Clips, below: int = 1, right: int = 1) -> Padded:
    """One row of zeros above, one column to the left, `below` rows and `right` columns on the other sides."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (1, below, 0), (1, right, 0), (0, 0, 0)])


def _window(padded: Padded, i: int, j: int, height: int, width: int, zero: Array) -> Clips:
    """height x width locations of `_among_zeros` from row i and column j on, float32.

    The window that sees no zeros starts at a `hidden_zero`, so that all are read from the same array.
    """
    sizes = (*padded.shape[:2], height, width, padded.shape[-1])
    if (i, j) == (1, 1):
        window = lax.dynamic_slice(padded, (0, 0, 1 + zero, 1, 0), sizes)
    else:
        window = lax.slice(padded, (0, 0, i, j, 0), (*sizes[:2], i + height, j + width, sizes[-1]))
    return window.astype(jnp.float32)


def _sum_of_taps(padded: Padded, kernel: Float[Array, '3 3 C'], height: int, width: int) -> Float[Array, 'N T H W C']:
    """float32, in one loop: each location reads its nine neighbours, of which all but one are in the first cache."""
    zero, kernel = hidden_zero(kernel), kernel.astype(jnp.float32)
    taps = [_window(padded, i, j, height, width, zero) * kernel[i, j] for i in range(3) for j in range(3)]
    return sum(taps[1:], taps[0])


def forward(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """A copy among zeros and a sum of nine windows of it.

    XLA does not merge the copy with the loop that reads it, since it would be evaluated once a tap.
    """
    return _sum_of_taps(_among_zeros(x), kernel, *x.shape[2:4]).astype(x.dtype)


def _block(size: int) -> tuple[int, int]:
    """(locations a block, blocks) along an axis: 4 or 3 locations, whichever covers it with fewer locations in
    excess.
    """
    return min(((p, -(-size // p)) for p in (4, 3)), key=lambda b: b[0] * b[1])


def gradients(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C'], g: Float[Array, 'N T H W C']):
    """Of the input and of the kernel, for the gradient g of the output.

    g is laid among zeros once, for both: where it comes from a loop over locations (a BatchNorm's gradient), that one
    writes it so.

    The input's gradient is the convolution of g with the reversed kernel. The kernel's, nine sums over all locations of
    x times a shifted g, is one loop as well: frames are cut into blocks of 4 x 4 locations, nine of which compute the
    sum of one tap each over their block, by 16 shifted products. A sum over all blocks is left, of 9/16 of the numbers
    of x.
    """
    height, width = x.shape[2:4]
    (rows, down), (columns, across) = _block(height), _block(width)
    # Windows of the last block begin up to a block's size - 1 behind the first location of it.
    padded = _among_zeros(g, rows * down + rows - 2 - height, columns * across + columns - 2 - width)
    of_input = _sum_of_taps(padded, kernel[::-1, ::-1], height, width).astype(x.dtype)

    zero, channels = hidden_zero(kernel), x.shape[-1]
    excess = [(0, 0, 0), (0, 0, 0), (0, rows * down - height, 0), (0, columns * across - width, 0), (0, 0, 0)]
    blocks = (*x.shape[:2], down, rows, across, columns, channels)
    whole = lax.pad(x, jnp.zeros((), x.dtype), excess).reshape(blocks).astype(jnp.float32)

    def sum_of_row(p):
        total = 0.0
        for q in range(columns):
            seen = _window(padded, p, q, down * rows, across * columns, zero).reshape(blocks)[:, :, :, :3, :, :3]
            total = total + seen * whole[:, :, :, p : p + 1, :, q : q + 1]
        return total

    # Four short sums that do not wait for each other. Location (i, j) of a block has seen g at i - 1 rows and j - 1
    # columns from x: tap (2 - i, 2 - j). The reversal has to stand between the loop and the sum over blocks: XLA:CPU
    # would hand a product and the sum of it to YNNPACK, and copy all 32 slices for that (40 ms where this takes 4).
    sums = lax.rev(sum(sum_of_row(p) for p in range(rows)), (3, 5))
    return of_input, sums.sum((0, 1, 2, 4)).astype(kernel.dtype)


@jax.custom_vjp
def cpu_depthwise(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """The convolution of `pvlad_jax.ops.depthwise_conv` with the gradients above."""
    return forward(x, kernel)


cpu_depthwise.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda residuals, g: gradients(*residuals, g))
