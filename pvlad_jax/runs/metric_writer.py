"""Where a run's numbers go: WORKDIR/metrics.jsonl and TensorBoard files."""

import contextlib
import json
from collections.abc import Mapping
from typing import TypedDict

import msgspec

from pvlad_jax.core.files import write_text
from pvlad_jax.core.paths import is_remote
from pvlad_jax.core.saved_files import Int64, json_object
from pvlad_jax.runs.workdir import Folder


class MetricLine(TypedDict):
    """What is read of a line: the step that it belongs to."""

    step: Int64


class MetricWriter:
    """One JSON object a line: {"step": ..., "kind": "train" | "eval", ...numbers}. A run taken up at a step forgets
    what lies after it, and one that begins anew (step 0) all that is there.

    Objects in storage cannot be added to: there the file is rewritten with every line, and there are no TensorBoard
    files.
    """

    def __init__(self, workdir: Folder, step: int):
        self._path = workdir / 'metrics.jsonl'
        self._text = ''
        kept = step or -1  # a run that begins evaluates its step 0 once more
        if self._path.exists():
            self._text = ''.join(
                f'{line.decode()}\n' for line in self._path.read_bytes().split(b'\n') if _up_to(line, kept)
            )
            write_text(self._path, self._text)
        self._file = None if is_remote(workdir) else open(self._path, 'a')
        self._board, self._board_folder = None, str(workdir / 'tensorboard')
        self._purge_step = kept + 1

    def write(self, step: int, kind: str, numbers: Mapping[str, float | str]) -> None:
        """Adds a line; numbers also go to TensorBoard, as KIND/NAME."""
        line = json.dumps({'step': step, 'kind': kind, **numbers}) + '\n'
        if self._file is None:
            self._text += line
            self._path.write_text(self._text)
            return
        self._file.write(line)
        self._file.flush()
        if self._board is None:
            from tensorboardX import SummaryWriter  # slow to import, since it imports torch where that is installed

            self._board = SummaryWriter(self._board_folder, purge_step=self._purge_step)
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f'{kind}/{name}', value, step)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            # Every line was flushed when it was written; a full disk has been reported.
            with contextlib.suppress(OSError):
                self._file.close()
                if self._board is not None:
                    self._board.close()


def _up_to(line: bytes, step: int) -> bool:
    try:
        return msgspec.convert(json_object(line), MetricLine)['step'] <= step
    except ValueError:
        return False  # damaged, such as cut off by a kill
