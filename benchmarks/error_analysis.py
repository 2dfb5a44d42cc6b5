r"""Which queries of a run fail, and on what: ranks of the first match, cameras, and the nearest wrong tracklets.

    python benchmarks/error_analysis.py --query=RUN/embeddings/query.npz --gallery=RUN/embeddings/gallery.npz \
        --output=failures.csv

Who is a match and who is ignored is what the protocol says, by default the one that the evaluation takes
(`python -m pvlad_jax.evaluation`); distances are 1 - cosine. The table has one line a failed query, the worst first:
its tracklet, the rank and the distance of its first match, the nearest tracklet and its distance. Looking at these
frames tells more than the counts do. An unknown camera is an empty cell.
"""

import argparse
import collections
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write, check_output_file
from pvlad_jax.core.labels import UNKNOWN_CAMERA, camera_label
from pvlad_jax.core.terminal import say
from pvlad_jax.evaluation import Embeddings, read_embeddings
from pvlad_jax.evaluation.cmc_map import rank
from pvlad_jax.evaluation.protocols import PROTOCOLS, UNKNOWN_CAMERAS, default_protocol, label_arrays, nothing_found
from pvlad_jax.evaluation.ranked_lists import top_ranked
from pvlad_jax.evaluation.scoring import ranked_tables, score_rows

BINS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))


class Failure(NamedTuple):
    query: str
    person: int
    camera: int
    matches: int  # good tracklets, by the protocol
    rank: int  # of the first of them
    match: str
    match_distance: float
    nearest: str
    nearest_person: int
    nearest_camera: int
    nearest_distance: float


def first_matches(
    query: Embeddings, gallery: Embeddings, protocol: str = 'mars_official', unknown_cameras: str = 'refuse'
) -> tuple[Int[np.ndarray, 'Q'], list[Failure]]:
    """Rank of the first match of each query that has one, and the queries whose nearest tracklet is wrong, the worst
    first.

    UserError where `pvlad_jax.evaluation.score` raises it.
    """
    query, gallery, chosen = ranked_tables(query, gallery, protocol, unknown_cameras)
    scores = score_rows(query, gallery)
    ranking = rank(scores, *label_arrays(query, gallery), chosen, unknown_cameras)
    if not ranking.valid.any():
        raise UserError(nothing_found(chosen, len(query), len(gallery)))
    failures = []
    for row in np.flatnonzero(ranking.first_rank > 1).tolist():
        first = int(ranking.first_rank[row])
        order = top_ranked(scores, query, gallery, chosen, np.array([row]), first, unknown_cameras).gallery[0]
        distances = scores.distances(np.array([row]))[0]
        nearest, match = order[0], order[first - 1]
        failures.append(
            Failure(
                str(query.tracklet[row]),
                int(query.person_id[row]),
                int(query.camera_id[row]),
                int(ranking.num_matches[row]),
                first,
                str(gallery.tracklet[match]),
                float(distances[match]),
                str(gallery.tracklet[nearest]),
                int(gallery.person_id[nearest]),
                int(gallery.camera_id[nearest]),
                float(distances[nearest]),
            )
        )
    return ranking.first_rank[ranking.valid].astype(int), sorted(failures, key=lambda failure: -failure.rank)


def report(ranks: Int[np.ndarray, 'Q'], failures: list[Failure], query: Embeddings) -> None:
    n = len(ranks)
    say(
        f'{n} queries with a match; the nearest tracklet is wrong for {len(failures)}, of '
        f'{len({f.person for f in failures})} people.'
    )
    for low, high in BINS:
        count = np.sum((ranks >= low) & (ranks <= (high or np.inf)))
        label = f'{low}' if high == low else f'{low} to {high}' if high else f'{low} and more'
        say(f'  first match at rank {label:12} {count:5}  {count / n:6.1%}')
    if not failures:
        return
    all_cameras, failed = (
        collections.Counter(cameras) for cameras in (query.camera_id.tolist(), [f.camera for f in failures])
    )
    say(
        '  failed, by the camera of the query: '
        + ', '.join(f'{camera_label(c)}: {failed[c]} of {all_cameras[c]}' for c in sorted(all_cameras))
    )
    same = sum(f.camera == f.nearest_camera != UNKNOWN_CAMERA for f in failures)
    say(f'  the wrong nearest tracklet is from the camera of the query: {same} of {len(failures)}')
    margin = np.median([f.match_distance - f.nearest_distance for f in failures])
    say(f'  median distance of the first match less that of the wrong nearest: {margin:.3f}')


def write(path: str, failures: list[Failure]) -> None:
    """The CSV file; a reader sees the old one or the whole new one."""
    with atomic_write(path) as partial, open(partial, 'w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(Failure._fields)
        for failure in failures:
            cameras = {name: getattr(failure, name) for name in ('camera', 'nearest_camera')}
            known = {name: '' if camera == UNKNOWN_CAMERA else camera for name, camera in cameras.items()}
            table.writerow(failure._replace(**known))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--query', required=True)
    parser.add_argument('--gallery', required=True)
    parser.add_argument('--protocol', choices=PROTOCOLS, help='default: as `python -m pvlad_jax.evaluation`')
    parser.add_argument('--unknown_cameras', default='refuse', choices=UNKNOWN_CAMERAS)
    parser.add_argument('--output', help='CSV file of the failed queries')
    given = parser.parse_args()
    if given.output:
        check_output_file(given.output, {'--query': given.query, '--gallery': given.gallery})
    query, gallery = read_embeddings(given.query), read_embeddings(given.gallery)
    protocol = given.protocol or default_protocol(query, gallery, given.unknown_cameras)
    ranks, failures = first_matches(query, gallery, protocol, given.unknown_cameras)
    report(ranks, failures, query)
    if given.output:
        write(given.output, failures)


if __name__ == '__main__':
    with one_sentence():
        main()
