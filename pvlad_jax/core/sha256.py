"""The digest of a file."""

import hashlib
from typing import Any


def sha256_of(path: Any) -> str:
    """SHA-256 of the bytes of a file (a pathlib.Path or epath.Path), in hexadecimal. The file is read in pieces."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
