"""Global pooling: the mean or the maximum over all valid locations."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pvlad_jax.models.pooling.interface import Intermediates, Pooling, Statistics, mean_of, total_of


class Average(Pooling):
    """The mean of all valid local features."""

    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Intermediates]:
        return total_of(x, valid), Intermediates()

    def finish(self, statistics: Statistics) -> Float[Array, 'B C']:
        return mean_of(statistics)

    def size(self, channels: int) -> int:
        return channels


class Maximum(Pooling):
    """The largest value of each channel over all valid locations."""

    merge: ClassVar[str] = 'max'

    def __call__(self, x: Float[Array, 'N t h w C'], valid: Bool[Array, 'N t']) -> tuple[Statistics, Intermediates]:
        x = jnp.where(valid[:, :, None, None, None], x.astype(jnp.float32), -jnp.inf)
        return {'largest': jnp.max(x, axis=(1, 2, 3))}, Intermediates()

    def finish(self, statistics: Statistics) -> Float[Array, 'B C']:
        largest = statistics['largest']
        return jnp.where(jnp.isneginf(largest), 0.0, largest)  # a video without a valid frame

    def size(self, channels: int) -> int:
        return channels
