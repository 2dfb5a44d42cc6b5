"""Part masks of a trained network over walkers, side by side with their limbs."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.clip_masks import LabelledTracklet, LimbMasks, limb_masks
from data_prep.datasets.synthetic import RENDERING
from data_prep.synthetic_walkers.limb_maps import limb_maps
from data_prep.synthetic_walkers.tracklets import World
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable
from pvlad_jax.runs.trained_model import TrainedModel

_limb_maps = functools.cache(limb_maps)  # drawn once for several networks


def world_of(dataset: TrackletDataset) -> World:
    """What the walkers were drawn from. UserError where they are not walkers, or drawn by another renderer."""
    about: dict[str, Any] = dataset.metadata
    if about.get('source') != 'synthetic walkers':
        raise UserError(f'{dataset.folder} holds no synthetic walkers, and of other people no limbs are known.')
    if about['rendering'] != RENDERING:
        raise UserError(
            f'{dataset.folder} was drawn by rendering {about["rendering"]}; label maps are those of rendering '
            f'{RENDERING}. Build the data set again.'
        )
    options = about['options']
    return World(options['seed'], options['twins'], options['min_frames'], options['max_frames'])


def walker_masks(model: TrainedModel, dataset: TrackletDataset, table: TrackletTable, frames: int = 0) -> LimbMasks:
    """`limb_masks` of the table's tracklets. UserError where the pooling has no part masks or the data set holds no
    walkers.
    """
    world = world_of(dataset)

    def tracklets() -> Iterator[LabelledTracklet]:
        for row in range(len(table)):
            name = str(table.tracklet[row])
            number = int(name.rpartition('_t')[2])
            labels = _limb_maps(world, int(table.person_id[row]), int(table.camera_id[row]), number)
            yield LabelledTracklet(
                name, dataset.read(table.split[row], table.row[row]).frames, labels, np.ones(len(labels), bool)
            )

    return limb_masks(model, tracklets(), frames)
