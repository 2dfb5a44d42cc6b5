"""Laws of the whole network at test: order, neighbours, padding and length change nothing that they should not
change.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.default import get_config
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.embedding import embed_video, streaming
from pvlad_jax.models.pooling.global_pooling import Average
from pvlad_jax.models.pooling.interface import identity_element, merge_two
from pvlad_jax.models.pooling.stripes import Stripes
from pvlad_jax.models.tracklet_network import TrackletNetwork, build_network, clip_statistics, init_variables
from tests.helpers import micro  # noqa: F401  enters its backbone

POOLINGS = ['person_vlad', 'part_attention', 'average', 'max', 'stripes', 'colour_masks', 'embedding_by_part']
T, H, W = 4, 32, 32
LENGTHS = (3, 4, 9, 21)
MOST_CLIPS = -(-max(LENGTHS) // T)


@functools.cache
def make(pooling='person_vlad', **fields):
    options = pooling in ('colour_masks', 'embedding_by_part')
    config = get_config(f'{pooling}=true' if options else f'pooling={pooling}')
    with config.unlocked():
        config.model.backbone.name = 'micro'
        config.model.update({'parts': 2, 'clusters': 3, 'descriptor_dim': 8, 'embedding_dim': 16, **fields})
    network = build_network(freeze(config).model, num_identities=5)
    variables = jax.jit(network.init)(
        jax.random.key(0), jnp.zeros((1, 1, T, H, W, 3), jnp.uint8), jnp.ones((1, 1, T), bool)
    )
    # Statistics as after some training, so that no layer is an identity by chance.
    key = jax.random.key(1)
    variables['batch_stats'] = jax.tree.map(
        lambda s: s + 0.2 * jnp.abs(jax.random.normal(key, s.shape)), variables['batch_stats']
    )
    bias = variables['params']['to_embedding']['bias']  # with a bias of 0 a descriptor's scale would not matter
    variables['params']['to_embedding']['bias'] = bias + jax.random.normal(key, bias.shape)
    return network, variables


def videos(b=2, s=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (b, s, T, H, W, 3), dtype=np.uint8), np.ones((b, s, T), bool)


@functools.cache
def program(network):
    """Traced once for each shape, whichever test asks."""
    return jax.jit(network.apply)


def embedding(network, variables, clips, valid):
    return np.asarray(program(network)(variables, clips, valid).embedding)


@pytest.fixture(scope='module', params=POOLINGS)
def made(request):
    return make(request.param)


def test_order_of_clips_and_neighbours_change_nothing(made):
    clips, valid = videos()
    whole = embedding(*made, clips, valid)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embedding(*made, clips[:, [2, 0, 1]], valid), whole, atol=1e-5)
    other = clips.copy()
    other[1] = 255 - other[1]
    changed = embedding(*made, other, valid)
    np.testing.assert_allclose(changed[0], whole[0], atol=1e-6)
    assert np.abs(changed[1] - whole[1]).max() > 1e-3


def test_masked_frames_change_nothing_whatever_they_hold_and_however_many(made):
    clips, valid = videos()
    valid[0, 2, 1:] = False
    valid[1, 1:] = False
    whole = embedding(*made, clips, valid)
    noise = np.random.default_rng(9).integers(0, 256, clips.shape, dtype=np.uint8)
    np.testing.assert_array_equal(embedding(*made, np.where(valid[..., None, None, None], clips, noise), valid), whole)
    more, more_valid = np.concatenate([clips, noise], 1), np.concatenate([valid, np.zeros_like(valid)], 1)
    np.testing.assert_allclose(embedding(*made, more, more_valid), whole, atol=1e-5)


@pytest.mark.parametrize('length', LENGTHS)
def test_a_video_of_any_length_equals_the_one_pass(made, length):
    network, variables = made
    frames = np.random.default_rng(length).integers(0, 256, (length, H, W, 3), dtype=np.uint8)
    # One shape for all lengths, that of the test above: two videos of six clips, filled up with padding.
    clips, valid = np.zeros((2, MOST_CLIPS * T, H, W, 3), np.uint8), np.zeros((2, MOST_CLIPS * T), bool)
    clips[0, :length], valid[0, :length] = frames, True
    whole = embedding(network, variables, clips.reshape(2, -1, T, H, W, 3), valid.reshape(2, -1, T))[0]
    np.testing.assert_allclose(embed_video(network, variables, iter(frames), T, clips_per_step=2), whole, atol=1e-5)


def test_a_new_length_compiles_nothing(made):
    network, variables = made
    frames = videos()[0][0].reshape(-1, H, W, 3)
    traced = []
    original = streaming.merge_by_segment
    streaming.merge_by_segment = lambda *a: (traced.append(1), original(*a))[1]
    try:
        for length in (1, 2, 7, 12):
            embed_video(network, variables, frames[:length], T, clips_per_step=3)  # a step size that no other test uses
    finally:
        streaming.merge_by_segment = original
    assert len(traced) == 1


def test_flip_averaging_is_blind_to_mirrors():
    network, variables = make()
    frames = videos()[0][0].reshape(-1, H, W, 3)
    here, mirrored = (embed_video(network, variables, f, T, 2, flip=True) for f in (frames, frames[:, :, ::-1]))
    np.testing.assert_allclose(here, mirrored, atol=1e-5)


def test_no_frames_is_an_error_and_no_valid_frame_is_finite(made):
    network, variables = made
    with pytest.raises(UserError, match='without frames'):
        embed_video(network, variables, [], T)
    clips, valid = map(jnp.asarray, videos())

    def loss(params):
        output = network.apply(
            variables | {'params': params}, clips, jnp.zeros_like(valid), train=True, mutable=['batch_stats']
        )[0]
        return output.logits.sum() + output.embedding.sum()

    gradients = jax.jit(jax.grad(loss))(variables['params'])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


class Pixels(nn.Module):
    """A backbone whose features are what it is fed."""

    def __call__(self, x, valid, train):
        return x, valid


def test_pixels_come_on_the_scale_that_the_backbone_expects():
    clips, valid = videos()
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network = TrackletNetwork(Pixels(), Average(), 3, 2, False, mean, std, jnp.float32, linear=False)
    output, _ = network.init_with_output(jax.random.key(0), jnp.asarray(clips), jnp.asarray(valid))
    np.testing.assert_allclose(output.feature, ((clips / 255 - mean) / std).mean((1, 2, 3, 4)), atol=1e-5)


@pytest.mark.parametrize('name', ['micro', 'i3d', 'r3d_18', 'osnet_x0_25'])
def test_colours_are_looked_at_where_the_features_times_are(name):
    config = get_config(f'colour_masks=true,backbone={name}')
    network = build_network(freeze(config).model, num_identities=2)
    frames = 2 * network.stride_t + 1  # three times, whichever way it is rounded
    clips = jax.ShapeDtypeStruct((1, frames, 256, 128, 3), jnp.uint8), jax.ShapeDtypeStruct((1, frames), bool)
    variables = jax.eval_shape(functools.partial(init_variables, network, (frames, 256, 128)), jax.random.key(0))
    _, intermediates, times = jax.eval_shape(functools.partial(clip_statistics, network), variables, *clips)
    assert times.shape[1] == intermediates.part_masks.shape[1] == 3


@pytest.mark.parametrize('merge', ['add', 'max'])
def test_statistics_of_no_clip_change_nothing(merge):
    statistics = {'some': jnp.array([[-2.0, 0.0, 3.0]])}
    merged = merge_two(identity_element(statistics, merge), statistics, merge)
    np.testing.assert_array_equal(merged['some'], statistics['some'])


def test_bf16_stays_near_float32_and_keeps_float32_islands():
    network, variables = make(dtype='bfloat16')
    exact, _ = make()
    clips, valid = map(jnp.asarray, videos())
    output = program(network)(variables, clips, valid)
    assert output.embedding.dtype == output.part_masks.dtype == output.soft_assignment.dtype == jnp.float32
    cosine = (output.embedding * embedding(exact, variables, clips, valid)).sum(1)
    assert cosine.min() > 0.98


def products(jaxpr) -> list[str]:
    """The precision of each matrix product in a program, those of its functions too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == 'dot_general':
            found.append(str(equation.params['precision']))
        for inner in equation.params.values():
            inner = getattr(inner, 'jaxpr', inner)
            found += products(inner) if hasattr(inner, 'eqns') else []
    return found


