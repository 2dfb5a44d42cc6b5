"""Parameters of a small network, and gradients for them, for tests of what updates them."""

import jax
import jax.numpy as jnp
import numpy as np


def make_params():
    random = np.random.default_rng(0)

    def tensor(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    return {
        'backbone': {
            'stem': {'conv': {'kernel': tensor(2, 3)}, 'norm': {'scale': tensor(3), 'bias': tensor(3)}},
            'stage1': {'block0': {'conv1': {'conv': {'kernel': tensor(3, 2)}}}},
            'stage2': {'block0': {'conv1': {'conv': {'kernel': tensor(2, 4)}}}},
        },
        'aggregator': {
            'part_alignment': {
                'part_mask': {'kernel': tensor(4, 2), 'bias': tensor(2)},
                'position_term': tensor(2, 3, 2),
            },
            'vlad': {'assignment_weight': tensor(2, 3, 4), 'assignment_bias': tensor(2, 3), 'centres': tensor(2, 3, 4)},
        },
        'classifier': {'kernel': tensor(4, 5), 'bias': tensor(5)},
        'loss_centres': tensor(5, 4),
    }


def gradients(params, step):
    """Some gradient of each step, the same for all tests."""
    random = np.random.default_rng(step + 1)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), params)


def names(tree):
    return {'/'.join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
