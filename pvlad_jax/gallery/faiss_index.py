"""FAISS as an extra: exhaustive search (flat), and IVF-PQ, whose candidates are scored again with the stored vectors.

IVF-PQ reads a few of many lists of codes instead of all vectors, and may miss neighbours; what it does return has the
exact distance. The index is kept in a file of the gallery, by the rows' ids.
"""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.sha256 import sha256_of
from pvlad_jax.gallery.cosine_search import gather, rescored
from pvlad_jax.gallery.filters import Filters
from pvlad_jax.gallery.segments import Contents, ids_to_rows

KINDS = ('flat', 'ivfpq')
MIN_ROWS = 10_000  # below, reading all vectors takes milliseconds and an index is not trained
_ROWS_PER_LIST = 50  # that k-means sees; it wants 39 at least
_BYTES_PER_DIMENSION = 8  # numbers of an embedding that one byte of a code stands for
_RETRAIN = 4  # times as many rows as were trained on


def faiss_module() -> ModuleType:
    """UserError where FAISS is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            'The backend faiss needs FAISS, which is not installed: pip install -r requirements-search.txt'
        ) from error
    return faiss


def path_of(gallery: Path, file: str) -> Path:
    """file: of a state's entry `index`."""
    return gallery / 'index' / file


def updated(
    gallery: Path,
    index: dict[str, Any],
    contents: Contents,
    new_ids: Int[np.ndarray, 'n'],
    removed: tuple[Int[np.ndarray, 'd'], Float[np.ndarray, 'd E']],
    file: str,
    size: int,
) -> dict[str, Any]:
    """Writes the IVF-PQ index of a gallery after a change to a new file.

    Args:
      index: of the state before, {} where there was none.
      contents: after the change.
      new_ids: of rows that were added.
      removed: ids and vectors of rows that were deleted.
      file: the new file's name, in GALLERY/index.

    Returns:
      The entry `index` of the new state; {} for galleries that are searched without one.
    """
    faiss = faiss_module()
    n_rows = len(contents.metadata)
    if n_rows < MIN_ROWS:
        return {}
    path = path_of(gallery, file)
    path.parent.mkdir(exist_ok=True)
    trained_on = index.get('trained_on', 0)
    built = None if not index or n_rows > _RETRAIN * trained_on else read(gallery, index)
    if built is not None and len(removed[0]):
        if _is_a_centroid(built, removed[1]):  # a list of one vector has that very vector as its centre
            built = None
        else:
            built.remove_ids(np.ascontiguousarray(removed[0]))
    if built is None:
        built, trained_on = _train(faiss, contents, size), n_rows
        new_ids = contents.metadata['id'].to_numpy()
    for start in range(0, len(new_ids), 65_536):
        ids = np.ascontiguousarray(new_ids[start : start + 65_536])
        built.add_with_ids(gather(contents.vectors, ids_to_rows(contents.metadata, ids)), ids)
    faiss.write_index(built, str(path))
    about = {'file': file, 'kind': 'ivfpq', 'lists': built.nlist, 'trained_on': int(trained_on)}
    return about | {'sha256': sha256_of(path)}


def read(gallery: Path, index: dict[str, Any]) -> Any:
    """UserError for a damaged file; FileNotFoundError where a change has replaced it meanwhile."""
    path = path_of(gallery, index['file'])
    if not path.exists():
        raise FileNotFoundError(2, 'No such file or directory', str(path))
    try:
        return faiss_module().read_index(str(path))
    except RuntimeError as error:
        raise UserError(
            f'{path} is damaged ({first_line(error)}). Restore it from a copy, or make the gallery again.'
        ) from error


