"""How fast training is: steps a second, the time left, and the share of time that the loop waited for its next
batch."""

import contextlib
import time
from collections.abc import Callable, Iterator


class Pace:
    """Measures from one line of the log to the next, without evaluations and without the first step, which compiles.

    Args:
      last: the step with which training ends.
      clock: seconds.
    """

    def __init__(self, last: int, clock: Callable[[], float] = time.monotonic):
        self._last, self._clock = last, clock
        self._whole: _Stretch | None = None  # since the first step was done
        self._line: _Stretch | None = None  # since the last line

    def done(self, step: int) -> None:
        """The device has finished a step: its metrics were read. Time is taken from the first of these calls on."""
        if self._whole is None:
            self._whole, self._line = _Stretch(step, self._clock()), _Stretch(step, self._clock())

    def line(self, step: int) -> tuple[float, float]:
        """(steps a second, share of the time waited for input) since the last line, at a step that is done; begins the
        next stretch.

        (0, 0) where no step has been done since.
        """
        self.done(step)
        numbers = self._line.numbers(step, self._clock())
        self._line = _Stretch(step, self._clock())
        return numbers

    def remaining(self, step: int) -> str:
        """Time left as H:MM:SS by the mean pace of all steps so far; '-' where there is none yet."""
        rate = self._whole.numbers(step, self._clock())[0] if self._whole else 0.0
        if rate == 0:
            return '-'
        seconds = round((self._last - step) / rate)
        return f'{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}'

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The loop waits for its next batch. The devices may still be at the step before, so they waited no longer than
        that."""
        began = self._clock()
        yield
        self._add(waited=self._clock() - began)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """An evaluation: this time does not count."""
        began = self._clock()
        try:
            yield
        finally:
            self._add(paused=self._clock() - began)

    def _add(self, waited: float = 0.0, paused: float = 0.0) -> None:
        for stretch in filter(None, (self._whole, self._line)):
            stretch.waited += waited
            stretch.paused += paused


class _Stretch:
    """The time since a step was done; pauses before it began are none of its own."""

    def __init__(self, step: int, began: float):
        self.step, self.began, self.waited, self.paused = step, began, 0.0, 0.0

    def numbers(self, step: int, now: float) -> tuple[float, float]:
        """(steps a second, share of the time waited) up to a step that is done now."""
        elapsed = now - self.began - self.paused
        if step <= self.step or elapsed <= 0:
            return 0.0, 0.0
        return (step - self.step) / elapsed, min(self.waited / elapsed, 1.0)
