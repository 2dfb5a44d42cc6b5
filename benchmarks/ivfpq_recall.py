"""Recall of FAISS's IVF-PQ with exact re-scoring on embeddings of one's own, where benchmarks/gallery.py has synthetic
ones: the share of the nearest that it finds, over lists that are read and candidates that are scored.

    python benchmarks/ivfpq_recall.py --gallery=gallery.parquet --query=query.parquet

The gallery is added to the backend `faiss` as a command does, and searched as a command does; at least 10,000 vectors,
since smaller galleries are read whole. Exact are the neighbours of the backend `exact`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gallery import recall
from benchmarks.rows import draw, own_path
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import say
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.faiss_index import MIN_ROWS
from pvlad_jax.gallery.gallery import Gallery
from pvlad_jax.gallery.table_file import TableReader, read_table

MODEL = 'one model'  # tables that do not name theirs (.npz) are of one, the caller says


def neighbours(gallery: Gallery, queries: EmbeddingTable, k: int, **how) -> tuple[list, float]:
    """([[name, distance] of each result] of each query, processor seconds of a query)"""
    start = time.process_time()
    answers = gallery.search(queries, k, fingerprint=MODEL if not queries.fingerprint else '', **how)
    took = time.process_time() - start
    return [[[hit['tracklet'], hit['distance']] for hit in answer.hits] for answer in answers], took / len(queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--gallery', type=own_path, required=True, help='table of embeddings, Parquet or npz')
    parser.add_argument('--query', type=own_path, required=True, help='likewise, of the same model')
    parser.add_argument('--probes', default='1,4,16,32,64,128,256')
    parser.add_argument('--candidates', default='100,200,1000,4000')
    given = parser.parse_args()
    queries = read_table(given.query)
    with tempfile.TemporaryDirectory() as folder:
        galleries = {}
        for name, options in (('exact', {}), ('faiss', {'backend': 'faiss', 'kind': 'ivfpq'})):
            galleries[name] = Gallery.create(Path(folder) / name, **options)
            reader, start = TableReader(given.gallery), time.process_time()
            galleries[name].add(reader, fingerprint='' if reader.fingerprint else MODEL)
            say(f'{name}: {len(galleries[name]):,} added in {time.process_time() - start:.1f} processor seconds')
        index = galleries['faiss'].state.index
        if not index:
            raise UserError(f'{given.gallery} holds fewer than {MIN_ROWS:,} vectors: no index is made of them.')
        true, seconds = neighbours(galleries['exact'], queries, 50)
        say(f'{index["lists"]} lists; {len(queries)} queries; exact search: {1000 * seconds:.2f} processor ms a query')
        lines = []
        for probes in map(int, given.probes.split(',')):
            row = []
            for candidates in map(int, given.candidates.split(',')):
                found, seconds = neighbours(galleries['faiss'], queries, 50, probes=probes, candidates=candidates)
                row.append(f'{recall(found, true, 10):.3f}, {recall(found, true, 50):.3f}; {1000 * seconds:.2f}')
            lines.append([str(min(probes, index['lists'])), *row])
        headings = ('lists read', *(f'{c} candidates' for c in given.candidates.split(',')))
        draw('recall at 10, at 50; processor ms a query', headings, lines)


if __name__ == '__main__':
    with one_sentence():
        main()
