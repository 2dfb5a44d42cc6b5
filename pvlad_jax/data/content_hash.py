"""The hash of a data set's record files.

It is computed once, when the data set is built, and stored in its folder (content.json). For a data set built before
there was such a file it is computed when it is first needed (about 1 GB/s for each core).
"""

import concurrent.futures
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import json_object
from pvlad_jax.core.sha256 import sha256_of
from pvlad_jax.data.dataset_format import record_files

# {"sha256": of all record files, "bytes": {split: sizes of its files}, "samples": hash of a few blocks of each}
CONTENT = 'content.json'
_SAMPLES, _BLOCK = 16, 4096  # blocks of a file, spread evenly from its beginning to its end; bytes
_NUMBERED = re.compile(r'-\d+-of-(\d+)$')  # how the name of a record file ends


def content_hash(folder: Path, splits: Iterable[str]) -> str:
    """As content.json has it, where that fits the files: their sizes, which are multiples of 64 KiB and may be equal by
    chance, and samples of them. Computed otherwise. UserError where a file is missing.
    """
    files = _present(folder, splits)
    saved = _saved(folder)
    # A data set that was built before there were samples has none.
    if saved and saved.get('bytes') == _sizes(files) and saved.get('samples') in (None, _samples_of(files)):
        return saved['sha256']
    return _hash_of(files)


def write_content_hash(folder: Path, splits: Iterable[str]) -> None:
    """Writes content.json; for the build, whose last file it is."""
    files = record_files(folder, splits)
    content = {'sha256': _hash_of(files), 'bytes': _sizes(files), 'samples': _samples_of(files)}
    (Path(folder) / CONTENT).write_text(json.dumps(content) + '\n')


def fits_content(folder: Path, splits: Iterable[str]) -> bool:
    """Whether the record files, read whole, are those that the build wrote, as far as content.json says."""
    saved = _saved(folder)
    return not saved or saved['sha256'] == _hash_of(_present(folder, splits))


def _saved(folder: Path) -> dict | None:
    """What content.json holds; None where there is none, as in a data set that was built before, or a damaged one."""
    try:
        saved = json_object((Path(folder) / CONTENT).read_bytes())
    except (OSError, ValueError):
        return None
    return saved if isinstance(saved.get('sha256'), str) else None


def _present(folder: Path, splits: Iterable[str]) -> dict[str, list[Path]]:
    """`record_files`, all of them."""
    files = record_files(folder, splits)
    for split, paths in files.items():
        number = _NUMBERED.search(paths[0].name) if paths else None
        expected = int(number[1]) if number else 1
        if len(paths) < expected:
            raise UserError(
                f'{folder} holds {len(paths)} of the {expected} record files of the split {split} '
                f'(*-{split}.array_record-*). Copy the data set again, or build it again.'
            )
    return files


def _samples_of(files: Mapping[str, Sequence[Path]]) -> str:
    """SHA-256 over a few blocks of each file, where all of it would take seconds a gigabyte."""
    digest = hashlib.sha256()
    for split, paths in files.items():
        for path in paths:
            size = path.stat().st_size
            digest.update(f'{split} {size}\n'.encode())
            with path.open('rb') as file:
                for number in range(_SAMPLES):
                    file.seek(max(size - _BLOCK, 0) * number // (_SAMPLES - 1))
                    digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _sizes(files: Mapping[str, Sequence[Path]]) -> dict[str, list[int]]:
    return {split: [path.stat().st_size for path in paths] for split, paths in files.items()}


def _hash_of(files: Mapping[str, Sequence[Path]]) -> str:
    """SHA-256 over the files' own; not over their names, so that a data set may be renamed."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        hashes = {split: list(pool.map(sha256_of, paths)) for split, paths in files.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
