"""Embeddings of videos of any length: statistics are carried from step to step, so memory does not grow, and one
program serves all.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from pvlad_jax.models.pooling.interface import Statistics, identity_element, merge_by_segment, merge_two
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.ops.l2_normalise import l2_normalise

Described = Array | np.ndarray | jax.ShapeDtypeStruct  # what has a shape and a dtype


def initial_carry(
    network: TrackletNetwork,
    variables: dict,
    clips: UInt8[Described, 'N T H W 3'],
    valid: Bool[Described, 'N T'],
    flip: bool = False,
) -> Statistics:
    """The carry before the first step: statistics of no clip, [1, ...] (with `flip` two of them, [2, ...]).

    Of clips and valid, those of the steps to come, only shapes and shardings matter (jax.ShapeDtypeStruct will do).
    With the same, the network is not traced once more for the step.
    """
    shapes, views = jax.eval_shape(clip_statistics, network, variables, clips, valid)[0], 2 if flip else 1
    return identity_element(
        jax.tree.map(lambda s: jax.ShapeDtypeStruct((views, *s.shape[1:]), s.dtype), shapes), network.aggregator.merge
    )


def embed_batch(
    network: TrackletNetwork,
    variables: dict,
    carry: Statistics,
    clips: UInt8[Array, 'N T H W 3'],
    valid: Bool[Array, 'N T'],
    segment: Int[Array, 'N'],
    last_segment: Int[Array, ''],
    unfinished: Bool[Array, ''],
    flip: bool = False,
) -> tuple[Float[Array, 'N E'], Statistics]:
    """One step over N clips of up to N videos.

    Args:
      carry: statistics of the video in segment 0 from the steps before; `initial_carry` where it begins here.
      segment: the video of each clip, rising from 0; N for padding clips.
      last_segment, unfinished: the step's last video, and whether it continues in the next step.
      flip: averages each video's embedding with its mirror image's.

    Returns: unit embeddings by segment (those of finished videos mean something), and the next step's carry.
    """
    merge, n = network.aggregator.merge, clips.shape[0]
    embeddings, carries = [], []
    for view in range(2 if flip else 1):
        seen = clips[:, :, :, ::-1] if view else clips
        videos = merge_by_segment(clip_statistics(network, variables, seen, valid)[0], merge, segment, n)
        before = jax.tree.map(lambda c: c[view : view + 1], carry)  # noqa: B023  used at once
        videos = jax.tree.map(
            lambda v, first: v.at[:1].set(first),
            videos,
            merge_two(jax.tree.map(lambda v: v[:1], videos), before, merge),
        )
        embeddings.append(network.apply(variables, videos, method='embed')[1])
        last = jax.tree.map(lambda v: jax.lax.dynamic_slice_in_dim(v, last_segment, 1), videos)
        carries.append(jax.tree.map(lambda a, b: jnp.where(unfinished, a, b), last, identity_element(last, merge)))
    embedding = embeddings[0] if not flip else l2_normalise(embeddings[0] + embeddings[1])
    return embedding, jax.tree.map(lambda *c: jnp.concatenate(c), *carries)
