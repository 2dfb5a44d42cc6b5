"""The hash of a data set's record files.

It is computed once, when the data set is built, and stored in its folder (content.json). For a data set built before
there was such a file it is computed when it is first needed (about 1 GB/s for each core).
"""

import concurrent.futures
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pvlad_jax.core.saved_files import json_object
from pvlad_jax.core.sha256 import sha256_of
from pvlad_jax.data.dataset_format import record_files

CONTENT = 'content.json'  # {"sha256": of all record files, "bytes": {split: sizes of its files}}


def content_hash(folder: Path, splits: Iterable[str]) -> str:
    """As content.json has it, where that fits the files' sizes; computed otherwise."""
    files = record_files(folder, splits)
    try:
        saved = json_object((Path(folder) / CONTENT).read_bytes())
        if saved.get('bytes') == _sizes(files) and isinstance(saved.get('sha256'), str):
            return saved['sha256']
    except (OSError, ValueError):
        pass  # built before there was such a file
    return _hash_of(files)


def write_content_hash(folder: Path, splits: Iterable[str]) -> None:
    """Writes content.json; for the build, whose last file it is."""
    files = record_files(folder, splits)
    (Path(folder) / CONTENT).write_text(json.dumps({'sha256': _hash_of(files), 'bytes': _sizes(files)}) + '\n')


def _sizes(files: Mapping[str, Sequence[Path]]) -> dict[str, list[int]]:
    return {split: [path.stat().st_size for path in paths] for split, paths in files.items()}


def _hash_of(files: Mapping[str, Sequence[Path]]) -> str:
    """SHA-256 over the files' own; not over their names, so that a data set may be renamed."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        hashes = {split: list(pool.map(sha256_of, paths)) for split, paths in files.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
