"""The data set of a run, or those that it joins: which ones it was trained on (WORKDIR/data.json), and that they still
are those."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import jax
import msgspec

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import write_text
from pvlad_jax.core.saved_files import Int64, NoFile, json_object, reading
from pvlad_jax.data.dataset_format import record_files
from pvlad_jax.data.fingerprint import Fingerprint, fingerprint
from pvlad_jax.data.joined_dataset import AnyDataset, data_sets_of
from pvlad_jax.runs.trained_people import Entry
from pvlad_jax.runs.workdir import Folder

FILE = 'data.json'


class _Saved(TypedDict, total=False):  # former versions wrote less
    fingerprint: Fingerprint | None
    accepted: list[Fingerprint]  # of before a change that the user has accepted
    files: Any  # sizes and times of the record files, so that they are not read again while these stay
    checked: list[str]  # what was found intact
    people: Int64  # in training
    trained_on: list[Entry]  # with those of the run that it began with


class RunData:
    """data.json holds a `_Saved`."""

    def __init__(self, workdir: Folder, dataset: AnyDataset, people: int, read_only: bool = False):
        """`people`: in training. read_only: data.json stays as it is."""
        self._read_only = read_only
        self._path, self._dataset, self._workdir, self._people = workdir / FILE, dataset, workdir, people
        self._saved = self._read()
        files = self._files()
        same_files = self._saved.get('files') == files
        self.now = fingerprint(dataset, _parsed(self._saved.get('fingerprint')) if same_files else None)
        self._files_now = files

    def check(self, in_checkpoint: dict | None, on_change: str, log: Callable[[str], None]) -> None:
        """UserError where the run was trained on other data, unless config.dataset.on_change = 'accept'. Nothing is
        written (`write`): what is accepted may still turn out to be unreadable.

        Args:
          in_checkpoint: what the checkpoint says (`Checkpoints.about`); None = nothing: it was written by a former
          version.
        """
        before = [f for f in map(_parsed, (self._saved.get('fingerprint'), in_checkpoint)) if f is not None]
        accepted = [f for f in map(_parsed, self._saved.get('accepted', [])) if f is not None]
        at_last = _parsed(in_checkpoint)
        if at_last is not None and at_last.same(self.now):  # as when a change was accepted, and nothing came of it
            before = [at_last]
        other = next((f for f in before if not any(f.same(known) for known in (self.now, *accepted))), None)
        if other is None:
            if not before:
                log(
                    f'{self._workdir} does not say which data it was trained on (a former version made it). From now '
                    f'on {FILE} does.'
                )
            return
        what = (
            f'{self._dataset.name!r} in {self._dataset.folder} is not the one that this run was trained on: '
            f'{other.changes(self.now)}'
        )
        if on_change != 'accept':
            raise UserError(
                f'The data set {what}. Build it again from the same source as then, or start a new run in another '
                '--workdir; or, where the change is meant (such as a frame that was repaired), continue on the changed '
                'data with --config.dataset.on_change=accept.'
            )
        if self._saved.get('people', self._people) != self._people:
            raise UserError(
                f'The data set {what}. That cannot be accepted: the network was trained to tell '
                f'{self._saved["people"]} people apart, and there are {self._people} to train on now. Start a new run '
                'in another --workdir.'
            )
        log(f'The data set {what}. Accepted (config.dataset.on_change).')
        self._saved['accepted'] = [
            *self._saved.get('accepted', []),
            *(f.to_json() for f in before if not f.same(self.now)),
        ]
        self._saved['checked'] = []

    def checked(self, what: str) -> bool:
        """Whether `mark_checked` was called for it, for the data as they are now."""
        return what in self._saved.get('checked', [])

    def mark_checked(self, what: str) -> None:
        """Notes that a check of the data need not be made again; `write` keeps it."""
        self._saved['checked'] = sorted({*self._saved.get('checked', []), what})

    @property
    def trained_on(self) -> list[dict]:
        """What data.json says (`trained_people`)."""
        return self._saved.get('trained_on', [])

    def was_trained_on(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Adds those that are not there yet."""
        self._saved['trained_on'] = [*self.trained_on, *(dict(one) for one in entries if one not in self.trained_on)]

    def write(self) -> None:
        """For a new run, when its configuration is written."""
        content = {
            'fingerprint': self.now.to_json(),
            'accepted': self._saved.get('accepted', []),
            'files': self._files_now,
            'checked': self._saved.get('checked', []),
            'people': self._people,
        }
        if self.trained_on:
            content['trained_on'] = self.trained_on
        if not self._read_only and jax.process_index() == 0 and content != self._read():
            write_text(self._path, json.dumps(content, indent=1) + '\n')

    def forget(self) -> None:
        """What data.json says is of no run: the folder holds none yet."""
        self._saved = {}

    def _read(self) -> dict:
        return saved_data(self._workdir)

    def _files(self) -> list:
        """Of this machine; another one has its own copy with other times, and reads content.json or the files."""
        paths = [
            path
            for dataset in data_sets_of(self._dataset).values()
            for paths in record_files(dataset.folder, dataset.tables).values()
            for path in paths
        ]
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def saved_data(workdir: Folder) -> dict:
    """What data.json says; {} where there is none. UserError where it is damaged."""
    path = workdir / FILE
    remedy = 'Restore it, or remove it if you are sure that the data set is the one that this run was trained on.'
    try:
        with reading(path, remedy):
            saved = json_object(path.read_bytes())
            msgspec.convert(saved, _Saved)
            return saved
    except NoFile:
        return {}


def _parsed(saved: Any) -> Fingerprint | None:
    return None if saved is None else msgspec.convert(saved, Fingerprint)
