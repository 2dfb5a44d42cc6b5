"""An embedding layer for each part: no part reaches the numbers of another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.default import get_config
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.part_embedding import PartEmbedding


def test_a_part_reaches_its_own_numbers_alone():
    layer = PartEmbedding(parts=3, embedding_dim=12)
    descriptor = jax.random.normal(jax.random.key(0), (2, 15))
    variables = layer.init(jax.random.key(1), descriptor)
    kernel, bias = (np.asarray(variables['params'][name]) for name in ('kernel', 'bias'))
    assert kernel.shape == (3, 5, 4)
    changed = layer.apply(variables, descriptor.at[:, 5:10].add(1.0)) - layer.apply(variables, descriptor)
    np.testing.assert_allclose(changed[:, 4:8], np.tile(kernel[1].sum(0), (2, 1)), rtol=1e-5)
    assert not np.asarray(changed)[:, [*range(4), *range(8, 12)]].any()
    expected = np.concatenate([descriptor[:, 5 * p : 5 * p + 5] @ kernel[p] for p in range(3)], axis=1) + bias
    np.testing.assert_allclose(layer.apply(variables, descriptor), expected, rtol=1e-5, atol=1e-6)


def test_each_part_begins_at_the_scale_of_one_layer():
    """Unit variance per input, as nn.Dense: not that of all parts together."""
    layer = PartEmbedding(parts=6, embedding_dim=600)
    kernel = layer.init(jax.random.key(0), jnp.zeros((1, 1200)))['params']['kernel']
    np.testing.assert_allclose(kernel.std() * np.sqrt(200), 1, rtol=0.02)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ('pooling=average', "pooling is 'average'"),
        ('parts=0', 'parts 0'),
        ('parts=4,embedding_dim=0', 'embedding_dim 0'),
        ('parts=6,embedding_dim=512', 'Set it to 510 or 516'),
        ('parts=6,embedding_dim=4', 'Set it to 6'),
    ],
)
def test_what_cannot_be_divided_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        freeze(get_config(f'{arguments},embedding_by_part=true'))
