"""Depthwise 3x3 convolution and its gradients for XLA:CPU, as sums of shifted products in three loops over the frames.

XLA:CPU makes one vectorised loop, shared out among threads over the clips, of a sum of shifted slices of one array that lies in memory.
What each trick gave stands in docs/performance.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Clips = Float[Array, 'N T H W C']


def _padded(x: Clips, below: int = 1, right: int = 1) -> Clips:
    """One row of zeros above, one column to the left, and so many on the other sides."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (1, below, 0), (1, right, 0), (0, 0, 0)])


def _sum_of_taps(padded: Clips, kernel: Float[Array, '3 3 C'], height: int, width: int) -> Clips:
    """Summed in float32, in one loop: each place reads its nine neighbours, of which all but one are in the first cache."""
    kernel = kernel.astype(jnp.float32)
    taps = [padded[:, :, i : i + height, j : j + width].astype(jnp.float32) * kernel[i, j] for i in range(3) for j in range(3)]
    return sum(taps[1:], taps[0]).astype(padded.dtype)


def _neighbours(x: Clips, axis: int) -> list[Clips]:
    """The place before, the place itself and the one after, along an axis; at the edges the place itself stands for what is missing."""
    places = np.arange(x.shape[axis])
    before, after = (jnp.take(x, np.clip(places + shift, 0, len(places) - 1), axis, mode='clip') for shift in (-1, 1))
    return [before, x, after]


def _inside(size: int) -> tuple[np.ndarray, None, np.ndarray]:
    """What the taps of an axis are multiplied by: 0 where they see zeros, 1 elsewhere; the middle one sees no zeros."""
    return (np.arange(size) > 0).astype(np.float32), None, (np.arange(size) < size - 1).astype(np.float32)


def forward(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """One loop over x as it lies, without a copy among zeros: rows and columns outside are read at the edge and multiplied by 0.

    Zeros for rows are multiplied into the kernel, which the loop does once a row; those for columns into sums of three taps. A place at the
    edge is one of those that the output sees anyway, so what is not finite spreads no farther than it should.
    """
    kernel = kernel.astype(jnp.float32)
    rows, columns = _inside(x.shape[2]), _inside(x.shape[3])
    seen = [_neighbours(row, 3) for row in _neighbours(x, 2)]

    def column(j):
        taps = [kernel[i, j] if row is None else kernel[i, j] * row[:, None, None] for i, row in enumerate(rows)]
        total = sum(seen[i][j].astype(jnp.float32) * taps[i] for i in range(3))
        return total if columns[j] is None else total * columns[j][:, None]

    return (column(1) + column(0) + column(2)).astype(x.dtype)


def _block(size: int) -> tuple[int, int]:
    """(places a block, blocks) along an axis: 4 or 3 places, whichever covers it with fewer places in excess."""
    return min(((p, -(-size // p)) for p in (4, 3)), key=lambda b: b[0] * b[1])


def gradients(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C'], g: Float[Array, 'N T H W C']):
    """Of the input and of the kernel, for the gradient g of the output.

    g is laid among zeros once, for both: where it comes from a loop over places (a BatchNorm's gradient), that one writes it so. XLA does
    not merge this with the loops that read it, since it would be evaluated once a tap.

    The input's gradient is the convolution of g with the reversed kernel. The kernel's, nine sums over all places of x times a shifted g, is
    one loop as well: frames are cut into blocks of 4 x 4 places, nine of which compute the sum of one tap each over their block, by 16
    shifted products. A sum over all blocks is left, of 9/16 of the numbers of x.
    """
    height, width = x.shape[2:4]
    (rows, down), (columns, across) = _block(height), _block(width)
    # Windows of the last block begin up to a block's size - 1 behind the first place of it.
    padded = _padded(g, rows * down + rows - 2 - height, columns * across + columns - 2 - width)
    of_input = _sum_of_taps(padded, kernel[::-1, ::-1], height, width)

    excess = [(0, 0, 0), (0, 0, 0), (0, rows * down - height, 0), (0, columns * across - width, 0), (0, 0, 0)]
    blocks = (*x.shape[:2], down, rows, across, columns, x.shape[-1])
    whole = lax.pad(x, jnp.zeros((), x.dtype), excess).reshape(blocks).astype(jnp.float32)

    def sum_of_row(p):
        total = 0.0
        for q in range(columns):
            seen = padded[:, :, p : p + down * rows, q : q + across * columns].reshape(blocks)[:, :, :, :3, :, :3]
            total = total + seen.astype(jnp.float32) * whole[:, :, :, p : p + 1, :, q : q + 1]
        return total

    # Four short sums, which do not wait for each other. Place (i, j) of a block has seen g at i - 1 rows and j - 1 columns from x: tap
    # (2 - i, 2 - j). The reversal has to stand between the loop and the sum over blocks: XLA:CPU would hand a product and the sum of it to
    # YNNPACK, and copy all 32 slices for that (40 ms where this takes 4).
    sums = lax.rev(sum(sum_of_row(p) for p in range(rows)), (3, 5))
    return of_input, sums.sum((0, 1, 2, 4)).astype(kernel.dtype)


@jax.custom_vjp
def cpu_depthwise(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """The convolution of `pvlad_jax.models.depthwise_conv` with the gradients above."""
    return forward(x, kernel)


cpu_depthwise.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda residuals, g: gradients(*residuals, g))
