"""The network at test as a `jax.export` program: pixels and masks in, unit embeddings out, for any number of videos and
of clips, on CPU, CUDA and TPU.

    model.jax: (weights, frames [B, S, T, H, W, 3] uint8, valid [B, S, T], before) -> (embedding [B, E], after)

`before` and `after` are the statistics of each video so far, so that a video of any length is embedded in constant
memory: the embedding is that of all clips up to now. Weights are arguments, since they stand in a file of their own.
"""

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import export
from jaxtyping import Array, Bool, Float, UInt8

from pvlad_jax.models.pooling.interface import Statistics, identity_element, merge_clips, merge_two
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.ops.l2_normalise import l2_normalise

PLATFORMS = ('cpu', 'cuda', 'tpu')
Weights = dict[str, Array]  # by 'params/backbone/...' and 'batch_stats/...'
Described = Array | jax.ShapeDtypeStruct


def embed_clips(
    network: TrackletNetwork,
    flip: bool,
    weights: Weights,
    frames: UInt8[Array, 'B S T H W 3'],
    valid: Bool[Array, 'B S T'],
    before: Statistics,
) -> tuple[Float[Array, 'B E'], Statistics]:
    """Embeddings of B videos from their clips so far.

    Args:
      flip: averages the embedding with that of the mirror image.
      frames: RGB in the network's size; S clips of each video.
      valid: false for padding. Frames that are not valid change nothing, clips without a valid frame neither.
      before: what the last call returned of these videos, [B, V, ...], V = 2 with `flip`; for new ones 0, or -inf where
        statistics merge by their maximum.

    Returns: unit embeddings, and the statistics that the next call takes.
    """
    variables, merge = unflatten_dict(weights, sep='/'), network.aggregator.merge
    b, s = frames.shape[:2]
    clips, valid = frames.reshape(b * s, *frames.shape[2:]), valid.reshape(b * s, valid.shape[2])
    embeddings, after = [], []
    for view in range(2 if flip else 1):
        seen = clips[:, :, :, ::-1] if view else clips
        statistics = clip_statistics(network, variables, seen, valid)[0]
        empty = identity_element(statistics, merge)
        some = valid.any(1)
        statistics = {
            name: jnp.where(some.reshape(-1, *(1,) * (value.ndim - 1)), value, empty[name])
            for name, value in statistics.items()
        }
        sums = merge_two({k: v[:, view] for k, v in before.items()}, merge_clips(statistics, merge, s), merge)
        embeddings.append(network.apply(variables, sums, method='embed')[1])
        after.append(sums)
    embedding = l2_normalise(embeddings[0] + embeddings[1]) if flip else embeddings[0]
    return embedding, jax.tree.map(lambda *views: jnp.stack(views, 1), *after)


def statistics_shapes(
    network: TrackletNetwork, weights: dict[str, jax.ShapeDtypeStruct], clip: tuple[int, int, int], flip: bool
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes [V, ...] of the statistics of one video."""
    pixels, valid = jax.ShapeDtypeStruct((1, *clip, 3), 'uint8'), jax.ShapeDtypeStruct((1, clip[0]), 'bool')
    shapes = jax.eval_shape(clip_statistics, network, unflatten_dict(weights, sep='/'), pixels, valid)[0]
    return {k: jax.ShapeDtypeStruct((2 if flip else 1, *v.shape[1:]), v.dtype) for k, v in shapes.items()}


def exported_program(
    network: TrackletNetwork, weights: dict[str, jax.ShapeDtypeStruct], clip: tuple[int, int, int], flip: bool
) -> export.Exported:
    """`embed_clips` with B and S left open. Traced and lowered, not compiled.

    Args:
      weights: shapes of the network's arrays, by name.
      clip: (T, H, W).
    """
    b, s = export.symbolic_shape('b, s')
    state = statistics_shapes(network, weights, clip, flip)

    def program(weights, frames, valid, before):
        return embed_clips(network, flip, weights, frames, valid, before)

    return export.export(jax.jit(program), platforms=PLATFORMS)(
        weights,
        jax.ShapeDtypeStruct((b, s, *clip, 3), 'uint8'),
        jax.ShapeDtypeStruct((b, s, clip[0]), 'bool'),
        {name: jax.ShapeDtypeStruct((b, *shape.shape), shape.dtype) for name, shape in state.items()},
    )
