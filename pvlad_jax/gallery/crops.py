"""Pictures of the tracklets in a gallery, a few of each, to show with a result; they are deleted with the tracklet.

Crops are files of the formats that `embed` reads, in a folder for each tracklet, which is named by
`core.file_names.file_name` of the tracklet's name, or by that name itself where it is a plain relative path.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.file_names import file_name
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.natural_order import natural_key
from pvlad_jax.gallery.manifest import read_state, sync
from pvlad_jax.gallery.removal import remove, remove_all
from pvlad_jax.images import FRAME_EXTENSIONS

PER_TRACKLET = 8  # evenly spread over the tracklet
_UNFINISHED = 'unfinished.json'
_STAGED = '.crops'


def crops_of(folder: Path, tracklet: str) -> list[Path]:
    """The pictures of a tracklet below a folder, in natural order of their names; none where there are none."""
    return _pictures(folder, file_name(tracklet), tracklet)


def _pictures(folder: Path, *names: str) -> list[Path]:
    """Those in the first folder of these names that is there and does not lead out of `folder`."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or '..' in path.parts or '\x00' in name or not path.parts:
            continue
        place = folder / path
        if place.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            found = (p for p in place.iterdir() if p.suffix.lower() in FRAME_EXTENSIONS and p.is_file())
            return sorted(found, key=lambda p: natural_key(p.name))
    return []


def check_crops(source: Path) -> None:
    """UserError where there is no such folder."""
    if not source.is_dir():
        raise UserError(f'There is no folder {source} of crops.')


def stage_crops(source: Path, gallery: Path, tracklets: Iterable[str]) -> tuple[str, ...]:
    """Copies pictures of these tracklets into the gallery, where they are not yet in their places: see `settle_crops`.
    Returns those of which there were any.
    """
    staged = []
    for tracklet in tracklets:
        found = crops_of(source, tracklet)
        if not found:
            continue
        copy = gallery / _STAGED / file_name(tracklet)
        copy.mkdir(parents=True)
        for number in np.unique(np.linspace(0, len(found) - 1, PER_TRACKLET).round().astype(int)):
            shutil.copyfile(found[number], copy / f'{number:06d}{found[number].suffix.lower()}')
        staged.append(tracklet)
    return tuple(staged)


def settle_crops(gallery: Path, tracklets: Iterable[str], staged: Collection[str]) -> None:
    """After the change was committed: the pictures of these tracklets are those that were staged, and of the others
    there are none. Where it was cut short it can be done again. Raises NotRemoved.
    """
    staged = set(staged)
    for tracklet in tracklets:
        target, copy = _folder(gallery, tracklet), gallery / _STAGED / file_name(tracklet)
        if copy.is_dir():
            remove(target)
            target.parent.mkdir(exist_ok=True)
            copy.rename(target)
        elif tracklet not in staged:
            remove(target)
    clear_staged(gallery)


def clear_staged(gallery: Path) -> None:
    """Raises NotRemoved."""
    remove(gallery / _STAGED)


def remove_crops(gallery: Path, tracklets: Iterable[str]) -> None:
    """Raises NotRemoved."""
    remove_all([_folder(gallery, tracklet) for tracklet in tracklets])


def stored_crops(gallery: Path, tracklet: str) -> list[Path]:
    """The pictures of a tracklet in a gallery, where 'a%2Fb' is the folder of the tracklet 'a/b' and of no other."""
    return crops_by_name(gallery)(tracklet)


def crops_by_name(gallery: Path) -> Callable[[str], list[Path]]:
    """`stored_crops` of a gallery, for many tracklets.

    Of a change that was committed, and killed before all pictures were in their places, they are those of that change.
    """
    change = unfinished(gallery)
    committed = change is not None and change.version < read_state(gallery).version
    changed, staged = (frozenset(change.tracklets), frozenset(change.staged)) if committed else ((), ())

    def pictures(tracklet: str) -> list[Path]:
        name = file_name(tracklet)
        if tracklet in changed:
            if tracklet not in staged:
                return []
            if found := _pictures(gallery / _STAGED, name):  # else they are in their place already
                return found
        return _pictures(gallery / 'crops', name)

    return pictures


def _folder(gallery: Path, tracklet: str) -> Path:
    return gallery / 'crops' / file_name(tracklet)


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A change whose crops are to be looked after, should it be killed.

    version: of the gallery before it; where that of the gallery is higher, it was committed. staged: of which of the
    tracklets there are pictures. deletion: whether it removes the tracklets. sources: whose deletion was asked for.
    """

    version: int = 0
    tracklets: tuple[str, ...] = ()
    staged: tuple[str, ...] = ()
    deletion: bool = False
    sources: tuple[str, ...] = ()

    def asked_again(self, tracklets: Iterable[str], sources: Iterable[str]) -> bool:
        """Whether a deletion of these is this one, given once more."""
        return self.deletion and not (
            set(self.tracklets).isdisjoint(tracklets) and set(self.sources).isdisjoint(sources)
        )


def note_unfinished(gallery: Path, change: Unfinished) -> None:
    with atomic_write(gallery / _UNFINISHED) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(change)))
        sync(partial)


def unfinished(gallery: Path) -> Unfinished | None:
    """The change that was killed, if one was."""
    try:
        noted = json.loads((gallery / _UNFINISHED).read_text())
        if isinstance(noted, list):  # of a former version of this program: names alone
            return Unfinished(sys.maxsize, tuple(map(str, noted)))
        names = (tuple(map(str, noted.get(key, ()))) for key in ('tracklets', 'staged', 'sources'))
        tracklets, staged, sources = names  # a former version noted no sources
        return Unfinished(int(noted['version']), tracklets, staged, noted.get('deletion') is True, sources)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):  # what it noted is damaged
        return None


def note_finished(gallery: Path) -> None:
    (gallery / _UNFINISHED).unlink(missing_ok=True)
