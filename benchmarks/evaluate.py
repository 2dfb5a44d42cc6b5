"""Scoring against a straightforward NumPy evaluator, and exact search against FAISS (left out where it is not
installed).

    python benchmarks/evaluate.py --output=evaluate.json

Embeddings and labels are random, with the counts of MARS (1,980 queries, 12,180 gallery tracklets of which 870 junk and
3,248 distractors), and for the larger galleries ten tracklets a person. Both sides run in turn, and medians are
compared. Before a time counts, the results are compared: the command ends with 1 where they differ.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.interleaved import interleaved
from benchmarks.peak_memory import process_memory
from benchmarks.random_embeddings import large, mars_sized
from benchmarks.rows import at_least_one, child_output, new_file, repeated_row, row, show, write
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say
from pvlad_jax.evaluation import Embeddings, Result, score, score_matrix
from pvlad_jax.evaluation.distances import pairwise_distance
from pvlad_jax.gallery.exact_search import top_k

NEIGHBOURS = 50


def numpy_distances(query: Embeddings, gallery: Embeddings) -> np.ndarray:
    q, g = (t.embedding / np.linalg.norm(t.embedding, axis=1, keepdims=True) for t in (query, gallery))
    return 1 - q @ g.T


def numpy_evaluator(query: Embeddings, gallery: Embeddings, distances: np.ndarray | None = None) -> dict[str, float]:
    """As toolboxes write it: the distance matrix, an argsort of every row, and a walk over the queries."""
    distances = numpy_distances(query, gallery) if distances is None else distances
    first, average_precision = [], []
    for i, order in enumerate(np.argsort(distances, axis=1)):
        person, camera = gallery.person_id[order], gallery.camera_id[order]
        kept = (person != -1) & ~((person == query.person_id[i]) & (camera == query.camera_id[i]))
        hits = np.flatnonzero(person[kept] == query.person_id[i]) + 1
        if len(hits):
            first.append(hits[0])
            average_precision.append(np.mean(np.arange(1, len(hits) + 1) / hits))
    return {
        'n_query_valid': len(first),
        'mAP': float(np.mean(average_precision)),
        'rank_1': float(np.mean(np.array(first) <= 1)),
        'rank_20': float(np.mean(np.array(first) <= 20)),
    }


def same(name: str, ours: Result, peer: dict[str, float], tolerance: float) -> None:
    for field, value in peer.items():
        if abs(getattr(ours, field) - value) > tolerance:
            sys.exit(
                f'{name}: {field} is {getattr(ours, field)!r}, the NumPy evaluator says {value!r}; more than '
                f'{tolerance} apart.'
            )


def against_numpy(
    name: str, query: Embeddings, gallery: Embeddings, protocol: str, rounds: int, peer_queries: int
) -> dict:
    """Full scoring.

    The peer runs on `peer_queries` of the queries at most and is scaled up, since its time is linear in them.
    """
    few = query.select(slice(0, peer_queries))
    distances = numpy_distances(few, gallery)
    peer_result = numpy_evaluator(few, gallery, distances)
    # Not to the last digit: argsort leaves ties in any order, and the two products differ in their last bits.
    for ours in (score_matrix(distances, few, gallery, protocol), score(few, gallery, protocol)):
        same(name, ours, peer_result, 1e-6)
    del distances
    sides = {'ours': lambda: score(query, gallery, protocol), 'peer': lambda: numpy_evaluator(few, gallery)}
    times = interleaved(sides, rounds, fewer={'peer': 3})
    scale = len(query) / len(few)
    if scale > 1:
        name += f' (NumPy timed on {len(few)} queries, x {scale:g})'
    return repeated_row(name, times['ours'].wall, [scale * t for t in times['peer'].wall], 's', less_is_better=True)


def against_faiss(name: str, query: Embeddings, gallery: Embeddings, rounds: int) -> list[dict]:
    """Top-k, and scoring in full against FAISS's top-k, from which only CMC up to k follows.

    Both sides build their index in the time.
    """
    try:
        import faiss
    except ImportError:
        return []

    def search():
        index = faiss.IndexFlatIP(gallery.embedding.shape[1])
        q, g = query.embedding.copy(), gallery.embedding.copy()
        faiss.normalize_L2(q)
        faiss.normalize_L2(g)
        index.add(g)
        del g
        return index.search(q, NEIGHBOURS)

    def ours():
        return top_k(pairwise_distance(query, gallery), NEIGHBOURS)

    similarity, found = search()
    columns, scores = ours()
    if np.abs(similarity + scores).max() > 1e-5:
        sys.exit(f'{name}: similarities differ from those of FAISS by {np.abs(similarity + scores).max()}.')
    differing = (columns != found) & (np.abs(similarity + scores) > 1e-6)
    if differing.any():
        sys.exit(f'{name}: {differing.sum()} neighbours differ from those of FAISS by more than rounding.')
    compared = {
        f'{name}: top-{NEIGHBOURS} against FAISS Flat': ours,
        f'{name}: CMC and mAP in full against top-{NEIGHBOURS} of FAISS Flat': lambda: score(
            query, gallery, 'gallery_only'
        ),
    }
    rows = []
    for what, run in compared.items():
        times = interleaved({'ours': run, 'peer': search}, rounds)
        rows.append(repeated_row(what, times['ours'].wall, times['peer'].wall, 's', less_is_better=True))
    return rows


def peak_memory(which: str, size: int, n_gallery: int, n_query: int) -> None:
    """Prints the largest memory of this process (Linux), in MB, after scoring at MARS size, or that of a larger
    gallery.
    """
    query, gallery = large(n_gallery, n_query, size) if n_gallery else mars_sized(size)
    if which == 'ours':
        score(query, gallery, 'gallery_only' if n_gallery else 'mars_official')
    else:
        numpy_evaluator(query, gallery)
    print(process_memory('VmHWM'))


def peak_memory_of_process(which: str, options, n_gallery: int = 0) -> float:
    sizes = [f'--size={options.size}', f'--galleries={n_gallery or ""}', f'--queries={options.queries}']
    command = [sys.executable, __file__, f'--peak_memory={which}', *sizes]
    return float(child_output(command, f'The process that measures the memory of {which}'))


def growth(seconds: dict[int, float]) -> list[dict]:
    """Time a gallery tracklet of each size against that of the smallest of the large ones: a ratio of 1 = linear."""
    first = min(seconds, default=0)
    each = {n: 1e6 * spent / n for n, spent in seconds.items()}
    return [
        row(f'{n:,}: time a gallery tracklet, against {first:,}', each[n], each[first], 'µs', each[first] / each[n])
        for n in seconds
        if n != first
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('--size', type=int, default=512, help='of an embedding')
    parser.add_argument(
        '--galleries', default='100000,1000000', help='sizes of the larger galleries; empty = MARS only'
    )
    parser.add_argument('--queries', type=int, default=1000, help='for the larger galleries')
    parser.add_argument(
        '--peer_queries', type=int, default=100, help='queries for which NumPy sorts the larger galleries'
    )
    parser.add_argument('--rounds', type=at_least_one, default=5)
    parser.add_argument('--peak_memory', choices=('ours', 'peer'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_memory:
        peak_memory(options.peak_memory, options.size, int(options.galleries or 0), options.queries)
        return 0

    rows, seconds = [], {}
    query, gallery = mars_sized(options.size)
    name = 'MARS size: CMC and mAP against NumPy'
    rows.append(against_numpy(name, query, gallery, 'mars_official', options.rounds, len(query)))
    others = gallery.select(~np.isin(gallery.tracklet, query.tracklet))
    rows += against_faiss('MARS size', query, others, options.rounds)
    ours, peer = (peak_memory_of_process(which, options) for which in ('ours', 'peer'))
    rows.append(row('MARS size: peak memory of the process', ours, peer, 'MB', peer / ours))
    for n_gallery in map(int, filter(None, options.galleries.split(','))):
        query, gallery = large(n_gallery, options.queries, options.size)
        name = f'{n_gallery:,} x {options.queries:,}'
        what, counts = f'{name}: CMC and mAP against NumPy', (options.rounds, options.peer_queries)
        rows.append(against_numpy(what, query, gallery, 'gallery_only', *counts))
        seconds[n_gallery] = rows[-1]['ours']
        rows += against_faiss(name, query, gallery, options.rounds)
        given, matrix = (4 * n_gallery * x / 2**20 for x in (options.size, options.queries))
        del query, gallery
        ours, peer = peak_memory_of_process('ours', options, n_gallery), given + matrix
        what = f'peak memory of the process ({given:,.0f} MB are the embeddings); as peer these and the full matrix'
        rows.append(row(f'{name}: {what}', ours, peer, 'MB', peer / ours))
    rows += growth(seconds)

    if options.output:
        write(options.output, rows)
    show(rows, f'{options.size} numbers an embedding; ratio above 1 = ours is faster (or smaller)')
    if not any('FAISS' in r['name'] for r in rows):
        say('faiss is not installed: no comparison with it (pip install -r requirements-benchmarks.txt).')
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
