"""Whether part masks rest on body parts, through time: overlap with the limbs of synthetic walkers, which the renderer
knows.

    python benchmarks/part_masks.py runs/demo runs/other --data_dir=data --output=part_masks.json

Over all test walkers of trained runs (configs/synthetic.py), all of one data set, in clips as at test, unflipped. A
limb's label map is counted into the cells of the feature map; the walker's left and right are joined, unless said.
Every measure ignores a mask's level, which means nothing to the VLAD. Printed for each run:
  NMI, ARI      of the strongest part against limbs on the walkers' pixels, all frames together (Choudhury et al.,
                NeurIPS 2021: FG-NMI, FG-ARI); a part's strength is relative to its mean
  NMI sides     the same with left and right limbs apart
  IoU           soft IoU of head, trunk, arms, legs with a part each (best matching), mean
  follows       what that IoU loses with the limbs of another frame of the tracklet: 0 = the mask does not move
  background    share of the masks' mass off the walker, mean over parts
  unevenness    standard deviation of a mask over its mean, mean over parts
  steady        share of a tracklet's frames in which a limb has its usual part; of all tracklets' frames
  ends          mean change of a mask, in its standard deviations, of one frame from the ends of a clip to its middle
                (of two times: between both)
  still         the same in clips of one frame repeated: zero padding in time alone
  motion        the same of neighbouring frames at the same place of a clip
and for each part the limb on which its mass is densest, how much of it lies there, and how dense (1 = uniform).
Below the runs stand masks that no network made: uniform ones, horizontal bands (those that the position term begins
with), the layout that colour masks begin with (without colours), the mean of the limbs over all frames, and the limbs
themselves, on the feature map's grid.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.clip_masks import LimbMasks
from benchmarks.part_measures import (
    EPSILON,
    adjusted_rand_index,
    best_match,
    contingency,
    mass,
    matched_iou,
    normalised_mutual_information,
    other_frame,
    soft_iou,
    steadiness,
)
from benchmarks.rows import draw, new_file, own_path, write
from benchmarks.same_tracklets import check_same_data_set
from benchmarks.walker_masks import walker_masks
from data_prep.synthetic_walkers.limbs import Limb
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable
from pvlad_jax.ops.colour_segmentation import FINER
from pvlad_jax.runs.trained_model import load_trained

# Labels with sides joined, the background first.
JOINED = {
    'background': (Limb.BACKGROUND,),
    'head': (Limb.HEAD,),
    'trunk': (Limb.TRUNK,),
    'arms': (Limb.LEFT_ARM, Limb.RIGHT_ARM),
    'legs': (Limb.LEFT_LEG, Limb.RIGHT_LEG),
    'bag': (Limb.BAG,),
}
NAMES = list(JOINED)
BODY = slice(1, 5)  # what everybody has: head to legs, of NAMES
COLUMNS = {
    'rank_1': 'rank-1 %',
    'mAP': 'mAP %',
    'nmi': 'NMI',
    'ari': 'ARI',
    'nmi_sides': 'NMI sides',
    'iou': 'IoU',
    'follows': 'follows',
    'background': 'background',
    'unevenness': 'unevenness',
    'steady_in_tracklet': 'steady: tracklet',
    'steady_overall': 'all',
    'ends': 'ends',
    'still': 'still',
    'motion': 'motion',
}


def with_sides_joined(shares: np.ndarray) -> np.ndarray:
    """[N,h,w,8] -> [N,h,w,6], by NAMES."""
    return np.stack([shares[..., list(limbs)].sum(-1) for limbs in JOINED.values()], -1)


def measures(masks: np.ndarray, shares: np.ndarray, tracklet: np.ndarray) -> dict[str, float]:
    """The summary of masks [N,h,w,P] against limbs [N,h,w,8]."""
    cell = HEIGHT * WIDTH // (masks.shape[1] * masks.shape[2])
    joined = with_sides_joined(shares)
    table, sides = contingency(masks, joined, cell), contingency(masks, shares, cell)
    iou, other = soft_iou(masks, joined)[:, BODY], soft_iou(masks, joined[other_frame(tracklet)])[:, BODY]
    part = best_match(iou)
    # The tracklets' first limb is the background, which steadiness leaves out.
    steady = [np.nanmean(values[: BODY.stop - 1]) for values in steadiness(masks, joined, tracklet)]
    return {
        'nmi': normalised_mutual_information(table),
        'ari': adjusted_rand_index(table),
        'nmi_sides': normalised_mutual_information(sides),
        'iou': float(matched_iou(iou, part).mean()),
        'follows': float((matched_iou(iou, part) - matched_iou(other, part)).mean()),
        'background': float(mass(masks, joined)[:, 0].mean()),
        'unevenness': float(_unevenness(masks).mean()),
        'steady_in_tracklet': float(steady[0]),
        'steady_overall': float(steady[1]),
    }


def _unevenness(masks: np.ndarray) -> np.ndarray:
    return masks.std((0, 1, 2)) / masks.mean((0, 1, 2))


def part_rows(masks: np.ndarray, shares: np.ndarray) -> list[dict]:
    """For each part the limb that it rests on most densely, and how it lies there."""
    joined = with_sides_joined(shares)
    share, iou = mass(masks, joined), soft_iou(masks, joined)
    density = share / np.maximum(joined.mean((0, 1, 2)), EPSILON)  # 0 where a limb is never seen
    limb = 1 + density[:, 1:].argmax(1)
    return [
        {
            'part': p + 1,
            'limb': NAMES[at],
            'share': float(share[p, at]),
            'density': float(density[p, at]),
            'iou': float(iou[p, at]),
            'background': float(share[p, 0]),
            'unevenness': float(_unevenness(masks[..., p : p + 1])[0]),
        }
        for p, at in enumerate(limb)
    ]


def references(seen: LimbMasks) -> list[dict]:
    """Rows of masks that no network made, on the grid and for the number of parts of these."""
    import jax

    from pvlad_jax.models.pooling.part_alignment import horizontal_bands
    from pvlad_jax.ops.part_layout import part_layout

    _, h, w, parts = seen.masks.shape
    bands = np.moveaxis(np.asarray(jax.nn.sigmoid(horizontal_bands(parts, h, w))), 0, -1)
    fine = part_layout(parts, FINER * h, FINER * w)[..., :parts]
    limbs = with_sides_joined(seen.shares)[..., 1:]
    limbs = limbs[..., limbs.any((0, 1, 2))]  # real people's bags are not labelled
    made = {
        'uniform': np.ones_like(seen.masks),
        'bands': np.broadcast_to(bands, seen.masks.shape),
        'layout': np.broadcast_to(fine.reshape(h, FINER, w, FINER, parts).mean((1, 3)), seen.masks.shape),
        'mean limbs': np.broadcast_to(limbs.mean(0), limbs.shape),
        'limbs': limbs,
    }
    return [{'name': name, **measures(masks, seen.shares, seen.tracklet)} for name, masks in made.items()]


def evaluated_scores(workdir: Path) -> dict[str, float]:
    """rank-1 and mAP in %, where the run has been evaluated."""
    result = workdir / 'eval' / 'latest.json'
    scores = json.loads(result.read_text()) if result.exists() else {}
    return {name: 100 * scores[name] for name in ('rank_1', 'mAP') if name in scores}


def run_row(name: str, seen: LimbMasks, scores: Mapping[str, float]) -> dict:
    """scores: what stands before the measures."""
    row = {'name': name, **scores}
    row |= measures(seen.masks, seen.shares, seen.tracklet)
    if seen.place is not None:
        deviation = seen.masks.std((0, 1, 2))
        row |= {kind: float((getattr(seen.place, kind) / deviation).mean()) for kind in seen.place._fields}
    return row | {'frames': len(seen.masks), 'parts': part_rows(seen.masks, seen.shares)}


def show(rows: list[dict]) -> None:
    digits = {'rank_1': 1, 'mAP': 1}
    lines = [[row['name'], *(f'{row[c]:.{digits.get(c, 3)}f}' if c in row else '' for c in COLUMNS)] for row in rows]
    draw('Part masks against limbs', ['', *COLUMNS.values()], lines)
    for row in rows:
        for p in row.get('parts', ()):
            say(
                '{name}  part {part}: {limb:6} {share:4.0%} of its mass, {density:.2f} as dense, IoU {iou:.3f}; '
                'background {background:.0%}; unevenness {unevenness:.2f}'.format(name=row['name'], **p)
            )


def parser_of_runs(description: str, tracklets: int | None = None) -> argparse.ArgumentParser:
    """What a comparison of runs is given. tracklets: the default of how many are looked at; None = there is no such
    choice.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdirs', nargs='+', type=own_path, metavar='WORKDIR')
    parser.add_argument('--data_dir', default='', help="where data sets lie; the run's configuration's, if empty")
    parser.add_argument('--checkpoint', help='last, best or a step; as the run says, if not given')
    if tracklets is not None:
        parser.add_argument('--tracklets', type=int, default=tracklets, help='that many, drawn from seed 0; 0 = all')
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    return parser


