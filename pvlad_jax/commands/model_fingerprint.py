"""The fingerprint that --model means: of a working directory or export, or the fingerprint itself."""

import re

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import is_remote, user_path

_FINGERPRINT = re.compile('[0-9a-f]{64}')  # SHA-256


def fingerprint_of(model: str) -> str:
    """'' for ''. UserError for what is neither a folder nor a fingerprint, and for a path that holds no model."""
    if not model:
        return ''
    if not is_remote(model) and not user_path(model).exists():
        if _FINGERPRINT.fullmatch(model):
            return model
        if '/' not in model:
            raise UserError(
                f'There is no folder {model}, and it is no fingerprint (64 hexadecimal digits in small letters). Give '
                'the working directory or the export of the model, or what `gallery info` and '
                "pvlad_jax.load('WORKDIR').fingerprint say."
            )
    from pvlad_jax.api import load  # imports JAX and reads the weights

    return load(model).fingerprint
