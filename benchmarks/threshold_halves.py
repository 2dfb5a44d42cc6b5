"""A threshold that was calibrated on one half of the test people, tried on the other half.

    python benchmarks/threshold_halves.py --query=WORKDIR/embeddings/query.npz --gallery=WORKDIR/embeddings/gallery.npz

People are halved at random (`--seed`); distractors go to the halves in turn.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.rows import draw, own_path
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import complain
from pvlad_jax.evaluation.calibration import PER, calibrate
from pvlad_jax.evaluation.distances import pairwise_distance
from pvlad_jax.evaluation.embeddings import Embeddings, read_embeddings
from pvlad_jax.evaluation.protocols import PROTOCOLS, label_arrays
from pvlad_jax.evaluation.threshold import Calibration


def half(table: Embeddings, people: np.ndarray, first: bool) -> Embeddings:
    """The rows of these people (or of the others), and every other distractor; no junk."""
    mine = np.isin(table.person_id, people) == first
    every_other = np.cumsum(table.person_id == 0) % 2 == int(first)
    return table.select(np.where(table.person_id > 0, mine, every_other & (table.person_id == 0)))


def measured(query: Embeddings, gallery: Embeddings, calibration: Calibration) -> dict[str, float]:
    """The rates that the calibration estimates, counted on other people."""
    rows = np.arange(len(query))
    good, ignored = PROTOCOLS['mars_official'].relevance_of(rows, *label_arrays(query, gallery), 'other')
    distance = pairwise_distance(query, gallery).distances(rows)
    two, same, nobody = ~good & ~ignored, calibration.same.value, calibration.nobody
    stranger, own = np.where(two, distance, np.inf).min(axis=1), np.where(good, distance, np.inf).min(axis=1)
    there = np.isfinite(own)
    accepts = (distance[two] <= same).mean() if calibration.per == 'pair' else (stranger <= same).mean()
    return {
        'false_accepts': accepts,
        'misses': (distance[good] > same).mean(),
        'absent_nobody': (stranger > nobody).mean(),
        'absent_same': (stranger <= same).mean(),
        'present_same': ((own <= same) & (own < stranger))[there].mean(),
        'present_wrong_person': ((stranger <= same) & (stranger <= own))[there].mean(),
        'present_nobody': (np.minimum(own, stranger) > nobody)[there].mean(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--query', type=own_path, required=True)
    parser.add_argument('--gallery', type=own_path, required=True)
    parser.add_argument('--false_accept_rate', type=float, default=0.01)
    parser.add_argument('--per', choices=PER, default='pair')
    parser.add_argument('--resamples', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    query, gallery = read_embeddings(options.query), read_embeddings(options.gallery)
    people = np.random.default_rng(options.seed).permutation(np.unique(query.person_id[query.person_id > 0]))
    people = people[: len(people) // 2]
    calibration = calibrate(
        half(query, people, True),
        half(gallery, people, True),
        options.false_accept_rate,
        per=options.per,
        unknown_cameras='other',
        resamples=options.resamples,
    )
    other = measured(half(query, people, False), half(gallery, people, False), calibration)
    same = calibration.same
    title = (
        f'{calibration.people} people; same up to {same.value:.4f} ({same.low:.4f} to {same.high:.4f}), '
        f'nobody above {calibration.nobody:.4f}'
    )
    lines = []
    for name, value in other.items():
        estimate = getattr(calibration, name, None) or calibration.open_set[name]
        interval = f'{100 * estimate.low:.2f} to {100 * estimate.high:.2f}'
        lines.append([name, f'{100 * estimate.value:.2f}', interval, f'{100 * value:.2f}'])
    draw(title, ('rate, %', 'calibrated', '95 % interval', 'other half'), lines, width=120, left=('rate, %',))
    for warning in calibration.warnings:
        complain(f'Note: {warning}')
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
