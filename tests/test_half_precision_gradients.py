"""Gradients in bfloat16 are those in float32 up to rounding, also where they are sums over many locations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.models.backbones.osnet import ChannelGate
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.models.pooling.part_alignment import PartAlignment

MODULES = {
    'conv': lambda dtype: Conv3D(16, (1, 1, 1), use_bias=True, dtype=dtype),
    'gate': lambda dtype: ChannelGate(dtype),
    'alignment': lambda dtype: PartAlignment(2, 3, mask_kernel=3, dtype=dtype),
}


@pytest.mark.parametrize('kind', MODULES)
def test_sums_over_locations_lose_nothing(kind):
    # Sums of as many numbers of one sign stop growing at a few hundred where they are kept in bfloat16.
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 32, 16, 16)), jnp.bfloat16)
    params = MODULES[kind](jnp.float32).init(jax.random.key(0), x.astype(jnp.float32))
    weight = [
        rng.uniform(size=a.shape) for a in jax.tree.leaves(jax.eval_shape(MODULES[kind](jnp.float32).apply, params, x))
    ]

    def gradient(dtype):
        def total(params):
            outputs = jax.tree.leaves(MODULES[kind](dtype).apply(params, x.astype(dtype)))
            return sum((y.astype(jnp.float32) * w).sum() for y, w in zip(outputs, weight))

        return jax.jit(jax.grad(total))(params)

    for (path, exact), half in zip(
        jax.tree_util.tree_leaves_with_path(gradient(jnp.float32)), jax.tree.leaves(gradient(jnp.bfloat16))
    ):
        off = np.linalg.norm(half - exact) / np.linalg.norm(exact)
        assert off < 0.01, (jax.tree_util.keystr(path), off)
