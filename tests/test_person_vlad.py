"""PersonVLAD's sums against their plain definition, NetVLAD, numerical gradients and an independent computation in
PyTorch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from pvlad_jax.config import ModelConfig
from pvlad_jax.models.pooling import PersonVlad, vlad_codebook
from pvlad_jax.ops.l2_normalise import l2_normalise

# Each one program in place of one for every operation.
residual_sums, vlad_descriptor = map(jax.jit, (vlad_codebook.residual_sums, vlad_codebook.vlad_descriptor))
N, L, P, K, D = 2, 7, 3, 4, 5


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    return {
        'u': rng.normal(size=(N, L, P, D)),
        'weight': rng.random((N, L, P)),
        'w': 3 * rng.normal(size=(P, K, D)),
        'b': rng.normal(size=(P, K)),
        'c': rng.normal(size=(P, K, D)),
    }


def float32(given):
    return {k: jnp.asarray(v, jnp.float32) for k, v in given.items()}


def plain_sums(u, weight, w, b, c):
    """The definition, place by place."""
    sums = np.zeros((N, P, K, D))
    for n in range(N):
        for p in range(P):
            for place in range(L):
                unit = u[n, place, p] / np.linalg.norm(u[n, place, p])
                logits = w[p] @ unit + b[p]
                a = np.exp(logits - logits.max())
                a /= a.sum()
                for k in range(K):
                    sums[n, p, k] += weight[n, place, p] * a[k] * (unit - c[p, k])
    return sums


def test_the_factored_sum_is_the_plain_residual_sum(given):
    sums, assignment = residual_sums(**float32(given))
    np.testing.assert_allclose(sums, plain_sums(**given), atol=1e-5)
    np.testing.assert_allclose(assignment.sum(-1), 1, atol=1e-6)


def test_sums_add_over_places_in_any_order(given):
    x = float32(given)
    whole, _ = residual_sums(**x)
    order = np.random.default_rng(1).permutation(L)
    parts = [
        residual_sums(**(x | {'u': x['u'][:, rows], 'weight': x['weight'][:, rows]}))[0]
        for rows in (order[:2], order[2:])
    ]
    np.testing.assert_allclose(parts[0] + parts[1], whole, atol=1e-5)


def test_a_mask_weighs_the_residual_and_does_not_cancel(given):
    x = float32(given)
    half = vlad_descriptor(residual_sums(**(x | {'weight': x['weight'].at[:, 0].mul(0.1)}))[0])
    assert np.abs(half - vlad_descriptor(residual_sums(**x)[0])).max() > 1e-3


def test_one_part_with_mask_one_is_netvlad():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(2, 2, 3, 2, 6)), jnp.float32)
    module = PersonVlad(parts=0, clusters=K, descriptor_dim=D)
    variables = jax.jit(module.init)(jax.random.key(0), x, jnp.ones((2, 2), bool))
    statistics, intermediates = jax.jit(module.apply)(variables, x, jnp.ones((2, 2), bool))
    dense, words = variables['params']['part_alignment']['part_descriptor'], variables['params']['vlad']
    assert set(variables['params']['part_alignment']) == {'part_descriptor'}
    assert intermediates.part_masks is None and intermediates.soft_assignment.shape == (2, 2, 3, 2, 1, K)
    # NetVLAD as published: soft assignment, residuals, intra-normalisation, L2.
    descriptors = np.asarray(x.reshape(2, -1, 6) @ dense['kernel'] + dense['bias'])
    unit = descriptors / np.linalg.norm(descriptors, axis=-1, keepdims=True)
    logits = unit @ words['assignment_weight'][0].T + words['assignment_bias'][0]
    a = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    vlad = np.einsum('nlk,nlkd->nkd', a, unit[:, :, None] - words['centres'][0])
    vlad /= np.linalg.norm(vlad, axis=-1, keepdims=True)
    vlad = vlad.reshape(2, -1) / np.linalg.norm(vlad.reshape(2, -1), axis=-1, keepdims=True)
    np.testing.assert_allclose(module.finish(statistics), vlad, atol=1e-5)


def test_codewords_keep_their_shares_when_parts_are_normalised(given):
    sums, _ = residual_sums(**float32(given))
    rows = vlad_codebook.vlad_descriptor(sums, 'part').reshape(N, P, K, D)
    plain = plain_sums(**given)
    np.testing.assert_allclose(rows, plain / (np.linalg.norm(plain, axis=(2, 3), keepdims=True) * P**0.5), atol=1e-5)
    # By codeword all have the same length, whatever they met.
    lengths = np.linalg.norm(vlad_descriptor(sums).reshape(N, P, K, D), axis=-1)
    np.testing.assert_allclose(lengths, (P * K) ** -0.5, atol=1e-5)


def test_the_pooling_normalises_as_configured(given):
    sums, _ = residual_sums(**float32(given))
    for norm in ('codeword', 'part'):
        pooling = PersonVlad.from_config(ModelConfig(parts=P, clusters=K, descriptor_dim=D, vlad_norm=norm))
        np.testing.assert_array_equal(pooling.finish({'residual': sums}), vlad_codebook.vlad_descriptor(sums, norm))


def test_gradients_are_those_of_differences(given):
    with jax.enable_x64(True):
        x = {k: jnp.asarray(v) for k, v in given.items()}
        descriptor = jax.jit(lambda *a: vlad_descriptor(residual_sums(*a)[0]))
        check_grads(descriptor, tuple(x.values()), order=1, modes=('rev',), atol=1e-5, rtol=1e-5)


def test_empty_words_and_zero_features_have_finite_gradients(given):
    x = float32(given) | {'u': jnp.zeros((N, L, P, D)), 'weight': jnp.zeros((N, L, P))}
    far = x | {'b': x['b'].at[:, 0].set(-1e4)}  # word 0 gets exactly nothing
    gradient = jax.jit(jax.grad(lambda a: (vlad_descriptor(residual_sums(**a)[0]) ** 3).sum()))
    for case in (x, far, far | {'u': float32(given)['u'], 'weight': float32(given)['weight']}):
        gradients = gradient(case)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    np.testing.assert_array_equal(l2_normalise(jnp.zeros((1, 3))), 0)


def test_same_in_pytorch_forward_and_backward(given):
    torch = pytest.importorskip('torch', reason='PyTorch is the peer here; it is optional')
    functional = torch.nn.functional
    t = {k: torch.tensor(v, dtype=torch.float32, requires_grad=True) for k, v in given.items()}
    unit = functional.normalize(t['u'], dim=-1)
    a = torch.softmax(torch.einsum('nlpd,pkd->nlpk', unit, t['w']) + t['b'], -1)
    residual = unit.unsqueeze(3) - t['c']
    vlad = (t['weight'][..., None, None] * a[..., None] * residual).sum(1)
    theirs = functional.normalize(functional.normalize(vlad, dim=-1).flatten(1), dim=-1)
    (theirs**3).sum().backward()

    def ours(x):
        return (vlad_descriptor(residual_sums(**x)[0]) ** 3).sum()

    x = float32(given)
    np.testing.assert_allclose(vlad_descriptor(residual_sums(**x)[0]), theirs.detach(), atol=1e-5)
    for name, gradient in jax.jit(jax.grad(ours))(x).items():
        np.testing.assert_allclose(gradient, t[name].grad, atol=1e-5, err_msg=name)
