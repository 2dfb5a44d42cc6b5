"""Depthwise 3x3 convolution and its gradients for XLA:CPU, as sums of shifted products in three loops over the frames.

XLA:CPU makes one vectorised loop, shared out among threads over the frames, of a sum of shifted slices of *one array that lies in memory*.
So zeros are put around the frames first, which XLA does not merge into such a loop because it would be evaluated once a tap.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Clips = Float[Array, 'N T H W C']


def _padded(x: Clips, below: int = 1, right: int = 1) -> Clips:
    """One row of zeros above, one column to the left, and so many on the other sides."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), (1, below, 0), (1, right, 0), (0, 0, 0)])


def _sum_of_taps(padded: Clips, kernel: Float[Array, '3 3 C'], height: int, width: int) -> Clips:
    """Summed in float32. One loop: each place reads its nine neighbours, of which all but one are in the first cache."""
    taps = [padded[:, :, i : i + height, j : j + width].astype(jnp.float32) * kernel[i, j].astype(jnp.float32) for i in range(3) for j in range(3)]
    return sum(taps[1:], taps[0]).astype(padded.dtype)


def forward(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    return _sum_of_taps(_padded(x), kernel, *x.shape[2:4])


def _block(size: int) -> tuple[int, int]:
    """(places a block, blocks) along an axis: 4 or 3 places, whichever covers it with fewer places in excess."""
    return min(((p, -(-size // p)) for p in (4, 3)), key=lambda b: b[0] * b[1])


def gradients(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C'], g: Float[Array, 'N T H W C']):
    """Of the input and of the kernel, for the gradient g of the output.

    The input's is the convolution of g with the reversed kernel. The kernel's, nine sums over all places of x times a shifted g, is one loop
    as well: frames are cut into blocks of 4 x 4 places, nine of which compute the sum of one tap each over their block, by 16 shifted
    products as in `_sum_of_taps`. A sum over all blocks is left, of 9/16 of the numbers of x.
    """
    height, width = x.shape[2:4]
    (rows, down), (columns, across) = _block(height), _block(width)
    # Windows of the last block begin up to a block's size - 1 behind the first place of it.
    padded = _padded(g, rows * down + rows - 2 - height, columns * across + columns - 2 - width)
    of_input = _sum_of_taps(padded, kernel[::-1, ::-1], height, width)

    excess = [(0, 0, 0), (0, 0, 0), (0, rows * down - height, 0), (0, columns * across - width, 0), (0, 0, 0)]
    blocks = (*x.shape[:2], down, rows, across, columns, x.shape[-1])
    whole = lax.pad(x, jnp.zeros((), x.dtype), excess).reshape(blocks).astype(jnp.float32)
    sums = 0.0
    for p in range(rows):
        for q in range(columns):
            seen = padded[:, :, p : p + down * rows, q : q + across * columns].reshape(blocks)[:, :, :, :3, :, :3]
            sums = sums + seen.astype(jnp.float32) * whole[:, :, :, p : p + 1, :, q : q + 1]
    # Place (i, j) of a block has seen g at i - 1 rows and j - 1 columns from x: tap (2 - i, 2 - j). The reversal has to stand between the
    # loop and the sum: XLA:CPU would hand a product and the sum of it to YNNPACK, and copy all 32 slices for that (40 ms where this takes 4).
    of_kernel = lax.rev(sums, (3, 5)).sum((0, 1, 2, 4))
    return of_input, of_kernel.astype(kernel.dtype)


@jax.custom_vjp
def cpu_depthwise(x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 3 C']) -> Float[Array, 'N T H W C']:
    """The convolution of `pvlad_jax.models.depthwise_conv` with the gradients above."""
    return forward(x, kernel)


cpu_depthwise.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda residuals, g: gradients(*residuals, g))
