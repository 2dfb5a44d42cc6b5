"""How many places of training batches were given to another tracklet, because the one that was drawn cannot be
decoded."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

_MAX_NAMED = 20  # tracklets in a run


class SkippedRecords:
    """Counts over all processes and over interruptions; names the first tracklets that process 0 meets."""

    def __init__(self, log: Callable[[str], None], possible: bool):
        self.before = 0  # up to the checkpoint that the run was resumed from
        self._here, self._log, self._possible = 0, log, possible
        self._named: set[str] = set()

    def count(self, batch: dict[str, np.ndarray]) -> None:
        """Of a batch that the loop takes (those made ahead do not count yet)."""
        self._here += int(batch['replaced'].sum())

    def total(self) -> int:
        """Since the run began. All processes must call it."""
        here = self._here
        if self._possible and jax.process_count() > 1:
            here = int(np.sum(multihost_utils.process_allgather(np.array(here))))
        return self.before + here

    def report(self, tracklets: Iterable[str]) -> None:
        """Names those that were not named before."""
        for name in sorted(set(tracklets) - self._named):
            if len(self._named) < _MAX_NAMED:
                self._log(
                    f'Tracklet {name} cannot be decoded; other tracklets take its place (config.input.on_error=skip).'
                )
            self._named.add(name)
