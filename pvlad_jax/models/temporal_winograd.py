"""Winograd's minimal filtering along time, F(2,3): two output frames of a kernel of three frames with four 2D convolutions instead of six.

Winograd 1980; Lavin and Gray 2016, section 4.1. With input frames d0 ... d3, kernel frames k0, k1, k2 and * a 2D convolution:

    m0 = (d0 - d2) * k0                     y0 = m0 + m1 + m2
    m1 = (d1 + d2) * (k0 + k1 + k2) / 2     y1 = m1 - m2 - m3
    m2 = (d2 - d1) * (k0 - k1 + k2) / 2
    m3 = (d1 - d3) * k2

It is the same function up to rounding: against float64, errors are 1.3 times those of the sum over taps (F(4,3), with a third less work again,
has 3 to 5 times, so it is not used). Only time is treated so: whole frames are added, and what is moved is less than the taps' partial
sums are. Over height and width too the transforms would take longer than what they save.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pvlad_jax.models.cpu_frame_conv import frame_conv, frame_kernel_gradient


def products_saved(frames_seen: int, outputs: int) -> bool:
    """Whether it takes fewer 2D convolutions of a frame than the taps that see a frame of the clip."""
    return 4 * _pairs(outputs) < frames_seen


def _pairs(outputs: int) -> int:
    return -(-outputs // 2)


def _inputs(x: Float[Array, 'N T H W C'], outputs: int, front: int) -> list[Float[Array, 'N T/2 H W C']]:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3 of every pair of output frames."""
    pairs = _pairs(outputs)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (front, 2 * pairs + 2 - front - x.shape[1], 0), *[(0, 0, 0)] * 3])
    d = [lax.slice_in_dim(x, i, i + 2 * pairs - 1, 2, axis=1) for i in range(4)]
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def forward(
    x: Float[Array, 'N T H W C'], kernel: Float[Array, '3 kh kw C D'], outputs: int, front: int, strides, padding
) -> Float[Array, 'N t h w D']:
    """outputs: frames of the result; front: frames of zeros before the clip; strides, padding: in (H, W)."""
    k0, k1, k2 = kernel
    kernels = [k0, (k0 + k1 + k2) / 2, (k0 - k1 + k2) / 2, k2]
    m = [frame_conv(d, k, strides, padding) for d, k in zip(_inputs(x, outputs, front), kernels)]
    y = jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :outputs]


def kernel_gradient(
    x: Float[Array, 'N T H W C'], g: Float[Array, 'N t h w D'], kernel: tuple[int, int], front: int, strides, padding
) -> Float[Array, '3 kh kw C D']:
    """Of `forward`, float32: the transposes of its steps in reverse. kernel: (kh, kw)."""
    outputs = g.shape[1]
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), (0, 2 * _pairs(outputs) - outputs, 0), *[(0, 0, 0)] * 3])
    y0, y1 = (lax.slice_in_dim(g, i, None, 2, axis=1) for i in range(2))
    of_products = [y0, y0 + y1, y0 - y1, -y1]
    a, b, c, d = (
        frame_kernel_gradient(v, of_product, kernel, strides, padding) for v, of_product in zip(_inputs(x, outputs, front), of_products)
    )
    return jnp.stack([a + (b + c) / 2, (b - c) / 2, d + (b + c) / 2])
