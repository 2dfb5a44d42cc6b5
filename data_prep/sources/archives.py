"""The files of a raw data set as sorted relative names and a way to read each: a folder, a zip, a tar, or a folder that
holds archives.

Archives are read in place; only a compressed tar is first decompressed into a temporary file, since it has no random
access. Nothing is ever extracted by name; still, a member whose name or link points outside its archive is refused,
since such an archive is not what its user believes it to be. Symbolic links are followed; one that leads to nothing is
an unreadable file, or an empty folder where its name has no suffix.
"""

import contextlib
import os
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from data_prep.raw_dataset import TrackletSource
from data_prep.sources.archive_links import follow_links, is_link
from data_prep.sources.archive_names import (
    posix_name,
    refuse_escapes,
    refuse_undecodable,
    written_with_backslashes,
    zip_names,
)
from data_prep.sources.compressed_tar import decompressed_tar, is_plain_tar, remove_file
from data_prep.sources.frame_suffixes import suffix
from data_prep.sources.system_files import is_system_file
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.folder_links import refuse_link_above
from pvlad_jax.core.paths import user_path

ARCHIVE_SUFFIXES = ('.zip', '.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')


class _Files:
    """Pickles without the listing, which is long, and which reading does not need."""

    names: list[str]
    empty_folders: list[str]
    system_files: list[str]

    def __getstate__(self):
        return self.__dict__ | {'names': [], 'empty_folders': [], 'system_files': []}


class Folder(_Files):
    """All files below a folder. Links are followed, as they are in data sets that are spread over disks."""

    def __init__(self, root: Path):
        self.root = str(root)
        self.names, self.empty_folders, self.system_files = [], [], []
        _walk(self.root, '', self)
        self.names.sort()
        self.system_files.sort()
        self.empty_folders.sort()
        refuse_undecodable(root, self.names)

    def read(self, name: str) -> bytes:
        with open(os.path.join(self.root, name), 'rb') as f:
            return f.read()


class _Archive(_Files):
    spans: dict[str, tuple]  # name -> where its bytes are

    def _list(self, folders: Iterable[str], links: Mapping[str, str]) -> None:
        broken = follow_links(self.spans, links)
        self.system_files = sorted(n for n in self.spans if is_system_file(n))
        self.names = sorted((self.spans.keys() | {n for n in broken if suffix(n)}) - set(self.system_files))
        filled = set()
        for name in self.names:
            folder = name.rpartition('/')[0]
            while folder and folder not in filled:
                filled.add(folder)
                folder = folder.rpartition('/')[0]
        bare = (*(folder.rstrip('/') for folder in folders), *(n for n in broken if not suffix(n)))
        self.empty_folders = sorted(f for f in bare if f not in filled and not is_system_file(f))

    def _span(self, name: str) -> tuple:
        if name not in self.spans:
            raise OSError('a link to what the archive does not hold')
        return self.spans[name]


class Zip(_Archive):
    """The files of a zip archive, found by their offsets: any thread may read, and the listing of a million files is
    kept once."""

    def __init__(self, path: Path):
        self.path = str(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, OSError, UnicodeDecodeError, NotImplementedError) as error:
            raise UserError(f'{path} cannot be read as a zip archive: {error}. Download it again.') from error
        refuse_escapes(path, ((m.filename, None) for m in members))
        if locked := [m.filename for m in members if m.flag_bits & 1]:
            raise UserError(f'{path} is encrypted ({locked[0]}). Unpack it with its password and give the folder.')
        named = list(zip(zip_names(members), members))
        self.spans = {
            n: (m.header_offset, m.compress_size, m.compress_type, m.CRC) for n, m in named if not n.endswith('/')
        }
        links = {n: self._target(n) for n, m in named if is_link(m)}
        for name in links:
            del self.spans[name]
        self._list((n for n, _ in named if n.endswith('/')), links)

    def _target(self, link: str) -> str:
        with contextlib.suppress(OSError):
            return self.read(link).decode('utf-8', 'replace')
        return ''

    def read(self, name: str) -> bytes:
        offset, size, method, crc = self._span(name)
        with open(self.path, 'rb') as f:
            f.seek(offset)
            header = f.read(30)  # its last two fields are the lengths of the name and of the extra field, which follow
            if len(header) == 30:
                f.seek(sum(struct.unpack('<HH', header[26:])), os.SEEK_CUR)
            data = f.read(size)
        try:
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompress(data, wbits=-zlib.MAX_WBITS)
            elif method != zipfile.ZIP_STORED:
                raise OSError(f'compression method {method} is not supported, unpack the archive')
        except zlib.error as error:
            raise OSError(f'the archive is damaged: {error}') from error
        if zlib.crc32(data) != crc:
            raise OSError('the archive is damaged: wrong check sum')
        return data


