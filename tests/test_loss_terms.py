"""Each loss by itself: equality with PyTorch and plain loops, tables and metrics, anchors that have no positive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pvlad_jax.losses.centre import centre_loss
from pvlad_jax.losses.circle import circle_loss
from pvlad_jax.losses.diversity import diversity_loss
from pvlad_jax.losses.identity import cross_entropy
from pvlad_jax.losses.oim import oim_loss
from pvlad_jax.losses.triplet import batch_hard_triplet
from tests.helpers import loss_inputs
from tests.helpers.loss_inputs import IDS, LABELS, PEOPLE, SIZE, unit

embedding = pytest.fixture(loss_inputs.embedding)
logits = pytest.fixture(loss_inputs.logits)
table = pytest.fixture(loss_inputs.table)
masks = pytest.fixture(loss_inputs.masks)


# PyTorch, in float64, pair by pair with plain loops.


def torch_cross_entropy(torch, logits, smoothing):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS), label_smoothing=smoothing)


def torch_triplet(torch, x, margin):
    losses = []
    for a in range(len(LABELS)):
        positive = [
            torch.linalg.vector_norm(x[a] - x[i]) for i in range(len(LABELS)) if i != a and LABELS[i] == LABELS[a]
        ]
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
                sums[same] = sums[same] + torch.exp(
                    -scale * torch.clamp(1 + margin - s.detach(), min=0) * (s - 1 + margin)
                )
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
        values += [
            torch.nn.functional.cosine_similarity(flat[p], flat[q], dim=0)
            for p in range(len(flat))
            for q in range(len(flat))
            if p != q
        ]
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
    check_against_torch(
        lambda x: cross_entropy(x, IDS, smoothing), lambda t, x: torch_cross_entropy(t, x, smoothing), logits
    )


@pytest.mark.parametrize('margin', [0.3, 1.2, -1.0])
def test_triplet_equals_torch(embedding, margin):
    check_against_torch(
        lambda x: batch_hard_triplet(x, IDS, margin)[0], lambda t, x: torch_triplet(t, x, margin), embedding
    )


@pytest.mark.parametrize(('margin', 'scale'), [(0.25, 8.0), (0.4, 64.0)])
def test_circle_equals_torch(embedding, margin, scale):
    check_against_torch(
        lambda x: circle_loss(x, IDS, margin, scale), lambda t, x: torch_circle(t, x, margin, scale), embedding
    )


def test_centre_equals_torch(embedding, table):
    check_against_torch(lambda x, c: centre_loss(x, IDS, c), torch_centre, 3 * embedding, table)


def test_diversity_equals_torch(masks):
    check_against_torch(diversity_loss, torch_diversity, masks)


def test_oim_equals_torch(embedding, table):
    check_against_torch(
        lambda x: oim_loss(x, IDS, jnp.asarray(table), 0.1, 0.5)[0],
        lambda t, x: torch_cross_entropy(t, x @ t.tensor(table, dtype=t.float64).T / 0.1, 0.0),
        embedding,
    )


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
    np.testing.assert_allclose(
        oim_loss(jnp.asarray(embedding), IDS, jnp.asarray(table), 0.1, 0.7)[1], expected, atol=1e-6
    )


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


def test_an_anchor_without_positive_moves_nothing(embedding):
    # Person 1 is alone, so it is no anchor; far from everybody it is nobody's nearest negative either.
    x = embedding.copy()
    x[LABELS == 1] = -unit(x[LABELS != 1].sum(0))
    _, gradient = jax.value_and_grad(lambda x: batch_hard_triplet(x, IDS, 0.3)[0])(jnp.asarray(x))
    keep = LABELS != 1
    np.testing.assert_array_equal(gradient[~keep], 0)
    without = batch_hard_triplet(jnp.asarray(x[keep]), IDS[keep], 0.3)[0]
    np.testing.assert_allclose(batch_hard_triplet(jnp.asarray(x), IDS, 0.3)[0], without, rtol=1e-6)


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
