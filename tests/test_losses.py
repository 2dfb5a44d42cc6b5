"""Laws of the losses: equality with plain oracles, invariances, finite gradients where vectors coincide."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.default import get_config
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.losses import LOSSES, build_losses, init_losses, total_loss
from pvlad_jax.losses.centre import centre_loss
from pvlad_jax.losses.circle import circle_loss
from pvlad_jax.losses.diversity import diversity_loss
from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.oim import oim_loss
from pvlad_jax.losses.triplet import batch_hard_triplet

PEOPLE, SIZE = 10, 12
LABELS = np.array([3, 3, 0, 5, 5, 5, 0, 1, 6, 6])  # 1 is alone: an anchor without positive
IDS = jnp.asarray(LABELS)
BASE = freeze(get_config()).loss


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def embedding():
    return unit(np.random.default_rng(0).normal(size=(len(LABELS), SIZE))).astype(np.float32)


@pytest.fixture
def logits():
    return np.random.default_rng(1).normal(size=(len(LABELS), PEOPLE)).astype(np.float32) * 3


@pytest.fixture
def table():
    return unit(np.random.default_rng(2).normal(size=(PEOPLE, SIZE))).astype(np.float32)


@pytest.fixture
def masks():
    return np.random.default_rng(3).uniform(0.05, 1, size=(3, 2, 2, 4, 2, 5)).astype(np.float32)


# PyTorch, in float64, pair by pair with plain loops.

def torch_cross_entropy(torch, logits, smoothing):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS), label_smoothing=smoothing)


def torch_triplet(torch, x, margin):
    losses = []
    for a in range(len(LABELS)):
        positive = [torch.linalg.vector_norm(x[a] - x[i]) for i in range(len(LABELS)) if i != a and LABELS[i] == LABELS[a]]
        negative = [torch.linalg.vector_norm(x[a] - x[i]) for i in range(len(LABELS)) if LABELS[i] != LABELS[a]]
        if positive and negative:
            gap = torch.stack(positive).max() - torch.stack(negative).min()
            losses.append(torch.log(1 + torch.exp(gap)) if margin < 0 else torch.clamp(margin + gap, min=0))
    return torch.stack(losses).mean()


def torch_circle(torch, x, margin, scale):
    losses = []
    for a in range(len(LABELS)):
        sums = {True: 0, False: 0}
        for i in range(len(LABELS)):
            s, same = x[a] @ x[i], bool(LABELS[i] == LABELS[a])
            if i == a:
                continue
            if same:
                sums[same] = sums[same] + torch.exp(-scale * torch.clamp(1 + margin - s.detach(), min=0) * (s - 1 + margin))
            else:
                sums[same] = sums[same] + torch.exp(scale * torch.clamp(s.detach() + margin, min=0) * (s - margin))
        if not isinstance(sums[True], int) and not isinstance(sums[False], int):
            losses.append(torch.log(1 + sums[True] * sums[False]))
    return torch.stack(losses).mean()


def torch_centre(torch, x, centres):
    return sum(0.5 * ((x[i] - centres[label]) ** 2).sum() for i, label in enumerate(LABELS)) / len(LABELS)


def torch_diversity(torch, masks):
    values = []
    for video in masks:
        flat = video.reshape(-1, video.shape[-1]).T
        values += [torch.nn.functional.cosine_similarity(flat[p], flat[q], dim=0)
                   for p in range(len(flat)) for q in range(len(flat)) if p != q]
    return torch.stack(values).mean()


def check_against_torch(ours, theirs, *inputs, rtol=2e-5):
    """Values and gradients towards all inputs."""
    torch = pytest.importorskip('torch')
    value, gradients = jax.value_and_grad(ours, argnums=tuple(range(len(inputs))))(*map(jnp.asarray, inputs))
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    expected = theirs(torch, *tensors)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    for gradient, tensor in zip(gradients, tensors):
        scale = float(tensor.grad.abs().max())
        assert scale > 0
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=0, atol=rtol * scale)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_equals_torch(logits, smoothing):
    check_against_torch(lambda x: cross_entropy(x, IDS, smoothing), lambda t, x: torch_cross_entropy(t, x, smoothing), logits)


@pytest.mark.parametrize('margin', [0.3, 1.2, -1.0])
def test_triplet_equals_torch(embedding, margin):
    check_against_torch(lambda x: batch_hard_triplet(x, IDS, margin)[0], lambda t, x: torch_triplet(t, x, margin), embedding)


@pytest.mark.parametrize(('margin', 'scale'), [(0.25, 8.0), (0.4, 64.0)])
def test_circle_equals_torch(embedding, margin, scale):
    check_against_torch(lambda x: circle_loss(x, IDS, margin, scale), lambda t, x: torch_circle(t, x, margin, scale), embedding)


def test_centre_equals_torch(embedding, table):
    check_against_torch(lambda x, c: centre_loss(x, IDS, c), torch_centre, 3 * embedding, table)


def test_diversity_equals_torch(masks):
    check_against_torch(diversity_loss, torch_diversity, masks)


def test_oim_equals_torch(embedding, table):
    check_against_torch(
        lambda x: oim_loss(x, IDS, jnp.asarray(table), 0.1, 0.5)[0],
        lambda t, x: torch_cross_entropy(t, x @ t.tensor(table, dtype=t.float64).T / 0.1, 0.0), embedding)


def test_oim_table_is_the_papers_for_one_video_a_person(table):
    labels = np.array([4, 0, 2])
    seen = unit(np.random.default_rng(5).normal(size=(3, SIZE))).astype(np.float32)
    expected = table.copy()
    for x, label in zip(seen, labels):
        row = 0.7 * expected[label] + 0.3 * x
        expected[label] = row / np.linalg.norm(row)
    new = oim_loss(*map(jnp.asarray, (seen, labels, table)), 0.1, 0.7)[1]
    np.testing.assert_allclose(new, expected, atol=1e-6)
    np.testing.assert_array_equal(np.delete(new, labels, 0), np.delete(table, labels, 0))


def test_oim_table_moves_by_the_mean_of_a_persons_videos(embedding, table):
    expected = table.astype(np.float64)
    for label in set(LABELS):
        row = 0.7 * expected[label] + 0.3 * embedding[LABELS == label].mean(0)
        expected[label] = row / np.linalg.norm(row)
    np.testing.assert_allclose(oim_loss(jnp.asarray(embedding), IDS, jnp.asarray(table), 0.1, 0.7)[1], expected, atol=1e-6)


def test_oim_table_begins_with_the_first_embeddings_and_has_no_gradient(embedding):
    empty, embedding = jnp.zeros((PEOPLE, SIZE)), jnp.asarray(embedding)
    new = oim_loss(embedding, IDS, empty, 0.1, 0.5)[1]
    np.testing.assert_allclose(new[1], embedding[LABELS == 1][0], atol=1e-6)
    empty_rows = [2, 4, 7, 8, 9]
    np.testing.assert_array_equal(np.asarray(new)[empty_rows], 0)
    assert not jnp.any(jax.grad(lambda t: oim_loss(embedding, IDS, t, 0.1, 0.5)[0])(new))
    assert not jnp.any(jax.grad(lambda x: oim_loss(x, IDS, empty, 0.1, 0.5)[1].sum())(jnp.asarray(embedding)))


def test_triplet_metrics_equal_loops(embedding):
    distance = np.linalg.norm(embedding[:, None].astype(np.float64) - embedding[None], axis=-1)
    rows = []
    for a, label in enumerate(LABELS):
        positive = [distance[a, i] for i in range(len(LABELS)) if i != a and LABELS[i] == label]
        if positive:
            rows.append((max(positive), min(distance[a, i] for i in range(len(LABELS)) if LABELS[i] != label)))
    assert len(rows) == len(LABELS) - 1
    d_p, d_n = np.array(rows).T
    for margin in (0.1, 0.3, -1.0):
        loss, metrics = batch_hard_triplet(jnp.asarray(embedding), IDS, margin)
        expected = np.log1p(np.exp(d_p - d_n)) if margin < 0 else np.maximum(margin + d_p - d_n, 0)
        np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics['triplet_active'], np.mean(max(margin, 0) + d_p - d_n > 0), rtol=1e-6)
        np.testing.assert_allclose(metrics['triplet_positive'], d_p.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics['triplet_negative'], d_n.mean(), rtol=1e-5)


def test_triplet_keeps_the_digits_of_small_distances():
    # 2 - 2 cos in float32 is off by 1e-7, which is 3e-4 as a distance; these vectors are 1e-4 apart.
    x = np.zeros((4, SIZE), np.float32)
    x[:2, 0], x[1, 1] = 1, 1e-4
    x[2:, 2], x[3, 3] = 1, 2e-4
    _, metrics = batch_hard_triplet(jnp.asarray(x), jnp.array([0, 0, 1, 1]), 0.3)
    np.testing.assert_allclose(metrics['triplet_positive'], 1.5e-4, rtol=1e-3)


ALL_ON = dataclasses.replace(BASE, circle=0.5, centre=0.01, oim=0.7, diversity=0.2)


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def run_total(config, embedding, logits, masks, labels, parameters, state, dtype=jnp.float32):
    def loss(x, z, m, p):
        x = x.astype(dtype)
        normalised = x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-12)
        valid = jnp.ones(m.shape[:3], bool)
        output = types.SimpleNamespace(logits=z.astype(dtype), feature=x, embedding=normalised, part_masks=m, valid=valid)
        value, metrics, new_state = total_loss(build_losses(config), output, jnp.asarray(labels), p, state)
        return value, (metrics, new_state)
    (value, (metrics, new_state)), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(
        embedding, logits, masks, parameters)
    return value, metrics, new_state, gradients


@pytest.fixture
def video_masks():
    return np.random.default_rng(4).uniform(size=(len(LABELS), 1, 2, 4, 2, 3)).astype(np.float32)


@pytest.fixture
def everything(embedding, logits, video_masks, table):
    parameters, state = init_losses(build_losses(ALL_ON), PEOPLE, SIZE, jax.random.key(0))
    state['oim_table'] = jnp.asarray(table)
    return (2 * embedding, logits, video_masks), parameters, state


def test_order_of_the_batch_changes_nothing(everything):
    inputs, parameters, state = everything
    order = np.random.default_rng(6).permutation(len(LABELS))
    one = run_total(ALL_ON, *inputs, LABELS, parameters, state)
    other = run_total(ALL_ON, *(x[order] for x in inputs), LABELS[order], parameters, state)
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(one[2]['oim_table'], other[2]['oim_table'], atol=1e-6)
    for a, b in zip(one[3][:3], other[3][:3]):
        np.testing.assert_allclose(a[order], b, atol=2e-6)
    np.testing.assert_allclose(one[3][3]['loss_centres'], other[3][3]['loss_centres'], atol=1e-6)


def test_names_of_people_change_nothing(everything):
    (embedding, logits, masks), parameters, state = everything
    new_name = np.random.default_rng(7).permutation(PEOPLE)  # person i is called new_name[i]
    old_name = np.argsort(new_name)
    one = run_total(ALL_ON, embedding, logits, masks, LABELS, parameters, state)
    other = run_total(ALL_ON, embedding, logits[:, old_name], masks, new_name[LABELS],
                      jax.tree.map(lambda x: x[old_name], parameters), jax.tree.map(lambda x: x[old_name], state))
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(one[2]['oim_table'][old_name], other[2]['oim_table'], atol=1e-6)
    # Losses without a classifier do not even need numbers that begin at 0.
    far = np.array([100, -3, 7, 55, 12, 8, 9, 0, 1, 2])[LABELS]
    far, embedding = jnp.asarray(far), jnp.asarray(embedding)
    assert batch_hard_triplet(embedding, far, 0.3)[0] == batch_hard_triplet(embedding, IDS, 0.3)[0]
    assert circle_loss(embedding, far, 0.25, 64.0) == circle_loss(embedding, IDS, 0.25, 64.0)


@pytest.mark.parametrize('case', ['all equal', 'pairs equal', 'all zero', 'one person', 'all alone', 'opposite',
                                  'masks zero', 'huge logits'])
@pytest.mark.parametrize('margin', [0.3, -1.0])
def test_gradients_are_finite_where_vectors_coincide(everything, case, margin):
    (embedding, logits, masks), parameters, state = everything
    labels = LABELS
    embedding, logits, masks = embedding.copy(), logits.copy(), masks.copy()
    if case == 'all equal':
        embedding[:] = embedding[0]
    elif case == 'pairs equal':
        embedding[1], embedding[3], embedding[7] = embedding[0], embedding[4], embedding[2]
    elif case == 'all zero':
        embedding[:] = 0
    elif case == 'one person':
        labels = np.zeros_like(LABELS)
    elif case == 'all alone':
        labels = np.arange(len(LABELS))
    elif case == 'opposite':
        embedding[1:] = -embedding[0]
    elif case == 'masks zero':
        masks[:] = 0
    elif case == 'huge logits':
        logits *= 1e4
    config = dataclasses.replace(ALL_ON, triplet_margin=margin)
    value, metrics, new_state, gradients = run_total(config, embedding, logits, masks, labels, parameters, state)
    for leaf in jax.tree.leaves((value, metrics, new_state, gradients)):
        assert jnp.all(jnp.isfinite(leaf))
    if case in ('one person', 'all alone'):  # no anchor remains
        assert metrics['loss_triplet'] == metrics['loss_circle'] == 0


def test_an_anchor_without_positive_moves_nothing(embedding):
    # Person 1 is alone, so it is no anchor; far from everybody it is nobody's nearest negative either.
    x = embedding.copy()
    x[LABELS == 1] = -unit(x[LABELS != 1].sum(0))
    _, gradient = jax.value_and_grad(lambda x: batch_hard_triplet(x, IDS, 0.3)[0])(jnp.asarray(x))
    keep = LABELS != 1
    np.testing.assert_array_equal(gradient[~keep], 0)
    without = batch_hard_triplet(jnp.asarray(x[keep]), IDS[keep], 0.3)[0]
    np.testing.assert_allclose(batch_hard_triplet(jnp.asarray(x), IDS, 0.3)[0], without, rtol=1e-6)


def test_bfloat16_inputs_are_summed_in_float32(everything):
    inputs, *_ = everything
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16).astype(jnp.float32)) for x in inputs]
    one = run_total(BASE, *rounded, LABELS, {}, {})
    value, metrics, *_ = run_total(BASE, *rounded, LABELS, {}, {}, dtype=jnp.bfloat16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((value, metrics)))
    # Logits are exact in bfloat16; had the softmax been taken there, errors were 1e-2.
    np.testing.assert_allclose(metrics['loss_identity'], one[1]['loss_identity'], rtol=1e-6)


def test_total_is_the_weighted_sum(everything):
    inputs, parameters, state = everything
    value, metrics, new_state, gradients = run_total(ALL_ON, *inputs, LABELS, parameters, state)
    terms = ('identity', 'triplet', 'circle', 'centre', 'oim', 'diversity')
    expected = sum(getattr(ALL_ON, name) * metrics[f'loss_{name}'] for name in terms)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(metrics['accuracy'], np.float32(np.mean(inputs[1].argmax(1) == LABELS)))
    assert jnp.any(gradients[3]['loss_centres'] != 0) and jnp.any(gradients[2] != 0)
    assert not np.array_equal(new_state['oim_table'], state['oim_table'])


def test_a_term_of_weight_zero_is_not_computed(everything):
    (embedding, *_), *_ = everything
    config = dataclasses.replace(BASE, identity=0.0)
    assert init_losses(build_losses(config), PEOPLE, SIZE, jax.random.key(0)) == ({}, {})
    # An output without the fields of the other terms would fail were they touched.
    output = types.SimpleNamespace(embedding=jnp.asarray(unit(embedding)))
    value, metrics, state = total_loss(build_losses(config), output, IDS, {}, {})
    np.testing.assert_allclose(value, metrics['loss_triplet'])
    assert state == {} and {name for name in metrics if name.startswith('loss_')} == {'loss_triplet'}


def test_gradient_accumulation_is_exact_for_means_over_videos(everything):
    (embedding, logits, masks), parameters, _ = everything
    config = dataclasses.replace(BASE, triplet=0.0, centre=0.3, diversity=0.2)
    halves = (slice(0, 5), slice(5, 10))
    whole = run_total(config, embedding, logits, masks, LABELS, parameters, {})
    parts = [run_total(config, embedding[h], logits[h], masks[h], LABELS[h], parameters, {}) for h in halves]
    np.testing.assert_allclose(np.mean([p[0] for p in parts]), whole[0], rtol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(np.concatenate([p[3][i] for p in parts]) / 2, whole[3][i], atol=1e-6)
    np.testing.assert_allclose(sum(p[3][3]['loss_centres'] for p in parts) / 2, whole[3][3]['loss_centres'], atol=1e-6)


def test_diversity_is_between_disjoint_and_equal_masks(masks):
    disjoint = np.zeros((2, 1, 1, 4, 1, 4), np.float32)
    disjoint[:, 0, 0, range(4), 0, range(4)] = 0.7
    assert diversity_loss(jnp.asarray(disjoint)) == 0
    equal = np.broadcast_to(masks[..., :1], masks.shape) * np.linspace(0.2, 1, masks.shape[-1], dtype=np.float32)
    np.testing.assert_allclose(diversity_loss(jnp.asarray(equal)), 1, rtol=1e-5)
    assert diversity_loss(jnp.asarray(masks[..., :1])) == 0  # one part


def test_diversity_ignores_times_that_are_not_valid(masks):
    valid = np.ones(masks.shape[:3], bool)
    valid[:, 1, 1] = False
    spoilt = masks.copy()
    spoilt[:, 1, 1] = np.nan
    value, gradient = jax.value_and_grad(diversity_loss)(jnp.asarray(spoilt), jnp.asarray(valid))
    kept = np.concatenate([masks[:, 0], masks[:, 1, :1]], axis=1)
    np.testing.assert_allclose(value, diversity_loss(jnp.asarray(kept)), rtol=1e-6)
    assert np.isfinite(gradient).all() and not gradient[:, 1, 1].any()


@pytest.mark.parametrize(('change', 'names'), [
    ({'triplet': -1.0}, 'loss.triplet'),
    ({'identity': 0.0, 'triplet': 0.0, 'diversity': 1.0}, 'identity, triplet, circle'),
    ({'label_smoothing': 1.0}, 'label_smoothing'),
    ({'oim': 1.0, 'oim_temperature': 0.0}, 'oim_temperature'),
])
def test_wrong_settings_are_named(change, names):
    config = get_config()
    config.loss.update(change)
    with pytest.raises(UserError, match=names):
        freeze(config)


def test_every_term_has_a_weight_in_the_configuration():
    assert all(isinstance(getattr(BASE, name), float) for name in LOSSES)
    assert set(build_losses(dataclasses.replace(BASE, **dict.fromkeys(LOSSES, 0.1)))) == set(LOSSES)