class Tar(_Archive):
    """The files of a tar archive, found by their offsets. A compressed one is decompressed into a temporary file
    first."""

    def __init__(self, path: Path):
        self.path = str(path)
        self._plain = None
        try:
            if tarfile.is_tarfile(self.path) and not is_plain_tar(self.path):
                self._plain = decompressed_tar(path)
            with tarfile.open(self._plain or self.path, 'r:') as archive:
                members = archive.getmembers()
        except (tarfile.TarError, EOFError) as error:
            if self._plain:
                remove_file(self._plain)
            raise UserError(f'{path} cannot be read as a tar archive: {error}. Download it again.') from error
        if self._plain:
            weakref.finalize(self, remove_file, self._plain)
        refuse_escapes(path, ((m.name, m.linkname if m.issym() or m.islnk() else None) for m in members))
        refuse_undecodable(path, [m.name for m in members])
        windows = written_with_backslashes([m.name for m in members])
        self.spans = {posix_name(m.name, windows): (m.offset_data, m.size) for m in members if m.isreg()}
        for m in members:  # a hard link has no bytes of its own
            if m.islnk() and posix_name(m.linkname, windows) in self.spans:
                self.spans[posix_name(m.name, windows)] = self.spans[posix_name(m.linkname, windows)]
        links = {posix_name(m.name, windows): m.linkname for m in members if m.issym()}
        self._list((posix_name(m.name, windows) for m in members if m.isdir()), links)

    def read(self, name: str) -> bytes:
        offset, size = self._span(name)
        with open(self._plain or self.path, 'rb') as f:
            f.seek(offset)
            data = f.read(size)
        if len(data) != size:
            raise OSError('the archive ends before the file does')
        return data


class Several(_Files):
    """A folder together with the archives that lie directly in it, each archive as a folder of its own name."""

    def __init__(self, parts: dict[str, 'Folder | Zip | Tar']):
        self.parts = parts
        self.names = sorted(prefix + n for prefix, part in parts.items() for n in part.names)
        self.empty_folders = sorted(prefix + n for prefix, part in parts.items() for n in part.empty_folders)
        self.system_files = sorted(prefix + n for prefix, part in parts.items() for n in part.system_files)

    def read(self, name: str) -> bytes:
        prefix = name.partition('/')[0] + '/'
        if prefix in self.parts:
            return self.parts[prefix].read(name.removeprefix(prefix))
        return self.parts[''].read(name)


@runtime_checkable
class FrameFiles(Protocol):
    """What the readers of data sets see of a folder or of archives."""

    names: list[str]
    empty_folders: list[str]
    system_files: list[str]
    read: Callable[[str], bytes]


def open_files(source: str | Path) -> FrameFiles:
    """Returns the files of a folder or archive.

    Attributes of what is returned: `names`, sorted relative posix paths; `empty_folders`; `system_files`, what was
      passed over;
    `read(name) -> bytes`, which raises OSError.
    Raises UserError where the source is missing, unreadable, or an archive with members that point outside.
    """
    source = user_path(source)
    if not source.exists():
        raise UserError(
            f'The source {source} does not exist. --source names the folder or archive with the raw data set.'
        )
    if source.is_file():
        return _open_archive(source)
    try:
        files = [p for p in sorted(source.iterdir()) if p.is_file() and not is_system_file(p.name)]
        archives = [p for p in files if _is_archive(p.name)]
        folder = Folder(source)
    except OSError as error:
        raise UserError(f'{source} cannot be listed: {error}') from error
    if not archives:
        return folder
    folder.names = [n for n in folder.names if '/' in n or not _is_archive(n)]
    # An archive that has been unpacked next to itself is read once, from the folder; so is one of several of a name.
    unpacked = {n.split('/', 1)[0] for n in folder.names if '/' in n}
    read = {stem: p for p in archives if (stem := archive_stem(p)) not in unpacked}
    folder.system_files += [p.name for p in archives if p not in read.values()]
    packed = {f'{stem}/': _open_archive(p) for stem, p in read.items()}
    return Several({'': folder, **packed}) if packed else folder


def read_files(files: FrameFiles, source: TrackletSource) -> list[bytes]:
    """The frames of a tracklet whose keys are file names."""
    return [files.read(key) for key in source.frames]


def archive_stem(path: Path) -> str:
    """'bbox_train.tar.gz' -> 'bbox_train'."""
    by_length = sorted(ARCHIVE_SUFFIXES, key=len, reverse=True)
    return next((path.name[: -len(s)] for s in by_length if path.name.lower().endswith(s)), path.name)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def _open_archive(path: Path) -> Zip | Tar:
    if path.name.lower().endswith('.zip') or zipfile.is_zipfile(path):
        return Zip(path)
    if _is_archive(path.name) or tarfile.is_tarfile(path):
        return Tar(path)
    raise UserError(
        f'{path} is a file but no zip or tar archive. --source names the folder or archive with the raw data set.'
    )


def _walk(folder: str, prefix: str, files: Folder) -> None:
    with os.scandir(folder) as entries:
        children = list(entries)
    system_files = {e.name for e in children if is_system_file(e.name)}
    files.system_files += [prefix + name for name in system_files]
    if len(system_files) == len(children) and prefix:
        files.empty_folders.append(prefix.rstrip('/'))
    for entry in children:
        if entry.name in system_files:
            continue
        if entry.is_dir():
            if entry.is_symlink():
                refuse_link_above(entry.path, files.root)
            _walk(entry.path, f'{prefix}{entry.name}/', files)
        elif not entry.is_symlink() or suffix(entry.name) or os.path.exists(entry.path):
            files.names.append(prefix + entry.name)
        else:  # a broken link
            files.empty_folders.append(prefix + entry.name)