def _train(faiss: ModuleType, contents: Contents, size: int) -> Any:
    n_rows = len(contents.metadata)
    lists = max(min(round(2 * math.sqrt(n_rows)), n_rows // _ROWS_PER_LIST), 1)
    sub = next(m for m in range(max(size // _BYTES_PER_DIMENSION, 1), 0, -1) if size % m == 0)
    # np: without the polysemous training of codes, minutes that only searches by Hamming distance need.
    index = faiss.index_factory(size, f'IVF{lists},PQ{sub}np', faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    # Codes only choose candidates, which are scored exactly: with FAISS's own 25 and 256 training takes more than twice
    # as long, and finds the same neighbours.
    index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 10, 64
    chosen = np.random.default_rng(0).permutation(n_rows)[: max(_ROWS_PER_LIST * lists, 39 * 256)]
    index.train(gather(contents.vectors, np.sort(chosen)))
    return index


def _is_a_centroid(index: Any, vectors: Float[np.ndarray, 'd E']) -> bool:
    similarity, _ = index.quantizer.search(np.ascontiguousarray(vectors), 1)
    return bool((similarity > 1 - 1e-5).any())


def search(
    index: Any,
    contents: Contents,
    queries: Float[np.ndarray, 'Q E'],
    of_queries: pa.Table,
    k: int,
    filters: Filters,
    probes: int,
    candidates: int,
) -> tuple[Int[np.ndarray, 'Q k'], Float[np.ndarray, 'Q k']]:
    """(rows, distances) as `cosine_search.search`.

    Args:
      index: of `read`, or None for an exhaustive search.
      probes: lists that are read for a query.
      candidates: of a query that are scored again, at least k.
    """
    faiss = faiss_module()
    shared = filters.rows(contents.metadata)
    ids = contents.metadata['id'].to_numpy()
    n_candidates = (k if index is None else max(candidates, k)) + 1  # one may be the query itself
    n_candidates = max(min(n_candidates, len(ids)), 1)  # FAISS allocates by it
    own = filters.allowed(of_queries, contents.metadata)
    pairs = []
    for forbidden, numbers in filters.groups(of_queries):
        mask = np.ones(len(ids), bool) if shared is None else shared.copy()
        for column, value in forbidden.items():
            mask &= pa.compute.not_equal(contents.metadata[column], value).to_numpy()
        if not mask.any():
            continue
        x = np.ascontiguousarray(queries[numbers])
        if index is None:
            found = _flat(faiss, x, contents, mask, n_candidates)
        else:
            selector = {}
            if not mask.all():
                bits = np.packbits(np.bincount(ids[mask]).astype(bool), bitorder='little')
                selector['sel'] = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))  # counted in bytes
            parameters = faiss.SearchParametersIVF(nprobe=min(probes, index.nlist), **selector)
            _, found_ids = index.search(x, n_candidates, params=parameters)
            found = np.where(found_ids < 0, -1, ids_to_rows(contents.metadata, found_ids))
        query = np.repeat(numbers, found.shape[1])
        row = found.ravel()
        pairs.append((query[row >= 0], row[row >= 0]))
    query, row = (np.concatenate([pair[i] for pair in pairs] or [np.empty(0, np.int64)]) for i in (0, 1))
    if own is not None and len(query):
        keep = own(query, row)
        query, row = query[keep], row[keep]
    return rescored(queries, contents.vectors, query, row, k)


def _flat(
    faiss: ModuleType, x: Float[np.ndarray, 'g E'], contents: Contents, mask: Bool[np.ndarray, 'N'], k: int
) -> Int[np.ndarray, 'g c']:
    """The k nearest rows of each segment, by FAISS's exhaustive search over the mapped vectors."""
    found = []
    for start, vectors in zip(contents.starts, contents.vectors):
        chosen = np.flatnonzero(mask[start : start + len(vectors)])
        if not len(chosen):
            continue
        whole = len(chosen) == len(vectors)
        _, rows = faiss.knn(
            x, vectors if whole else vectors[chosen], min(k, len(chosen)), metric=faiss.METRIC_INNER_PRODUCT
        )
        found.append(start + (rows if whole else chosen[rows]))
    return np.concatenate(found, axis=1)
