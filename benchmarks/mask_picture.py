"""A picture of part masks over synthetic walkers, below the limbs that the renderer drew.

    python benchmarks/mask_picture.py runs/before runs/after --data_dir=data --output=part_masks.jpg

A column for each frame, three frames of each of some test tracklets; rows: the frame, its limbs, the masks of each run.
Each part has the colour of the limb that it overlaps most (head yellow, trunk red, arms green, legs blue; bags are
purple), and is as opaque as it is high, compared with its 98th percentile in these tracklets.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from benchmarks.clip_masks import LimbMasks
from benchmarks.part_masks import BODY, with_sides_joined
from benchmarks.part_measures import best_match, soft_iou
from benchmarks.rows import new_file, own_path
from benchmarks.same_tracklets import check_same, check_same_data_set
from benchmarks.walker_masks import walker_masks, world_of
from data_prep.synthetic_walkers.limb_maps import limb_maps
from data_prep.synthetic_walkers.limbs import label_counts
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH
from pvlad_jax.core.environment_errors import one_sentence

COLOURS = np.array([(0, 0, 0), (255, 220, 0), (230, 40, 40), (40, 190, 60), (60, 90, 255), (190, 60, 220)], np.float32)
STRENGTH = 0.65  # of the colours over the frame
COLUMNS = 3  # frames of a tracklet
GAP = 4


def overlaid(
    frame: UInt8[np.ndarray, 'H W 3'], levels: Float[np.ndarray, 'h w X'], colours: Float[np.ndarray, 'X 3']
) -> UInt8[np.ndarray, 'H W 3']:
    """levels: of each part, 0 to 1."""
    levels = cv2.resize(levels.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    colour = levels @ colours / np.maximum(levels.sum(-1, keepdims=True), 1e-6)
    opaque = STRENGTH * levels.max(-1, keepdims=True)
    grey = np.repeat(frame.mean(-1, keepdims=True), 3, -1)
    return ((1 - opaque) * grey + opaque * colour).astype(np.uint8)


def limb_of_parts(seen: LimbMasks) -> Int[np.ndarray, 'P']:
    """The limb of each part, of NAMES: as they are matched one to one, then by overlap."""
    iou = soft_iou(seen.masks, with_sides_joined(seen.shares))[:, BODY]
    limb = iou.argmax(1)
    for at, part in enumerate(best_match(iou)):
        if part >= 0:
            limb[part] = at
    return limb + BODY.start


def picture(
    frames: list[UInt8[np.ndarray, 'n H W 3']], labels: list[UInt8[np.ndarray, 'n H W']], runs: list[LimbMasks]
) -> UInt8[np.ndarray, 'Y X 3']:
    """frames, labels: of each tracklet, those for which the runs have masks."""
    blocks = []
    for number, (shown, limbs) in enumerate(zip(frames, labels)):
        for at in np.linspace(0, len(shown) - 1, COLUMNS).astype(int):
            true = with_sides_joined(label_counts(limbs[at], HEIGHT, WIDTH))[..., 1:]
            rows = [shown[at], overlaid(shown[at], true, COLOURS[1:])]
            for seen in runs:
                greatest = np.quantile(seen.masks, 0.98, (0, 1, 2))
                colours = COLOURS[limb_of_parts(seen)]
                rows.append(
                    overlaid(shown[at], np.minimum(seen.masks[seen.tracklet == number][at] / greatest, 1), colours)
                )
            column = np.concatenate([np.pad(row, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for row in rows])
            blocks.append(column)
        blocks.append(np.full((len(column), 2 * GAP, 3), 255, np.uint8))
    return np.concatenate(blocks[:-1], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdirs', nargs='+', type=own_path, metavar='WORKDIR')
    parser.add_argument('--data_dir', default='', help="where data sets lie; the run's configuration's, if empty")
    parser.add_argument('--tracklets', type=int, default=4, help='that many, drawn')
    parser.add_argument('--seed', type=int, default=0, help='of the drawing')
    parser.add_argument('--output', type=new_file, required=True, help='.jpg or .png file')
    given = parser.parse_args()
    if given.tracklets < 1:
        parser.error(f'--tracklets={given.tracklets}: at least 1.')
    if given.output.suffix not in ('.jpg', '.png'):
        parser.error(f'--output={given.output}: a name that ends in .jpg or .png.')
    from pvlad_jax.data.frame_decoding import decode_clips
    from pvlad_jax.data.tracklet_dataset import TrackletDataset
    from pvlad_jax.runs.trained_model import load_trained

    check_same_data_set(given.workdirs, given.data_dir)
    models = {workdir: load_trained(workdir) for workdir in given.workdirs}
    # Masks of other frames would lie over those that are shown.
    times = {w: {'frames of a clip': m.clip[0], 'stride in time': m.network.stride_t} for w, m in models.items()}
    check_same(times, 'Draw each in a picture of its own.')
    runs = []
    for model in models.values():
        about = model.config.dataset
        dataset = TrackletDataset.open(given.data_dir or about.data_dir, about.name)
        table = dataset.tables['query']
        drawn = np.random.default_rng(given.seed).permutation(len(table))[: given.tracklets]
        table = table.select(np.sort(drawn))
        length, stride = model.config.clips.frames, model.network.stride_t
        runs.append(walker_masks(model, dataset, table))
    frames, labels, world = [], [], world_of(dataset)
    for row in range(len(table)):
        name, encoded = str(table.tracklet[row]), dataset.read(table.split[row], table.row[row]).frames
        # Clips side by side, in each a time of the feature map every `stride` frames.
        clips = (range(start, min(start + length, len(encoded)), stride) for start in range(0, len(encoded), length))
        at = np.concatenate([np.array(clip) for clip in clips])
        frames.append(decode_clips(encoded, at, HEIGHT, WIDTH, name))
        number = int(name.rpartition('_t')[2])
        labels.append(limb_maps(world, int(table.person_id[row]), int(table.camera_id[row]), number)[at])
    quality = [cv2.IMWRITE_JPEG_QUALITY, 88] if given.output.suffix == '.jpg' else []
    cv2.imwrite(str(given.output), picture(frames, labels, runs)[..., ::-1], quality)


if __name__ == '__main__':
    with one_sentence():
        main()
