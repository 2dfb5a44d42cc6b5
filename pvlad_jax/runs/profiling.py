"""A profiler's trace of some training steps, for TensorBoard, XProf or Perfetto."""

from typing import Any

import jax

from pvlad_jax.config import profiled_steps
from pvlad_jax.runs.workdir import Folder


class StepProfiler:
    """Writes WORKDIR/profile for the steps 'FIRST:LAST' of config.profile (counted from 1), by process 0; '' =
    never.
    """

    def __init__(self, profile: str, workdir: Folder):
        self._steps = profiled_steps(profile) if profile and jax.process_index() == 0 else range(0)
        self._folder, self._running = str(workdir / 'profile'), False

    def close(self) -> None:
        """Ends a trace that is being written."""
        if self._running:
            self._end()

    def before(self, step: int) -> None:
        """Begins the trace where the step is the first of those to be traced."""
        if step in self._steps and not self._running:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """`results` of the step are waited for only where the trace ends."""
        if self._running and step >= self._steps[-1]:
            jax.block_until_ready(results)
            self._end()

    def _end(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
