"""Labelled random embeddings for benchmarks/evaluate.py, as many as MARS has and more."""

import numpy as np

from pvlad_jax.evaluation import Embeddings


def mars_sized(size: int, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """(queries, gallery that holds them) with MARS's counts."""
    rng = np.random.default_rng(seed)
    person = np.concatenate(
        [np.full(870, -1), np.zeros(3248, int), np.arange(1, 635), rng.integers(1, 635, 12180 - 870 - 3248 - 634)]
    )
    gallery = _random(rng, person, rng.integers(1, 7, len(person)), size, 'tracklet')
    return gallery.select(rng.choice(np.flatnonzero(person > 0), 1980, replace=False)), gallery


def large(n_gallery: int, n_query: int, size: int, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """(queries, gallery without them): ten tracklets a person, six cameras."""
    rng = np.random.default_rng(seed)
    person = rng.integers(1, n_gallery // 10 + 1, n_gallery)
    gallery = _random(rng, person, rng.integers(1, 7, n_gallery), size, 'gallery')
    return _random(
        rng, person[rng.choice(n_gallery, n_query, replace=False)], rng.integers(1, 7, n_query), size, 'query'
    ), gallery


def _random(rng, person, camera, size, name) -> Embeddings:
    embedding = rng.standard_normal((len(person), size), np.float32)
    # A share of a vector that the person's number gives, so that ranks are neither all first nor all chance.
    for start in range(0, len(person), 65_536):
        rows = slice(start, start + 65_536)
        embedding[rows, :8] += 4 * np.sin(np.outer(person[rows], np.sqrt(np.arange(2, 10)))).astype(np.float32)
    names = np.array([f'{name}{i:07d}' for i in range(len(person))])
    return Embeddings(embedding=embedding, person_id=person, camera_id=camera, tracklet=names)
