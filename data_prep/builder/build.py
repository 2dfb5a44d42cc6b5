"""Builds a RawDataset into DATA_DIR/NAME/VERSION, atomically, one build of a name at a time."""

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_prep.builder.frame_reader import CheckedReader, checked_reader, read_all
from data_prep.builder.stored_frame import FrameCounts
from data_prep.builder.tfds_builder import Record, TrackletBuilder, record_metadata, tracklet_table
from data_prep.issues import require_complete
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.core import terminal
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.data.content_hash import write_content_hash
from pvlad_jax.data.dataset_format import (
    FOLDER_VERSION,
    FORMAT_VERSION,
    read_columns,
    read_metadata,
    record_files,
    table_file,
)

_NAME = re.compile(r'[a-z][a-z0-9_]*')
_ASIDE = 'incomplete.replaced'  # a data set while another takes its place


def data_set_path(data_dir: str | Path, name: str) -> Path:
    """Where a data set lies, built or not. Raises UserError for a name that TFDS could not read back."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f'{name!r} cannot name a data set: use lower-case letters, digits and _, beginning with a letter.'
        )
    return user_path(data_dir) / name / FOLDER_VERSION


def is_built(path: Path) -> bool:
    """Whether a whole data set lies here; TFDS writes dataset_info.json last, and renames the folder after that."""
    return (path / 'dataset_info.json').is_file()


def build(
    raw: RawDataset,
    data_dir: str | Path,
    *,
    overwrite: bool = False,
    workers: int = 0,
    progress: bool = True,
    wait: bool = False,
    write_shards: Any = None,
    counts: FrameCounts | None = None,
    decode: bool = True,
    remedy: str = 'Give another --name, or --overwrite to replace it.',
) -> Path:
    """Builds a data set and returns its folder; an existing one with the same tracklets and metadata is kept.

    Arguments:
      raw: The scanned data set.
      data_dir: Where data sets lie; made where missing.
      overwrite: Replace a data set of this name; the old one stays until the new one is complete.
      workers: Threads or processes that read ahead, 0 = by the number of cores.
      progress: Show a progress bar.
      wait: Where another process builds this data set, wait for it instead of raising.
      write_shards: See TrackletBuilder (Beam).
      counts: Is filled with what the frames were stored as and what was changed; by write_shards where there is one.
      decode: Decode every frame, so that damage inside it is found now and not in training.
      remedy: Where a data set of this name differs, what to do about it by the caller's flags.
    Raises UserError: bad frames, another data set of this name, a build of this name under way, data_dir not writable,
      no space left. Nothing is left behind then, nor after an interrupt; the next build removes a killed one's rest.
    """
    path = data_set_path(data_dir, raw.name)
    _check(raw)
    if is_built(path) and not overwrite:  # before the lock: a data set may lie on a disk that cannot be written
        _require_same(path, raw, remedy)
        return path
    with _disk_errors(path), _lock(path, wait):
        _remove_leftovers(path)
        if is_built(path) and not overwrite:  # by the process that was waited for
            _require_same(path, raw, remedy)
            return path
        if path.exists() and not is_built(path):
            if not overwrite:
                raise UserError(f'{path} is there, but it is no whole data set. {remedy}')
            shutil.rmtree(path)
        root = path.parent / 'incomplete.rebuild' if is_built(path) else path.parent.parent
        with _progress_bar(raw, progress) as advance:
            counts = FrameCounts() if counts is None else counts
            reader = partial(_read, checked_reader(raw, decode), raw.workers, workers, advance, counts)
            builder = TrackletBuilder(
                raw=raw,
                read_all=reader,
                write_shards=write_shards,
                data_dir=os.fspath(root),
                counts=counts,
                decoded=decode,
            )
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints notes on downloads there
                    builder.download_and_prepare(download_dir=path.parent / 'incomplete.downloads')
                built = Path(builder.data_dir)
                _require_readable(built, raw)
                write_content_hash(built, raw.splits)
                if built != path:
                    _replace(path, built)
            finally:
                _remove_leftovers(path)
    return path


def _read(
    read: CheckedReader, kind: str, workers: int, advance, counts: FrameCounts, sources: Iterable[TrackletSource]
) -> Iterator[Record]:
    for source, checked in read_all(read, sources, kind, workers):
        counts.add(checked.counts)
        yield source, checked.frames
        advance(len(checked.frames))


def _check(raw: RawDataset) -> None:
    """What no scanner may hand on, whatever it read."""
    if not raw.metadata.get('partial'):
        require_complete(raw, allow_partial=False)
    for split, sources in raw.splits.items():
        if split == 'all':
            raise ValueError("'all' is TFDS's word for the union of the splits and cannot name one")
        if not sources:
            raise UserError(f'Split {split} of {raw.name} has no tracklets.')
        for s in sources:
            if not s.frames:
                raise UserError(f'Tracklet {s.name} has no frames. Remove its folder or put its frames there.')
            if len(s.frames) != len(s.frame_numbers) or list(s.frame_numbers) != sorted(set(s.frame_numbers)):
                raise UserError(f'Tracklet {s.name}: frame numbers must rise, one a frame.')
    names = Counter(s.name for sources in raw.splits.values() for s in sources)
    if twice := [n for n, times in names.items() if times > 1]:
        raise UserError(f'Tracklet names of {raw.name} are not unique: {", ".join(twice[:20])}')


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Says in one sentence what the disk refused; data_dir is a flag of one caller and a field of the other."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        code, text = getattr(error, 'errno', None), str(error)
        # ArrayRecord's errors carry no number, and a truncated file none at all: look at the disk then.
        free = _free_bytes(path)
        full = code is None and free is not None and free < 1 << 20
        if code in (errno.ENOSPC, errno.EDQUOT) or 'No space left' in text or full:
            raise UserError(
                f'No space left for {path} ({free or 0:,} bytes free). Nothing was kept; '
                'make room or give another data_dir, and start again.'
            ) from error
        if isinstance(error, OSError) or 'ArrayRecord' in text or 'write' in text.lower():
            raise UserError(f'{path} cannot be written: {text}. Check data_dir and its permissions.') from error
        raise


def _free_bytes(path: Path) -> int | None:
    """Free bytes on the disk of `path`; None where that cannot be said."""
    parent = next((p for p in path.parents if p.exists()), None)
    if parent is None:
        return None
    try:
        usage = shutil.disk_usage(parent)
    except OSError:
        return None
    return usage.free if usage.total else None


@contextlib.contextmanager
def _lock(path: Path, wait: bool) -> Iterator[None]:
    """Holds a lock file next to the data set; the system frees it when its process ends, however it ends."""
    lock = path.parent / '.building'
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, 'w') as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Not one that its last holder has just removed.
                ours = os.path.samestat(os.fstat(f.fileno()), os.stat(lock))
            except (BlockingIOError, FileNotFoundError):
                ours = False
            if ours:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        path.parent.rmdir()  # only where nothing was built
                return
        if not wait:
            raise UserError(
                f'Another process builds {path} right now. Wait for it, or build under another --name or --data_dir.'
            )
        time.sleep(0.2)


def _remove_leftovers(path: Path) -> None:
    """What an unfinished build has left, and puts back what it was about to replace."""
    aside = path.parent / _ASIDE
    if is_built(aside) and not path.exists():
        aside.rename(path)
    for stale in path.parent.glob('incomplete.*'):
        shutil.rmtree(stale, ignore_errors=True)


def _replace(path: Path, built: Path) -> None:
    path.rename(path.parent / _ASIDE)
    built.rename(path)  # where this fails, or is interrupted, _remove_leftovers puts the old one back


@contextlib.contextmanager
def _progress_bar(raw: RawDataset, show: bool) -> Iterator[Any]:
    total = sum(len(s.frames) for sources in raw.splits.values() for s in sources)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal.console(), disable=not show, redirect_stdout=False) as bar:
        task = bar.add_task(f'{raw.name}: frames', total=total)
        yield lambda n: bar.advance(task, n)


def _require_readable(built: Path, raw: RawDataset) -> None:
    """The files on disk hold as many records as were meant: the last check before the data set counts as whole."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    files = record_files(built, raw.splits)
    for split, sources in raw.splits.items():
        with ArrayRecordDataSource([os.fspath(path) for path in files[split]]) as records:
            found = len(records)
        if found != len(sources):
            shutil.rmtree(built)
            raise OSError(f'{found} of {len(sources)} records of split {split} can be read back')