def drawn(table: TrackletTable, count: int) -> TrackletTable:
    """count tracklets in the table's order, drawn from seed 0; 0 = all. Not evenly spaced, since tables repeat their
    cameras in order.
    """
    if not count:
        return table
    return table.select(np.sort(np.random.default_rng(0).permutation(len(table))[:count]))


def main() -> None:
    parser = parser_of_runs(__doc__, tracklets=0)
    parser.add_argument('--frames', type=int, default=0, help="of a clip; those of the run's configuration, if 0")
    given = parser.parse_args()
    for name in ('frames', 'tracklets'):
        if getattr(given, name) < 0:
            parser.error(f'--{name}={getattr(given, name)}: at least 0.')
    check_same_data_set(given.workdirs, given.data_dir)
    rows = []
    for workdir in given.workdirs:
        model = load_trained(workdir, given.checkpoint)
        about = model.config.dataset
        dataset = TrackletDataset.open(given.data_dir or about.data_dir, about.name)
        table = TrackletTable.concatenate([dataset.tables['query'], dataset.tables['gallery']])
        table = drawn(table, given.tracklets)
        seen = walker_masks(model, dataset, table, given.frames)
        rows.append(run_row(str(workdir), seen, evaluated_scores(workdir)))
    rows += references(seen)
    if given.output:
        write(given.output, rows)
    show(rows)


if __name__ == '__main__':
    with one_sentence():
        main()
