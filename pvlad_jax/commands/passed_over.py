"""Pictures that are no frames by the names of their folders or files, and how the user is told of them."""

import os

from pvlad_jax.core.system_names import is_system_name
from pvlad_jax.images import FRAME_EXTENSIONS

_SHOWN = 5  # names of one kind


class PassedOver:
    """What a walk through folders of frames leaves out for its name.

    Such a name may as well be one that the user has given (`person~`, `#recycle`), so nothing that holds pictures is
    left out without a word.
    """

    def __init__(self, root: str | os.PathLike):
        self._root = root
        self._folders: list[str] = []
        self._files: list[str] = []

    def without_system_folders(self, folder: str, names: list[str]) -> list[str]:
        """Those of the folders in `folder` that are walked through."""
        skipped = [name for name in names if is_system_name(name)]
        self._folders += [path for name in sorted(skipped) if _holds_images(path := os.path.join(folder, name))]
        return [name for name in names if name not in skipped]

    def without_system_files(self, folder: str, names: list[str]) -> list[str]:
        """Those of the files in `folder` that may be frames."""
        skipped = [name for name in names if is_system_name(name)]
        self._files += [os.path.join(folder, name) for name in sorted(skipped) if _is_image(name)]
        return [name for name in names if name not in skipped]

    def note(self) -> str:
        """A sentence or two; '' where no pictures were left out."""
        kinds = {'folders that hold images': self._folders, 'images': self._files}
        counted = [f'{len(paths):,} {what} ({self._named(paths)})' for what, paths in kinds.items() if paths]
        if not counted:
            return ''
        return (
            'Passed over, as their names are those of hidden files, backups or an operating system: '
            f'{" and ".join(counted)}. Rename what is yours.'
        )

    def _named(self, paths: list[str]) -> str:
        shown = [os.path.relpath(path, self._root) for path in paths[:_SHOWN]]
        return ', '.join(shown) + (f' and {len(paths) - _SHOWN:,} more' if len(paths) > _SHOWN else '')


def _holds_images(folder: str) -> bool:
    """At any depth. Links below are not followed: nothing keeps them from leading round."""
    return any(_is_image(name) for _, _, files in os.walk(folder) for name in files)


def _is_image(name: str) -> bool:
    return name.lower().endswith(FRAME_EXTENSIONS)