def _require_same(path: Path, raw: RawDataset, remedy: str) -> None:
    """An existing data set of this name must be the one that was requested."""
    metadata = read_metadata(path, f'{path} exists already. {remedy}')
    if metadata.get('format_version') != FORMAT_VERSION:
        raise UserError(
            f'{path} has format {metadata.get("format_version")}, this program writes {FORMAT_VERSION}. {remedy}'
        )
    wanted = json.loads(json.dumps(record_metadata(raw)))
    for found_by_build in ('encoding', 'frames_decoded'):
        metadata.pop(found_by_build, None)
        wanted.pop(found_by_build, None)
    if difference := _first_difference(metadata, wanted):
        key, existing, requested = difference
        raise UserError(
            f'{path} exists already, but was built with {key} = {_short(existing)} instead of '
            f'{_short(requested)}. {remedy}'
        )
    for split, sources in raw.splits.items():
        table = path / table_file(split)
        if not table.exists() or not _same_table(table, sources):
            raise UserError(
                f'{path} exists already, but its tracklets of split {split} are not those of the source. {remedy}'
            )


def _same_table(table: Path, sources: Sequence[TrackletSource]) -> bool:
    with contextlib.suppress(UserError):
        built = read_columns(table, '')
        return all(np.array_equal(built[k], v) for k, v in tracklet_table(sources).items())
    return False


def _first_difference(existing: dict, requested: dict, prefix: str = '') -> tuple[str, Any, Any] | None:
    for key in sorted(existing.keys() | requested.keys()):
        a, b = existing.get(key), requested.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if inner := _first_difference(a, b, f'{prefix}{key}.'):
                return inner
        elif a != b:
            return f'{prefix}{key}', a, b
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + '...'
