"""Runs of both sides in turn, their times, and the row of a comparison."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.rows import row


@dataclasses.dataclass
class Times:
    """Of one side: seconds, and processor seconds of all its threads."""

    wall: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


def interleaved(
    runs: dict[str, Callable], rounds: int, fewer: Mapping[str, int] | None = None, turn: int = 1
) -> dict[str, Times]:
    """Each run in turn; the first round (compilation, caches) does not count.

    fewer: rounds of slow ones. turn: how often each is run before the next one's turn; of several the first does not
    count, for which memory is mapped that the other side has given back to the system.
    """
    times = {name: Times() for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            if fewer and i > fewer.get(name, rounds):
                continue
            for j in range(turn):
                wall, processor = time.perf_counter(), time.process_time()
                run()
                if i and (j or turn == 1):
                    times[name].wall.append(time.perf_counter() - wall)
                    times[name].processor.append(time.process_time() - processor)
    return times


def speed_row(name: str, times: dict[str, Times], scale: float, unit: str, **more) -> dict:
    """Of the runs 'ours' and 'peer'. scale: units of work a run, so that figures are per second."""
    ours, peer = times['ours'].median, times['peer'].median
    for side, t in times.items():
        more |= {
            f'{side}_spread': [scale / max(t.wall), scale / min(t.wall)],
            f'{side}_cores': sum(t.processor) / sum(t.wall),
            f'{side}_processor_seconds': statistics.median(t.processor),
        }
    return row(name, scale / ours, scale / peer, unit, peer / ours, runs=len(times['ours'].wall), **more)


def check(name: str, ours, peer, tolerance: float) -> None:
    error = float(np.abs(np.subtract(ours, peer)).max() / np.abs(peer).max())
    if not error <= tolerance:
        sys.exit(f'{name}: ours and PyTorch differ by {error:.1e} of the largest value; more than {tolerance:.0e}.')
