"""Where a run's numbers go: WORKDIR/metrics.jsonl and TensorBoard files."""

import contextlib
import json
from pathlib import Path

from tensorboardX import SummaryWriter

from pvlad_jax.jobs.workdir import write_text


class MetricLog:
    """One JSON object a line: {"step": ..., "kind": "train" | "eval", ...numbers}. A run taken up at a step forgets what lies after it."""

    def __init__(self, workdir: Path, step: int):
        self._path = workdir / 'metrics.jsonl'
        if self._path.exists():
            write_text(self._path, ''.join(line + '\n' for line in self._path.read_text().splitlines() if _up_to(line, step)))
        self._file = open(self._path, 'a')
        self._board = SummaryWriter(str(workdir / 'tensorboard'), purge_step=step + 1 if step else None)

    def write(self, step: int, kind: str, numbers: dict[str, float]) -> None:
        self._file.write(json.dumps({'step': step, 'kind': kind, **numbers}) + '\n')
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f'{kind}/{name}', value, step)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # every line was flushed when it was written; a full disk has been told of
            self._file.close()
            self._board.close()


def _up_to(line: str, step: int) -> bool:
    try:
        return json.loads(line)['step'] <= step
    except (ValueError, KeyError):
        return False  # cut off by a kill
