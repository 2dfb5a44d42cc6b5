"""Laws of the weighted sum of losses: invariances, finite gradients where vectors coincide, sums in float32, what is
off.
"""

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
from pvlad_jax.losses import LOSSES, LossSizes, build_losses, init_losses, total_loss
from pvlad_jax.losses.centre import centre_loss
from pvlad_jax.losses.circle import circle_loss
from pvlad_jax.losses.triplet import batch_hard_triplet
from tests.helpers import loss_inputs
from tests.helpers.loss_inputs import IDS, LABELS, PEOPLE, SIZE, unit

BASE = freeze(get_config()).loss
ALL_ON = dataclasses.replace(BASE, circle=0.5, centre=0.01, oim=0.7, diversity=0.2, auxiliary=0.4)
SIZES = LossSizes(PEOPLE, SIZE, SIZE)

embedding = pytest.fixture(loss_inputs.embedding)
logits = pytest.fixture(loss_inputs.logits)
table = pytest.fixture(loss_inputs.table)


@functools.partial(jax.jit, static_argnames=('config', 'dtype'))
def run_total(config, embedding, logits, masks, labels, parameters, state, dtype=jnp.float32):
    def loss(x, z, m, p):
        x = x.astype(dtype)
        normalised = x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-12)
        valid = jnp.ones(m.shape[:3], bool)
        output = types.SimpleNamespace(
            logits=z.astype(dtype), feature=x, embedding=normalised, part_masks=m, valid=valid, mean_feature=x
        )
        value, metrics, new_state = total_loss(build_losses(config), output, jnp.asarray(labels), p, state)
        return value, (metrics, new_state)

    (value, (metrics, new_state)), gradients = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(
        embedding, logits, masks, parameters
    )
    return value, metrics, new_state, gradients


@pytest.fixture
def video_masks():
    return np.random.default_rng(4).uniform(size=(len(LABELS), 1, 2, 4, 2, 3)).astype(np.float32)


@pytest.fixture
def everything(embedding, logits, video_masks, table):
    parameters, state = init_losses(build_losses(ALL_ON), SIZES, jax.random.key(0))
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
    for name, gradient in one[3][3].items():
        np.testing.assert_allclose(gradient, other[3][3][name], atol=3e-6, err_msg=name)


def test_names_of_people_change_nothing(everything):
    (embedding, logits, masks), parameters, state = everything
    new_name = np.random.default_rng(7).permutation(PEOPLE)  # person i is called new_name[i]
    old_name = np.argsort(new_name)
    one = run_total(ALL_ON, embedding, logits, masks, LABELS, parameters, state)
    other = run_total(
        ALL_ON,
        embedding,
        logits[:, old_name],
        masks,
        new_name[LABELS],
        {
            'loss_centres': parameters['loss_centres'][old_name],
            **{name: x for name, x in parameters.items() if name.startswith('loss_auxiliary')},
            'loss_auxiliary_classifier': parameters['loss_auxiliary_classifier'][:, old_name],
        },
        jax.tree.map(lambda x: x[old_name], state),
    )
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(one[2]['oim_table'][old_name], other[2]['oim_table'], atol=1e-6)
    # Losses without a classifier do not even need numbers that begin at 0.
    far = np.array([100, -3, 7, 55, 12, 8, 9, 0, 1, 2])[LABELS]
    far, embedding = jnp.asarray(far), jnp.asarray(embedding)
    assert batch_hard_triplet(embedding, far, 0.3)[0] == batch_hard_triplet(embedding, IDS, 0.3)[0]
    assert circle_loss(embedding, far, 0.25, 64.0) == circle_loss(embedding, IDS, 0.25, 64.0)


@pytest.mark.parametrize(
    'case', ['all equal', 'pairs equal', 'all zero', 'one person', 'all alone', 'opposite', 'masks zero', 'huge logits']
)
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
    terms = ('identity', 'triplet', 'circle', 'centre', 'oim', 'diversity', 'auxiliary')
    expected = sum(getattr(ALL_ON, name) * metrics[f'loss_{name}'] for name in terms)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(metrics['accuracy'], np.float32(np.mean(inputs[1].argmax(1) == LABELS)))
    # Of the features before normalisation.
    of_features = centre_loss(jnp.asarray(inputs[0]), IDS, parameters['loss_centres'])
    np.testing.assert_allclose(metrics['loss_centre'], of_features, rtol=1e-6)
    assert jnp.any(gradients[3]['loss_centres'] != 0) and jnp.any(gradients[2] != 0)
    assert not np.array_equal(new_state['oim_table'], state['oim_table'])


def test_masks_of_padding_frames_count_nothing(video_masks):
    terms = build_losses(dataclasses.replace(BASE, identity=0.0, triplet=0.0, diversity=1.0))
    valid = np.ones(video_masks.shape[:3], bool)
    valid[3:, :, 1] = False
    other = np.where(valid[..., None, None, None], video_masks, 0.5)

    def loss(masks, valid):
        output = types.SimpleNamespace(part_masks=jnp.asarray(masks), valid=jnp.asarray(valid))
        return total_loss(terms, output, IDS, {}, {})[0]

    np.testing.assert_array_equal(loss(video_masks, valid), loss(other, valid))


def test_a_term_of_weight_zero_is_not_computed(everything):
    (embedding, *_), *_ = everything
    config = dataclasses.replace(BASE, identity=0.0)
    assert init_losses(build_losses(config), SIZES, jax.random.key(0)) == ({}, {})
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


@pytest.mark.parametrize(
    ('change', 'names'),
    [
        ({'triplet': -1.0}, 'loss.triplet'),
        ({'identity': 0.0, 'triplet': 0.0, 'diversity': 1.0}, 'identity, triplet, circle'),
        ({'label_smoothing': 1.0}, 'label_smoothing'),
        ({'oim': 1.0, 'oim_temperature': 0.0}, 'oim_temperature'),
    ],
)
def test_wrong_settings_are_named(change, names):
    config = get_config()
    config.loss.update(change)
    with pytest.raises(UserError, match=names):
        freeze(config)


def test_every_term_has_a_weight_in_the_configuration():
    assert all(isinstance(getattr(BASE, name), float) for name in LOSSES)
    assert set(build_losses(dataclasses.replace(BASE, **dict.fromkeys(LOSSES, 0.1)))) == set(LOSSES)
