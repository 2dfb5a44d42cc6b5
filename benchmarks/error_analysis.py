r"""Which queries of a run fail, and on what: ranks of the first match, cameras, and the nearest wrong tracklets.

    python benchmarks/error_analysis.py --query=RUN/embeddings/query.npz --gallery=RUN/embeddings/gallery.npz \
        --output=failures.csv

By the rules of `mars_official` (the gallery is gallery plus query; same person and same camera is ignored), cosine. The
table has one line a failed query, the worst first: its tracklet, the rank and the similarity of its first match, the
nearest tracklet and its similarity. Looking at these frames tells more than the counts do.
"""

import argparse
import collections
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.files import atomic_write, check_output_file
from pvlad_jax.core.terminal import say
from pvlad_jax.evaluation import Embeddings, read_embeddings

BINS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))


class Failure(NamedTuple):
    query: str
    person: int
    camera: int
    matches: int  # tracklets of the person in other cameras
    rank: int  # of the first of them
    match: str
    match_similarity: float
    nearest: str
    nearest_person: int
    nearest_camera: int
    nearest_similarity: float


def first_matches(query: Embeddings, gallery: Embeddings) -> tuple[list[int], list[Failure]]:
    """Rank of the first match of each query that has one, and the queries whose nearest tracklet is wrong.

    Ties are ordered as they lie.
    """
    new = ~np.isin(query.tracklet, gallery.tracklet)
    gallery = gallery.join(query.select(new))
    scores = _unit(query.embedding) @ _unit(gallery.embedding).T
    ranks, failures = [], []
    for row, person, camera in zip(range(len(query)), query.person_id.tolist(), query.camera_id.tolist()):
        same = gallery.person_id == person
        searched = np.flatnonzero(~(same & (gallery.camera_id == camera)) & (gallery.person_id != -1))
        order = searched[np.argsort(-scores[row, searched], kind='stable')]
        found = np.flatnonzero(same[order])
        if not len(found):
            continue
        ranks.append(int(found[0]) + 1)
        if found[0]:
            nearest, match = order[0], order[found[0]]
            failures.append(
                Failure(
                    str(query.tracklet[row]),
                    person,
                    camera,
                    len(found),
                    ranks[-1],
                    str(gallery.tracklet[match]),
                    float(scores[row, match]),
                    str(gallery.tracklet[nearest]),
                    int(gallery.person_id[nearest]),
                    int(gallery.camera_id[nearest]),
                    float(scores[row, nearest]),
                )
            )
    return ranks, sorted(failures, key=lambda failure: -failure.rank)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def report(ranks: list[int], failures: list[Failure], query: Embeddings) -> None:
    n = len(ranks)
    say(
        f'{n} queries with a match; the nearest tracklet is wrong for {len(failures)}, of '
        f'{len({f.person for f in failures})} people.'
    )
    for low, high in BINS:
        count = sum(low <= rank <= (high or rank) for rank in ranks)
        label = f'{low}' if high == low else f'{low} to {high}' if high else f'{low} and more'
        say(f'  first match at rank {label:12} {count:5}  {count / n:6.1%}')
    if not failures:
        return
    all_cameras, failed = (
        collections.Counter(cameras) for cameras in (query.camera_id.tolist(), [f.camera for f in failures])
    )
    say(
        '  failed, by the camera of the query: '
        + ', '.join(f'{c}: {failed[c]} of {all_cameras[c]}' for c in sorted(all_cameras))
    )
    same = sum(f.camera == f.nearest_camera for f in failures)
    say(f'  the wrong nearest tracklet is from the camera of the query: {same} of {len(failures)}')
    margin = np.median([f.nearest_similarity - f.match_similarity for f in failures])
    say(f'  median similarity of the wrong nearest less that of the first match: {margin:.3f}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--query', required=True)
    parser.add_argument('--gallery', required=True)
    parser.add_argument('--output', help='CSV file of the failed queries')
    given = parser.parse_args()
    if given.output:
        check_output_file(given.output, {'--query': given.query, '--gallery': given.gallery})
    query = read_embeddings(given.query).checked('queries')
    ranks, failures = first_matches(query, read_embeddings(given.gallery).checked('gallery'))
    report(ranks, failures, query)
    if given.output:
        with atomic_write(given.output) as partial, open(partial, 'w', newline='', encoding='utf-8') as file:
            table = csv.writer(file)
            table.writerow(Failure._fields)
            table.writerows(failures)


if __name__ == '__main__':
    with one_sentence():
        main()
