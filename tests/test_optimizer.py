"""Laws of the optimiser: the rates it promises, what it leaves alone, the two stages, equality with PyTorch's
optimisers.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.default import get_config
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.training.optimizer import decayed, make_optimizer, rate_factors
from pvlad_jax.training.schedule import learning_rate
from tests.helpers.micro import PROJECT_BACKBONES
from tests.helpers.small_params import equal, gradients, make_params, names

BASE = dataclasses.replace(freeze(get_config()).optimizer, warmup_steps=4, clip_norm=0.0)
STEPS = 20


STAGES = (('stem',), ('stage1',), ('stage2',))


params = pytest.fixture(make_params)


@functools.cache
def stepper(config, frozen_backbone_steps=0, keys=None):
    """The optimiser and its jitted update for the parameters under `keys` (all, where None)."""
    params = {key: value for key, value in make_params().items() if keys is None or key in keys}
    tx = make_optimizer(config, STEPS, params, frozen_backbone_steps, STAGES)

    @jax.jit
    def update(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return tx, update


def train(config, params, steps=STEPS, frozen_backbone_steps=0, state=None, first=0):
    tx, update = stepper(config, frozen_backbone_steps)
    state = tx.init(params) if state is None else state
    history = [params]
    for step in range(first, first + steps):
        params, state = update(params, state, gradients(params, step))
        history.append(params)
    assert update._cache_size() == 1  # stages and rates turn without recompilation
    return history, state


# Weight decay

UNDECAYED = {
    'backbone/stem/norm/scale',
    'backbone/stem/norm/bias',
    'aggregator/part_alignment/part_mask/bias',
    'aggregator/part_alignment/position_term',
    'aggregator/vlad/assignment_weight',
    'aggregator/vlad/assignment_bias',
    'aggregator/vlad/centres',
    'classifier/bias',
    'loss_centres',
}


def test_decay_leaves_biases_norms_words_and_places_alone(params):
    assert {name for name, is_decayed in names(decayed(params)).items() if not is_decayed} == UNDECAYED


@pytest.mark.parametrize('name', ['adamw', 'adam', 'sgd'])
@pytest.mark.parametrize('frozen_backbone_steps', [0, 2])
def test_without_gradient_decay_moves_only_what_it_should(params, name, frozen_backbone_steps):
    config = dataclasses.replace(BASE, name=name, weight_decay=0.1)
    tx, update = stepper(config, frozen_backbone_steps)
    now, state = params, tx.init(params)
    for _ in range(4):
        now, state = update(now, state, jax.tree.map(jnp.zeros_like, params))
    for path, before in names(params).items():
        after = names(now)[path]
        if path in UNDECAYED:
            np.testing.assert_array_equal(after, before, err_msg=path)
        else:  # towards zero, element by element
            assert (np.abs(after) < np.abs(before)).all(), path


def test_parameters_of_losses_have_the_full_rate(params):
    """They are trained with the network's, of which the optimiser is made."""
    network = {name: value for name, value in params.items() if name != 'loss_centres'}
    tx = make_optimizer(dataclasses.replace(BASE, backbone_factor=0.5), 10, network, frozen_backbone_steps=1)
    same = make_optimizer(dataclasses.replace(BASE, backbone_factor=0.5), 10, params, frozen_backbone_steps=1)
    grads = jax.tree.map(jnp.ones_like, params)
    assert 'loss_centres' in params
    # As one program: operation by operation, hundreds are compiled.
    updates, expected = jax.jit(lambda p, g: [one.update(g, one.init(p), p)[0] for one in (tx, same)])(params, grads)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


# Equality with PyTorch


