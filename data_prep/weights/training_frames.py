"""Frames of a built data set's training tracklets, for statistics that a source of weights lacks."""

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.data.tracklet_dataset import TrackletDataset


def training_frames(
    data_dir: str, name: str, count: int, height: int, width: int
) -> UInt8[np.ndarray, 'M height width 3']:
    """The middle frame of each of `count` tracklets spread over the training split; of all, if there are fewer.

    Raises UserError where the data set or its training split is missing, or a frame cannot be decoded.
    """
    dataset = TrackletDataset.open(data_dir, name)
    table = dataset.tables.get('train', ())
    if len(table) == 0:
        raise UserError(f'{dataset.folder} has no training tracklets.')
    frames = []
    for row in np.unique(np.linspace(0, len(table) - 1, count).astype(int)):
        tracklet = dataset.read('train', table.row[row])
        middle = [len(tracklet.frames) // 2]
        frames.append(decode_clips(tracklet.frames, middle, height, width, tracklet.tracklet)[0])
    return np.stack(frames)
