"""A change of a gallery: atomic, and by one process at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import disk_full_reason
from pvlad_jax.core.folder_lock import Locked, lock_folder
from pvlad_jax.gallery import crops as pictures
from pvlad_jax.gallery import manifest
from pvlad_jax.gallery.local_store import LocalStore
from pvlad_jax.gallery.manifest import State
from pvlad_jax.gallery.milvus_store import MilvusStore
from pvlad_jax.gallery.removal import NotRemoved, remove_all


@contextlib.contextmanager
def change(folder: Path, store: LocalStore | MilvusStore) -> Iterator[tuple[State, pictures.Unfinished]]:
    """Around a change: locks the gallery, and clears what an earlier change has left, or this one if it fails.

    Yields the state, and the change that was killed after it was committed and is finished now (an empty one if none).
    UserError where what that change deleted or replaced cannot be removed: it stays noted as unfinished.
    """
    with locked(folder):
        state = manifest.read_state(folder)
        finished = _recover(folder, store, state)
        try:
            yield state, finished
        except BaseException as error:
            now = manifest.read_state(folder)
            if now.version == state.version:  # else it was committed, and what is left goes with the next change
                with contextlib.suppress(OSError, NotRemoved):
                    _recover(folder, store, now)
            if isinstance(error, OSError) and disk_full_reason(error):
                left = (
                    'as it was. Make room and give the same command again'
                    if now.version == state.version
                    else 'as the command asked for, but for leftovers, which go with the next change. Make room'
                )
                raise UserError(
                    f'The gallery {folder} cannot be written ({error.strerror or error}); it is {left}.'
                ) from error
            raise


def _recover(folder: Path, store: LocalStore | MilvusStore, state: State) -> pictures.Unfinished:
    left = pictures.unfinished(folder)
    try:
        store.recover(state)
    except NotRemoved:
        if left:
            raise
        # Else these are files of rows that are stored elsewhere too, and they go with a later change.
    remove_all([path for path in folder.iterdir() if manifest.is_partial(path)])
    committed = left is not None and left.version < state.version
    if left and committed:
        pictures.settle_crops(folder, left.tracklets, left.staged)
    if left:
        there = store.present(state, left.tracklets)
        pictures.remove_crops(folder, [name for name in left.tracklets if name not in there])
    pictures.clear_staged(folder)
    pictures.note_finished(folder)
    return left if left and committed else pictures.Unfinished()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the gallery's lock. UserError where another process does."""
    try:
        lock = lock_folder(folder)
    except Locked as error:
        raise UserError(
            f'Another process ({error.holder}) is changing the gallery {folder}. Wait for it, and give the '
            'same command again.'
        ) from None
    with lock:
        yield