def test_products_behind_the_features_have_all_bits_of_float32(made):
    """A GPU takes float32 products with 10 bits unless told otherwise, a TPU with 8."""
    network, variables = made
    clips, valid = (x[:, :1] for x in videos())
    network = network.clone(backbone=Pixels(), stride_t=1)
    variables = jax.eval_shape(network.init, jax.random.key(0), clips, valid)
    found = products(jax.make_jaxpr(network.apply)(variables, clips, valid).jaxpr)
    layers = 1 if network.aggregator.__class__.__name__ in ('PersonVlad', 'PartAttention') else 0  # of the convolutions
    assert len(found) >= 2 and sum('HIGHEST' not in one for one in found) == layers, found


def test_bnneck_serves_the_necked_embedding_at_test_only():
    network, variables = make(bnneck=True)
    clips, valid = map(jnp.asarray, videos())
    assert set(variables['params']['neck']) == {'scale'} and 'bias' not in variables['params']['classifier']
    train = jax.jit(functools.partial(network.apply, train=True, mutable=['batch_stats']))
    trained, updated = train(variables, clips, valid)
    np.testing.assert_allclose(
        trained.embedding, trained.feature / np.linalg.norm(trained.feature, axis=1, keepdims=True), atol=1e-5
    )
    served = program(network)(variables, clips, valid)
    stats, scale = variables['batch_stats']['neck'], variables['params']['neck']['scale']
    moved = 0.9 * stats['mean'] + 0.1 * trained.feature.mean(0)
    np.testing.assert_allclose(updated['batch_stats']['neck']['mean'], moved, atol=1e-5)
    necked = (served.feature - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * scale
    np.testing.assert_allclose(served.embedding, necked / np.linalg.norm(necked, axis=1, keepdims=True), atol=1e-5)


def test_stripes_are_means_over_rows_that_may_overlap():
    x, valid = np.random.default_rng(0).normal(size=(1, 2, 5, 3, 4)).astype(np.float32), np.array([[True, False]])
    pooling, one = Stripes(2, 4), np.eye(4, dtype=np.float32)
    statistics, _ = pooling.apply(
        {'params': {'stripe_kernel': jnp.stack([one, 2 * one])}}, *map(jnp.asarray, (x, valid))
    )
    expected = np.concatenate([x[:, 0, :3].mean((1, 2)), 2 * x[:, 0, 2:].mean((1, 2))], axis=1)
    np.testing.assert_allclose(pooling.finish(statistics), expected, atol=1e-6)


def test_more_stripes_than_rows_is_an_error():
    with pytest.raises(UserError, match='stripes do not fit'):
        make('stripes', parts=50)
