"""The fingerprint that --model means: of a working directory or export, or the fingerprint itself."""

from pathlib import Path

from pvlad_jax.core.paths import is_remote


def fingerprint_of(model: str) -> str:
    """'' for ''. UserError where a path is given that holds no model."""
    if not model or not (is_remote(model) or '/' in model or Path(model).expanduser().exists()):
        return model
    from pvlad_jax.api import load  # imports JAX and reads the weights

    return load(model).fingerprint