@pytest.mark.parametrize('name', ['adamw', 'adam', 'sgd'])
@pytest.mark.parametrize('clip_norm', [0.0, 1.5])
def test_equals_torch(params, name, clip_norm):
    torch = pytest.importorskip('torch')
    config = dataclasses.replace(
        BASE,
        name=name,
        weight_decay=0.05,
        clip_norm=clip_norm,
        backbone_factor=0.3,
        layer_decay=0.5,
        learning_rate=0.02,
    )
    factors = {'backbone/stem': 0.3 * 0.25, 'backbone/stage1': 0.3 * 0.5, 'backbone/stage2': 0.3}
    history, _ = train(config, params)
    tensors, groups = {}, []
    for path, value in names(params).items():
        tensors[path] = torch.nn.Parameter(torch.tensor(np.asarray(value), dtype=torch.float64))
        factor = next((f for prefix, f in factors.items() if path.startswith(prefix)), 1.0)
        groups.append({'params': [tensors[path]], 'factor': factor, 'weight_decay': 0.0 if path in UNDECAYED else 0.05})
    kind = {'adamw': torch.optim.AdamW, 'adam': torch.optim.Adam, 'sgd': torch.optim.SGD}[name]
    optimizer = kind(groups, lr=0.02, **({'momentum': 0.9} if name == 'sgd' else {}))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group['lr'] = float(learning_rate(config, STEPS)(step)) * group['factor']
        for path, gradient in names(gradients(params, step)).items():
            tensors[path].grad = torch.tensor(np.asarray(gradient), dtype=torch.float64)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(tensors.values(), clip_norm)
        optimizer.step()
    for path, value in names(history[-1]).items():
        np.testing.assert_allclose(value, tensors[path].detach().numpy(), rtol=1e-4, atol=2e-6, err_msg=path)


# Rates of layers


def test_rates_of_stages_multiply(params):
    plain = train(dataclasses.replace(BASE, name='sgd', weight_decay=0.0), params, steps=1)[0][-1]
    config = dataclasses.replace(BASE, name='sgd', weight_decay=0.0, backbone_factor=0.5, layer_decay=0.25)
    layered = train(config, params, steps=1)[0][-1]
    for path, before in names(params).items():
        factor = {'stem': 0.5 / 16, 'stage1': 0.5 / 4, 'stage2': 0.5}.get(
            path.split('/')[1] if '/' in path else '', 1.0
        )
        change = names(layered)[path] - before
        np.testing.assert_allclose(change, factor * (names(plain)[path] - before), rtol=0, atol=3e-7, err_msg=path)


def test_part_masks_have_a_rate_of_their_own(params):
    config = dataclasses.replace(BASE, backbone_factor=0.5, mask_factor=10.0)
    rates = names(rate_factors(config, params, STAGES))
    masks = {path for path, rate in rates.items() if rate == 10}
    assert masks == {
        'aggregator/part_alignment/part_mask/kernel',
        'aggregator/part_alignment/part_mask/bias',
        'aggregator/part_alignment/position_term',
    }
    assert all(rates[path] == (0.5 if path.startswith('backbone') else 1) for path in rates.keys() - masks)


@pytest.mark.parametrize('name', PROJECT_BACKBONES)
def test_layers_at_one_resolution_share_a_rate(name):
    """As published: a digit in the layer's name counts stages, and a stem comes before the first."""

    def number(layer):
        return 0 if layer == 'stem' else int(re.search(r'\d', layer.replace('3d', ''))[0])

    numbers = [set(map(number, stage)) for stage in PROJECT_BACKBONES[name].stages]
    assert all(len(stage) == 1 for stage in numbers) and len(numbers) >= 4
    first = min(numbers[0])
    assert numbers == [{first + i} for i in range(len(numbers))]


def test_head_only_networks_have_rate_one(params):
    head = {name: value for name, value in params.items() if name != 'backbone'}
    config = dataclasses.replace(BASE, backbone_factor=0.1, layer_decay=0.5)
    assert set(jax.tree.leaves(rate_factors(config, head, STAGES))) == {1.0}


# Two stages


@pytest.mark.parametrize('name', ['adamw', 'adam', 'sgd'])
def test_first_stage_leaves_the_backbone_alone_to_the_bit(params, name):
    config = dataclasses.replace(BASE, name=name, weight_decay=0.1, clip_norm=2.0)
    params['backbone']['stem']['norm']['bias'] = jnp.array([-0.0, 0.0, 1.0])
    history, _ = train(config, params, frozen_backbone_steps=7)
    for step in range(8):
        for path, value in names(history[step]['backbone']).items():
            before = np.asarray(names(params['backbone'])[path])
            assert np.asarray(value).tobytes() == before.tobytes(), (step, path)
    for path, value in names(history[8]['backbone']).items():
        assert not np.array_equal(value, names(params['backbone'])[path]), path
    assert not equal(history[1]['classifier'], params['classifier'])


@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_a_freed_backbone_begins_as_if_new(params, name):
    # Its first free updates are those of an optimiser that never saw the first stage, at the run's learning rate by
    # then: moments and their bias correction start afresh.
    config = dataclasses.replace(BASE, name=name, schedule='constant', warmup_steps=0)
    history, _ = train(config, params, steps=10, frozen_backbone_steps=6)
    tx, update = stepper(config, keys=('backbone',))
    now = {'backbone': params['backbone']}
    state = tx.init(now)
    for step in range(6, 10):
        now, state = update(now, state, {'backbone': gradients(params, step)['backbone']})
        for path, value in names(now).items():
            np.testing.assert_allclose(names(history[step + 1])[path], value, rtol=0, atol=1e-6, err_msg=path)


