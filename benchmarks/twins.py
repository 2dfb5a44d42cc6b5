"""How well gait tells twins apart: measures of a run on the walkers that come in pairs (configs/synthetic.py:twins)."""

from pathlib import Path

import numpy as np

from pvlad_jax.evaluation import read_embeddings


def twins(workdir: Path) -> dict[str, float]:
    """Shares of the queries whose nearest is the person's twin (people 2i-1 and 2i), and for which in the other cameras
    the person is nearer than the twin, however near other people are: 1/2 where nothing tells twins apart."""

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    query, gallery = (read_embeddings(workdir / 'embeddings' / f'{side}.npz') for side in ('query', 'gallery'))
    both = np.concatenate([gallery.embedding, query.embedding])
    person, camera = (np.concatenate([getattr(gallery, k), getattr(query, k)]) for k in ('person_id', 'camera_id'))
    similarity = unit(query.embedding) @ unit(both).T
    own, same_camera = person == query.person_id[:, None], camera == query.camera_id[:, None]
    twin = ((person + 1) // 2 == (query.person_id[:, None] + 1) // 2) & ~own
    nearest = np.where(own & same_camera, -np.inf, similarity).argmax(1)
    best = [np.where(kind & ~same_camera, similarity, -np.inf).max(1) for kind in (own, twin)]
    return {
        'nearest_is_twin': float(np.take_along_axis(twin, nearest[:, None], 1).mean()),
        'before_twin': float((best[0] > best[1]).mean()),
    }
