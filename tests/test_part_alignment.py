"""Part masks and descriptors: what they are made of, where they begin, and the same in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.models.pooling.part_alignment import BOUND, PartAlignment, horizontal_bands


def made(module, shape=(2, 3, 4, 2, 6), seed=0):
    x = jax.random.normal(jax.random.key(seed), shape)
    return x, jax.jit(module.init)(jax.random.key(1), x)


@pytest.mark.parametrize('kernel', [1, 3])
def test_masks_lie_between_0_and_1_and_do_not_sum_to_1(kernel):
    module = PartAlignment(4, 5, kernel)
    x, variables = made(module)
    masks, descriptors = jax.jit(module.apply)(variables, x)
    assert masks.shape == (2, 3, 4, 2, 4) and descriptors.shape == (2, 3, 4, 2, 4, 5)
    assert 0 < masks.min() and masks.max() < 1
    assert np.abs(masks.sum(-1) - 1).max() > 0.1  # no softmax over parts


def test_bands_run_from_head_to_feet():
    bands = horizontal_bands(4, 8, 3)
    np.testing.assert_allclose(bands, bands[::-1, ::-1], atol=1e-6)  # seen from the feet the same
    np.testing.assert_array_equal(jnp.argmax(bands[:, :, 0], axis=1) // 2, np.arange(4))
    module = PartAlignment(4, 5, position_term=True)
    x, variables = made(module, (1, 1, 8, 3, 6))
    masks, _ = jax.jit(module.apply)(variables, jnp.zeros_like(x))  # features say nothing: position alone speaks
    np.testing.assert_array_equal(jnp.argmax(masks[0, 0, :, 0], axis=0) // 2, np.arange(4))


def test_masks_that_compete_begin_at_the_shares_and_stay_near_them():
    module = PartAlignment(4, 5)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 2, 6))
    shares = jax.random.dirichlet(jax.random.key(2), jnp.ones(5), (2, 3, 4, 2))
    variables = jax.jit(module.init)(jax.random.key(1), x, shares)
    assert variables['params']['part_mask']['kernel'].shape[-1] == 5  # a background
    masks, _ = jax.jit(module.apply)(variables, 100 * x, shares)
    background = 1 - masks.sum(-1)
    assert background.min() > 0
    odds = jnp.log(masks / background[..., None]) - jnp.log((shares[..., :4] + 1e-4) / (shares[..., 4:] + 1e-4))
    assert BOUND < jnp.abs(odds).max() < 2.001 * BOUND  # tanh of the one, less tanh of the other
    plain = jax.tree.map(jnp.zeros_like, variables)
    np.testing.assert_allclose(jax.jit(module.apply)(plain, x, shares)[0], shares[..., :4], atol=1e-3)


def test_bf16_inside_float32_outside():
    module = PartAlignment(4, 5, dtype=jnp.bfloat16)
    x, variables = made(module)
    masks, descriptors = jax.jit(module.apply)(variables, x)
    exact = jax.jit(PartAlignment(4, 5).apply)(variables, x)
    assert masks.dtype == descriptors.dtype == jnp.float32
    np.testing.assert_allclose(masks, exact[0], atol=0.02)
    np.testing.assert_allclose(descriptors, exact[1], atol=0.1)


@pytest.mark.parametrize('kernel', [1, 3])
def test_same_in_pytorch_forward_and_backward(kernel):
    torch = pytest.importorskip('torch', reason='PyTorch is the peer here; it is optional')
    module = PartAlignment(4, 5, kernel)
    x, variables = made(module)
    p = jax.tree.map(lambda v: torch.tensor(np.asarray(v), requires_grad=True), variables['params'])
    tx = torch.tensor(np.asarray(x)).permute(0, 4, 1, 2, 3)
    mask = torch.sigmoid(
        torch.nn.functional.conv3d(
            tx, p['part_mask']['kernel'].permute(4, 3, 0, 1, 2), p['part_mask']['bias'], padding=kernel // 2
        )
    ).permute(0, 2, 3, 4, 1)
    u = (tx.permute(0, 2, 3, 4, 1) @ p['part_descriptor']['kernel'] + p['part_descriptor']['bias']).reshape(
        2, 3, 4, 2, 4, 5
    )
    (mask[..., None] * u).square().sum().backward()

    def ours(params):
        masks, descriptors = module.apply({'params': params}, x)
        return jnp.square(masks[..., None] * descriptors).sum(), (masks, descriptors)

    gradients, (masks, descriptors) = jax.jit(jax.grad(ours, has_aux=True))(variables['params'])
    np.testing.assert_allclose(masks, mask.detach(), atol=1e-5)
    np.testing.assert_allclose(descriptors, u.detach(), atol=1e-5)
    for ours_, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(p)):
        np.testing.assert_allclose(ours_, theirs.grad, rtol=1e-4, atol=1e-4)
