"""A batch of ten videos, for tests of losses."""

import jax.numpy as jnp
import numpy as np

PEOPLE, SIZE = 10, 12
LABELS = np.array([3, 3, 0, 5, 5, 5, 0, 1, 6, 6])  # 1 is alone: an anchor without positive
IDS = jnp.asarray(LABELS)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embedding():
    return unit(np.random.default_rng(0).normal(size=(len(LABELS), SIZE))).astype(np.float32)


def logits():
    return np.random.default_rng(1).normal(size=(len(LABELS), PEOPLE)).astype(np.float32) * 3


def table():
    return unit(np.random.default_rng(2).normal(size=(PEOPLE, SIZE))).astype(np.float32)


def masks():
    return np.random.default_rng(3).uniform(0.05, 1, size=(3, 2, 2, 4, 2, 5)).astype(np.float32)
