"""A uniform sample of local descriptors in bounded memory."""

import os

import numpy as np
from jaxtyping import Bool, Float

from pvlad_jax.core.errors import UserError


class DescriptorSample:
    """At most `size` locations drawn uniformly, without replacement, from a stream of local descriptors.

    Every valid location gets a random key from (seed, its number in the stream), and the locations with the
    smallest keys are kept. So the sample does not depend on how the stream is cut into batches, and memory is
    bounded by size + one batch.

    Args:
      size: config.vlad_init.max_descriptors.
      seed: of the draw.
    """

    def __init__(self, size: int, seed: int):
        if size < 1:
            raise UserError(f'config.vlad_init.max_descriptors = {size} must be at least 1.')
        self._size = size
        self._rng = np.random.default_rng([seed % 2**32, 0x5A3])
        self._keys = np.zeros(0)
        self._kept = None
        self.seen = 0  # valid locations so far

    def add(self, descriptors: Float[np.ndarray, 'n P D'], valid: Bool[np.ndarray, 'n'] | None = None) -> None:
        """Offers n locations, with the descriptors of all P parts at each; those not valid (padding) are passed
        over.

        Raises UserError if a sample of `size` such locations would take more than half of this machine's memory.
        """
        descriptors = np.asarray(descriptors, np.float32)
        if valid is not None:
            descriptors = descriptors[np.asarray(valid, bool)]
        if self._kept is None:
            self._kept = np.zeros((0, *descriptors.shape[1:]), np.float32)
            self._check_memory(int(np.prod(descriptors.shape[1:])) * 4)
        self.seen += len(descriptors)
        keys = self._rng.random(len(descriptors))
        if len(self._keys) == self._size:  # most of a long stream ends here, without being copied
            small = keys < self._keys.max()
            keys, descriptors = keys[small], descriptors[small]
        keys = np.concatenate([self._keys, keys])
        kept = np.concatenate([self._kept, descriptors])
        if len(keys) > self._size:
            chosen = np.sort(np.argpartition(keys, self._size - 1)[: self._size])  # in the order of the stream
            keys, kept = keys[chosen], kept[chosen]
        self._keys, self._kept = keys, kept

    def _check_memory(self, location_bytes: int) -> None:
        memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        needed = 2 * self._size * location_bytes  # the old sample and the new one while it is being made
        if needed > memory / 2:
            raise UserError(
                f'config.vlad_init.max_descriptors = {self._size} locations of {location_bytes} bytes take '
                f"{needed / 2**30:.1f} GiB, more than half of this machine's "
                f'{memory / 2**30:.1f} GiB. Set it to {int(memory / 4 / location_bytes)} or less.'
            )

    def descriptors(self) -> Float[np.ndarray, 'n P D']:
        """The sample, in the order of the stream. Raises UserError if nothing was offered."""
        if self._kept is None or not len(self._kept):
            raise UserError('The codebooks cannot be initialised: the training set gave no valid local descriptor.')
        return self._kept
