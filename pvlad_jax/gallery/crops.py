"""Pictures of the tracklets in a gallery, a few of each, to show with a result; they are deleted with the tracklet.

Crops are JPEG or PNG files in a folder for each tracklet, which is named by `core.file_names.file_name` of the
tracklet's name, or by that name itself where it is a plain relative path.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import file_name
from pvlad_jax.core.files import atomic_write
from pvlad_jax.gallery.manifest import sync

PER_TRACKLET = 8  # evenly spread over the tracklet
_SUFFIXES = ('.jpg', '.jpeg', '.png')
_UNFINISHED = 'unfinished.json'


def crops_of(folder: Path, tracklet: str) -> list[Path]:
    """The pictures of a tracklet below a folder, in the order of their names; none where there are none."""
    for name in (file_name(tracklet), tracklet):
        path = PurePosixPath(name)
        if path.is_absolute() or '..' in path.parts or '\x00' in name or not path.parts:
            continue
        place = folder / path
        if place.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            return sorted(p for p in place.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())
    return []


def copy_crops(source: Path, gallery: Path, tracklets: Iterable[str]) -> set[str]:
    """Copies pictures of these tracklets into the gallery. Returns those of which there were any."""
    if not source.is_dir():
        raise UserError(f'There is no folder {source} of crops.')
    copied = set()
    for tracklet in tracklets:
        found = crops_of(source, tracklet)
        if not found:
            continue
        copied.add(tracklet)
        target = _folder(gallery, tracklet)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for number in np.unique(np.linspace(0, len(found) - 1, PER_TRACKLET).round().astype(int)):
            shutil.copyfile(found[number], target / f'{number:06d}{found[number].suffix.lower()}')
    return copied


def remove_crops(gallery: Path, tracklets: Iterable[str]) -> None:
    for tracklet in tracklets:
        shutil.rmtree(_folder(gallery, tracklet), ignore_errors=True)


def stored_crops(gallery: Path, tracklet: str) -> list[Path]:
    """The pictures of a tracklet in a gallery."""
    return crops_of(gallery / 'crops', tracklet)


def _folder(gallery: Path, tracklet: str) -> Path:
    return gallery / 'crops' / file_name(tracklet)


def note_unfinished(gallery: Path, tracklets: Sequence[str]) -> None:
    """Before a change: whose crops are to be looked after, should it be killed."""
    with atomic_write(gallery / _UNFINISHED) as partial:
        partial.write_text(json.dumps(list(tracklets)))
        sync(partial)


def unfinished(gallery: Path) -> list[str]:
    """Whose crops a change that was killed may have left."""
    try:
        return [str(name) for name in json.loads((gallery / _UNFINISHED).read_text())]
    except (FileNotFoundError, ValueError, TypeError):  # no change was killed, or what it noted is damaged
        return []


def note_finished(gallery: Path) -> None:
    (gallery / _UNFINISHED).unlink(missing_ok=True)
