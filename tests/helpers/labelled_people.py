"""People with embeddings, and the rates of a threshold among them by plain counting."""

import numpy as np

from pvlad_jax.evaluation import Embeddings
from pvlad_jax.evaluation.distances import pairwise_distance

SIZE = 6


def people(n: int, seed: int, cameras: int = 3, first: int = 1, spread: float = 0.7) -> Embeddings:
    """n people, one tracklet a camera."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((n, SIZE))
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    vectors = np.repeat(centre, cameras, axis=0) + spread / np.sqrt(SIZE) * rng.standard_normal((n * cameras, SIZE))
    person = np.repeat(np.arange(first, first + n), cameras)
    camera = np.tile(np.arange(cameras), n)
    names = np.array([f'{seed}/{p}/{c}' for p, c in zip(person, camera)])
    return Embeddings(embedding=vectors.astype(np.float32), person_id=person, camera_id=camera, tracklet=names)


def split(table: Embeddings) -> tuple[Embeddings, Embeddings]:
    first = table.camera_id == 0
    return table.select(first), table.select(~first)


def distances(query: Embeddings, gallery: Embeddings) -> np.ndarray:
    """As they are calibrated: in float64 a pair at the threshold itself might fall on its other side."""
    return pairwise_distance(query, gallery).distances(np.arange(len(query)))


def rates(query: Embeddings, gallery: Embeddings, threshold: float) -> tuple[float, float]:
    """(false accepts, misses) by counting."""
    distance, same = distances(query, gallery), query.person_id[:, None] == gallery.person_id
    other_camera = query.camera_id[:, None] != gallery.camera_id
    return float((distance[~same] <= threshold).mean()), float((distance[same & other_camera] > threshold).mean())
