"""What `embed` has finished so far, in a file next to its output, so that a job that was stopped resumes.

The first line says which job it is; each further one is a finished tracklet. A line that a kill has cut short is
dropped.
"""

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, get_type_hints

import msgspec
import numpy as np
from jaxtyping import Float32

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import Finite, Int64, json_object


class Row(NamedTuple):
    """A line of the table.

    `order` is the tracklet's place in its source; `reason` says why it is left out, '' = it is not; `note` what else
    was wrong with it, a sentence.
    """

    order: Int64
    tracklet: str
    first_frame: Int64
    last_frame: Int64
    start_seconds: Finite | None
    end_seconds: Finite | None
    frames: Int64
    reason: str
    embedding: Float32[np.ndarray, 'E'] | None = None
    note: str = ''


class Journal:
    """The rows of one job. `open_journal` makes it.

    Attributes:
      rows: finished tracklets by name, those of an earlier start of the same job among them.
      restarted: what has changed, where all rows that lay there are of another job and were dropped; '' = nothing.
      damaged: which line no kill has left so, and why: from there on they were dropped, too; '' = none.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], file: Any):
        self.path, self._file = path, file
        self.rows: dict[str, Row] = {}
        self.restarted = self.damaged = ''
        kept = self._read(job)
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self._append({'job': job})

    def _read(self, job: Mapping[str, Any]) -> int:
        """Fills `rows`; returns how many bytes are whole lines of this job."""
        self._file.seek(0)
        kept, sizes = 0, set()
        for number, line in enumerate(self._file):
            if not line.endswith(b'\n'):
                break  # the kill came in the midst of this line
            try:
                content = json_object(line)
                if number == 0:
                    before = msgspec.convert(content, _FirstLine)['job']
                    if before != json.loads(json.dumps(job)):
                        changed = sorted(key for key in job if before.get(key) != job[key])
                        self.restarted = ', '.join(changed) or 'the program'
                        return 0
                else:
                    row = _row(content)
                    if row.embedding is not None:
                        sizes.add(row.embedding.size)
                        if len(sizes) > 1 or not np.isfinite(row.embedding).all():
                            raise ValueError('embedding is of another size, or not finite')
                    self.rows[row.tracklet] = row
            except ValueError as error:
                self.damaged = f'line {number + 1}: {error}'
                break
            kept += len(line)
        return kept

    def add(self, row: Row) -> None:
        """Keeps a finished tracklet, whatever happens to this process from now on."""
        content = row._asdict()
        if row.embedding is not None:
            content['embedding'] = base64.b64encode(np.ascontiguousarray(row.embedding, '<f4')).decode()
        self._append(content)
        self.rows[row.tracklet] = row

    def _append(self, content: Mapping[str, Any]) -> None:
        data = json.dumps(content).encode() + b'\n'
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            error.filename = str(self.path)  # for the message
            raise

    def remove(self) -> None:
        """The output is written: the journal has done its work."""
        self.path.unlink(missing_ok=True)


class _FirstLine(TypedDict):
    job: dict


_Line = TypedDict('_Line', {**get_type_hints(Row, include_extras=True), 'embedding': str | None})


def _row(content: Mapping[str, Any]) -> Row:
    """ValueError where it is none."""
    fields = msgspec.convert(content, _Line)
    if (encoded := fields['embedding']) is not None:
        fields['embedding'] = np.frombuffer(base64.b64decode(encoded, validate=True), '<f4').astype(np.float32)
    elif not fields['reason']:
        raise ValueError('embedding is None, and no reason is given')
    return Row(**fields)


@contextlib.contextmanager
def open_journal(output: Path, job: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of an output file, locked: of two processes with the same output the second is refused.

    Args:
      job: what the rows depend on, JSON-able; rows of another job are dropped.

    Raises:
      UserError: in use, or the folder cannot be written.
    """
    path = output.with_name(f'.{output.name}.journal')
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, 'a+b')
    except OSError as error:
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = 'a part of its path is a file' if is_file else error.strerror
        raise UserError(f'{output} cannot be written: {reason}. Give another --output.') from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'Another process is writing {output}. Wait for it, or give another --output.') from None
        if not os.path.exists(path):  # the process that held it has just finished and removed it
            raise UserError(f'Another process has just written {output}. Give the command again to make it again.')
        yield Journal(path, job, file)
