"""Video-based person re-identification in JAX.

    import pvlad_jax

    model = pvlad_jax.load('runs/mars')     # a working directory; no data set or configuration file is needed
    model.embed(frames)                     # uint8 RGB [T, H, W, 3] of any size and length -> unit vector

Importing this package imports nothing else: the names below are looked up when they are first used.
"""

import importlib
from typing import Any

__version__ = '0.1.0'
_NAMES = {
    'Embedder': 'pvlad_jax.api',
    'Embeddings': 'pvlad_jax.evaluation',
    'UserError': 'pvlad_jax.core.errors',
    'embed_video': 'pvlad_jax.embedding',
    'load': 'pvlad_jax.api',
    'score': 'pvlad_jax.evaluation',
}
__all__ = ['Embedder', 'Embeddings', 'UserError', '__version__', 'embed_video', 'load', 'score']


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
