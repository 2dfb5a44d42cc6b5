"""A batch of random clips and labels, as `pvlad_jax.data.train_batches` gives them."""

import numpy as np

from pvlad_jax.config import Config

PEOPLE = 625  # of MARS, classes of the classifier


def random_batch(config: Config) -> dict[str, np.ndarray]:
    """clips uint8 [B, S, T, H, W, 3], valid [B, S, T], label [B], of `batch.identities` people."""
    rng, c, n = np.random.default_rng(0), config.clips, config.batch.size
    return {
        'clips': rng.integers(0, 256, (n, c.segments, c.frames, c.height, c.width, 3), np.uint8),
        'valid': np.ones((n, c.segments, c.frames), bool),
        'label': np.repeat(np.arange(config.batch.identities), config.batch.tracklets).astype(np.int32),
    }
