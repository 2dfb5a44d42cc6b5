"""What the parts of a network do with clips of the test set: a picture of their masks, the use of their codewords."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.report.codeword_use import codeword_use, write_codeword_use
from pvlad_jax.report.part_masks import part_mask_picture
from pvlad_jax.report.ranked_strips import write_strips
from pvlad_jax.runs.workdir import Folder

MASKS, CODEWORDS = 'part_masks.png', 'codeword_use.json'
_CLIPS = 4  # at a time, and in the picture at most
_TRACKLETS = 64  # whose first clips codewords are counted over, at most

Clip = Callable[[str], UInt8[np.ndarray, 'T H W 3']]  # the first clip of a tracklet, by its name


def write_part_intermediates(
    network: TrackletNetwork,
    variables: dict,
    clip: Clip,
    queries: Sequence[str],
    gallery: Sequence[str],
    pictures: int,
    folder: Folder,
    step: int,
    log: Callable[[str], None],
) -> None:
    """Writes FOLDER/part_masks.png of up to `pictures` queries, where the pooling has masks, and
    FOLDER/codeword_use.json over evenly spread queries and gallery tracklets, where it has codewords.

    Args:
      queries, gallery: tracklets that fill a clip.
      step: of the state whose variables these are.
    """
    if not queries:
        return
    shown = _spread(queries, min(pictures, _CLIPS))
    clips = np.stack([clip(name) for name in shown])
    masks, total = part_intermediates(network, variables, _filled(clips))
    if masks is not None:
        write_strips(folder / MASKS, part_mask_picture(list(clips), list(np.asarray(masks)[: len(clips)])))
        log(f'Part masks: {folder / MASKS}')
    if total is None:
        return
    counted = [*_spread(queries, _TRACKLETS // 2), *_spread(gallery, _TRACKLETS // 2)]
    summed = 0
    for start in range(0, len(counted), _CLIPS):
        some = np.stack([clip(name) for name in counted[start : start + _CLIPS]])
        summed = summed + np.asarray(part_intermediates(network, variables, _filled(some))[1])[: len(some)].sum(0)
    write_codeword_use(folder / CODEWORDS, codeword_use(summed, len(counted)), step)


@partial(jax.jit, static_argnums=0)
def part_intermediates(
    network: TrackletNetwork, variables: dict, clips: UInt8[Array, 'N T H W 3']
) -> tuple[Float[Array, 'N t h w P'] | None, Float[Array, 'N P K'] | None]:
    """(masks, each clip's soft assignments summed over locations, weighted with the masks if there are any); None of
    what the pooling has not.
    """
    seen = clip_statistics(network, variables, clips, jnp.ones(clips.shape[:2], bool))[1]
    if seen.soft_assignment is None:
        return seen.part_masks, None
    if seen.part_masks is None:
        return None, jnp.sum(seen.soft_assignment, (1, 2, 3))
    return seen.part_masks, jnp.einsum('nthwpk,nthwp->npk', seen.soft_assignment, seen.part_masks, precision='highest')


def _spread(names: Sequence[str], count: int) -> list[str]:
    """As many of these as `count`, evenly."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))]


def _filled(clips: UInt8[np.ndarray, 'n T H W 3']) -> UInt8[np.ndarray, 'N T H W 3']:
    """Always _CLIPS of them, so that one program serves."""
    return clips[np.minimum(np.arange(_CLIPS), len(clips) - 1)]
