"""Winograd's minimal filtering along time, F(4,3): four output frames of a kernel of three with six 2D convolutions
instead of twelve.

Winograd 1980; Lavin and Gray 2016, section 4. Four output frames see six input frames d; the six kernels are KERNEL @
(k0, k1, k2), the six frames they are convolved with INPUT @ d, and the output frames are OUTPUT @ the six results. The
matrices are those of Toom and Cook for the points 0, 1, -1, 2, -1/2 and infinity, which round less than the usual ones
with 2 and -2 (Barabasz et al. 2018).

It is the same function up to rounding: errors against float64, as shares of the largest value, are up to 2.4e-6 for
results, 3.0e-6 for gradients of the input and 1.6e-6 for those of the kernel, PyTorch's 1.8e-6, 1.2e-6 and 1.3e-6
(benchmarks/rounding.py). F(2,3) rounds as little as the sum over taps does, and takes eight convolutions instead of
six.

Only time is treated so forward: whole frames are added, and what is moved is less than the taps' partial sums are. Over
height and width too the transforms would take longer than what they save. (The kernel's gradient is filtered along the
height as well: `winograd_height`.)
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.ops.cpu.frame_conv import frame_conv
from pvlad_jax.ops.cpu.kernel_gradient import frame_kernel_gradient
from pvlad_jax.ops.cpu.winograd_height import weighted
from pvlad_jax.ops.padding import Pair

FRAMES = 4  # output frames at a time
INPUT = (
    (2, 3, -4, -3, 2, 0),
    (0, 2, 5, 1, -2, 0),
    (0, 2, 1, -5, 2, 0),
    (0, -1, -2, 1, 2, 0),
    (0, -2, 1, 2, -1, 0),
    (0, 2, 3, -4, -3, 2),
)
KERNEL = (
    (1 / 2, 0, 0),
    (1 / 6, 1 / 6, 1 / 6),
    (1 / 6, -1 / 6, 1 / 6),
    (1 / 30, 1 / 15, 2 / 15),
    (16 / 15, -8 / 15, 4 / 15),
    (0, 0, 1 / 2),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -1 / 2, 0), (0, 1, 1, 4, 1 / 4, 0), (0, 1, -1, 8, -1 / 8, 1))


def saves_convolutions(frames_seen: int, outputs: int) -> bool:
    """Whether it takes fewer 2D convolutions of a frame than there are pairs of a tap and a frame of the clip that it
    sees.
    """
    return len(INPUT) * -(-outputs // FRAMES) < frames_seen


def _frames(x: Float[Array, 'N T H W C'], outputs: int, front: int) -> list[Float[Array, 'N -(-{outputs}//4) H W C']]:
    """d0 ... d5 of every four output frames, zeros outside the clip."""
    groups = -(-outputs // FRAMES)
    x = lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), (front, FRAMES * groups + 2 - front - x.shape[1], 0), *[(0, 0, 0)] * 3]
    )
    return [lax.slice_in_dim(x, i, i + FRAMES * (groups - 1) + 1, FRAMES, axis=1) for i in range(len(INPUT))]


def forward(
    x: Float[Array, 'N T H W C'],
    kernel: Float[Array, '3 kh kw C D'],
    outputs: int,
    front: int,
    strides: Sequence[int],
    padding: Sequence[Pair],
) -> Float[Array, 'N t h w D']:
    """outputs: frames of the result; front: frames of zeros before the clip; strides, padding: in (H, W)."""
    d, taps = _frames(x, outputs, front), list(kernel)
    m = [
        frame_conv(weighted(row, d), weighted(of_kernel, taps), strides, padding)
        for row, of_kernel in zip(INPUT, KERNEL)
    ]
    y = jnp.stack([weighted(row, m) for row in OUTPUT], axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :outputs]


def kernel_gradient(
    x: Float[Array, 'N T H W C'],
    g: Float[Array, 'N t h w D'],
    kernel: Pair,
    front: int,
    strides: Sequence[int],
    padding: Sequence[Pair],
) -> Float[Array, '3 kh kw C D']:
    """Of `forward`, float32: the transposes of its steps in reverse. kernel: (kh, kw)."""
    outputs = g.shape[1]
    d = _frames(x, outputs, front)
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, -outputs % FRAMES, 0), *[(0, 0, 0)] * 3])
    y = [g[:, i::FRAMES] for i in range(FRAMES)]

    seen = jnp.stack([weighted(row, d) for row in INPUT])
    gradients = jnp.stack([weighted(column, y) for column in zip(*OUTPUT)])
    # A loop, since XLA would take the windows of all six, and of all layers, from the forward pass and keep them until
    # they are needed: temporaries of a step of R3D-18 on clips of 4 x 8 x 128 x 64 pixels 911 -> 562 MB, 668 with the
    # sums above.
    products = lax.map(lambda one: frame_kernel_gradient(*one, kernel, strides, padding), (seen, gradients))
    return lax.dot_general(
        jnp.array(KERNEL, products.dtype), products, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
    )
