"""Rows of small galleries, and what a gallery should find, by a plain sort."""

from pathlib import Path

import numpy as np
import pytest

from pvlad_jax.gallery import segments
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.gallery import Gallery
from pvlad_jax.gallery.table_file import write_table

SIZE = 8


def rows(start: int, end: int, fingerprint: str = 'm1', seed: int = 0) -> EmbeddingTable:
    """Tracklets of three cameras and two sources, one second each."""
    numbers = range(start, end)
    vectors = np.stack([np.random.default_rng((seed, i)).standard_normal(SIZE) for i in numbers]).astype(np.float32)
    return EmbeddingTable.from_columns(
        {
            'tracklet': [f't{i}' for i in numbers],
            'camera': [('a', 'b', '')[i % 3] for i in numbers],
            'source': [f'video{i // 10}' for i in numbers],
            'start_seconds': [float(i) for i in numbers],
            'end_seconds': [i + 0.9 for i in numbers],
        },
        vectors,
        fingerprint,
    )


def write_rows(folder: Path, *args, **options) -> Path:
    """`rows` as a file."""
    path = folder / f'rows{"-".join(map(str, args))}.parquet'
    write_table(path, rows(*args, **options))
    return path


def make(folder: Path, backend: str = 'exact', **options) -> Gallery:
    if backend == 'faiss':
        pytest.importorskip('faiss')
    if backend == 'milvus' and 'uri' not in options:
        pytest.importorskip('milvus_lite')
        options = {'uri': str(folder.parent / 'milvus.db')}
    return Gallery.create(folder, options.pop('fingerprint', 'm1'), backend, **options)


def found(gallery: Gallery, queries: EmbeddingTable, k: int = 5, filters: Filters = Filters()) -> list[list[str]]:  # noqa: B008  a constant
    return [[hit['tracklet'] for hit in answer.hits] for answer in gallery.search(queries, k, filters)]


def sorted_by_cosine(
    stored: EmbeddingTable, queries: EmbeddingTable, k: int, keep=lambda query, row: True
) -> list[list[str]]:
    """A plain sort, in float64."""
    q, g = (segments.unit(t.embedding).astype(np.float64) for t in (queries, stored))
    of_queries, of_rows = queries.metadata.to_pylist(), stored.metadata.to_pylist()
    result = []
    for query, similarity in zip(of_queries, q @ g.T):
        order = [i for i in np.argsort(-similarity, kind='stable') if keep(query, of_rows[i])]
        result.append([of_rows[i]['tracklet'] for i in order if of_rows[i]['tracklet'] != query['tracklet']][:k])
    return result


def holds(folder: Path, needle: bytes) -> list[str]:
    return [str(p) for p in folder.rglob('*') if p.is_file() and needle in p.read_bytes()]