def test_the_head_learns_as_if_there_were_no_backbone(params):
    # In the first stage the gradient of the backbone, here not even finite, counts neither in the clipping nor anywhere
    # else.
    config = dataclasses.replace(BASE, clip_norm=1.0)
    head = {name: value for name, value in params.items() if name != 'backbone'}
    (tx_a, update_a), (tx_b, update_b) = stepper(config, frozen_backbone_steps=5), stepper(config, keys=tuple(head))
    a, state_a, b, state_b = params, tx_a.init(params), head, tx_b.init(head)
    for step in range(5):
        gradient = gradients(params, step)
        gradient['backbone'] = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), gradient['backbone'])
        a, state_a = update_a(a, state_a, gradient)
        gradient.pop('backbone')
        b, state_b = update_b(b, state_b, gradient)
    assert equal({name: value for name, value in a.items() if name != 'backbone'}, b)
    assert equal(a['backbone'], params['backbone'])


@pytest.mark.parametrize('cut', [3, 6, 9])
def test_resumed_equals_uninterrupted(params, cut):
    config = dataclasses.replace(BASE, backbone_factor=0.5, layer_decay=0.7, clip_norm=1.0)
    whole, state = train(config, params, steps=12, frozen_backbone_steps=6)
    begun, middle = train(config, params, steps=cut, frozen_backbone_steps=6)
    middle = jax.tree.map(lambda x: jnp.asarray(np.array(x)), middle)  # a trip through the host
    resumed, end = train(config, begun[-1], steps=12 - cut, frozen_backbone_steps=6, state=middle, first=cut)
    assert equal(resumed[-1], whole[-1]) and equal(end, state)


def test_clipping_bounds_the_update(params):
    config = dataclasses.replace(
        BASE, name='sgd', momentum=0.0, weight_decay=0.0, warmup_steps=0, learning_rate=1.0, clip_norm=0.25
    )
    tx = make_optimizer(config, STEPS, params, stages=STAGES)
    gradient, update = gradients(params, 0), jax.jit(tx.update)
    updates, _ = update(gradient, tx.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(updates), 0.25, rtol=1e-5)
    small = jax.tree.map(lambda x: 1e-3 * x, gradient)
    updates, _ = update(small, tx.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(updates), optax.tree.norm(small), rtol=1e-6)


def test_optimizer_may_be_built_from_shapes(params):
    shapes = jax.eval_shape(lambda: params)
    a, b = make_optimizer(BASE, STEPS, shapes, 3), make_optimizer(BASE, STEPS, params, 3)
    assert jax.tree.structure(jax.eval_shape(a.init, shapes)) == jax.tree.structure(b.init(params))
    one, other = (jax.jit(tx.update)(gradients(params, 0), tx.init(params), params)[0] for tx in (a, b))
    assert equal(one, other)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'name': 'lion'}, "'adamw', 'adam', 'sgd'"),
        ({'schedule': 'poly'}, "'cosine', 'steps', 'constant'"),
        ({'clip_norm': -1.0}, 'clip_norm'),
        ({'weight_decay': -1.0}, 'weight_decay'),
        ({'momentum': 1.0}, 'momentum'),
        ({'learning_rate': 0.0}, 'learning_rate'),
        ({'warmup_steps': -1}, 'warmup_steps'),
        ({'schedule': 'steps', 'decay_steps': (0.5, 80)}, 'decay_steps'),
    ],
)
def test_wrong_settings_are_named(change, words):
    config = get_config()
    config.optimizer.update(change)
    with pytest.raises(UserError, match=words):
        freeze(config)


def test_wrong_stages_are_named(params):
    with pytest.raises(UserError, match='frozen_backbone_steps'):
        make_optimizer(BASE, STEPS, {'classifier': params['classifier']}, frozen_backbone_steps=3)
    strange = {'backbone': {'tower': {'kernel': jnp.ones((2, 2))}}}
    make_optimizer(BASE, STEPS, strange, stages=STAGES)  # names do not matter where stages do not
    with pytest.raises(UserError, match='backbone/tower/kernel'):
        make_optimizer(dataclasses.replace(BASE, layer_decay=0.9), STEPS, strange, stages=STAGES)
