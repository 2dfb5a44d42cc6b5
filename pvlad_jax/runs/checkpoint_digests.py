"""Digests of a checkpoint's files, by which it is noticed that a disk or a copy has altered one.

Orbax stores arrays without a checksum of them: flipped bits would be other weights. A step's folder holds digests.json,
{name of a file in the folder: SHA-256}, of all files of its items. It is written before the folder gets its final name,
so that a step that is kept has it; those of earlier versions of this program have none.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pvlad_jax.core.files import write_text
from pvlad_jax.core.saved_files import json_object
from pvlad_jax.core.sha256 import sha256_of

DIGESTS = 'digests.json'


def write_digests(folder: Any) -> None:
    """Of what lies in the folders within `folder` (pathlib.Path or epath.Path). Files beside those are left out: Orbax
    and evaluations still write there. OSError where the disk refuses."""
    items = sorted(path.name for path in folder.iterdir() if path.is_dir())
    digests = {name: sha256_of(folder / name) for item in items for name in _files(folder, item)}
    write_text(folder / DIGESTS, json.dumps(digests, indent=1) + '\n')


def first_altered(folder: Any, item: str) -> Any | None:
    """The first file of an item that does not hold, or no longer is, what was written; None where all do, or where
    nothing says what was written. OSError where a file cannot be read."""
    for name, digest in _read_digests(folder).items():
        if name.startswith(f'{item}/'):
            try:
                if sha256_of(folder / name) != digest:
                    return folder / name
            except FileNotFoundError:
                return folder / name
    return None


def _files(folder: Any, name: str) -> Iterator[str]:
    """Names within `folder` of all files in its folder `name`; epath has no rglob in object storage."""
    for path in sorted((folder / name).iterdir()):
        inner = f'{name}/{path.name}'
        if path.is_dir():
            yield from _files(folder, inner)
        else:
            yield inner


def _read_digests(folder: Any) -> Mapping[str, str]:
    try:
        return msgspec.convert(json_object((folder / DIGESTS).read_bytes()), dict[str, str])
    except (FileNotFoundError, ValueError):  # a power cut may leave an empty file beside arrays that are whole
        return {}
