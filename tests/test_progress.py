"""The line of progress: on a terminal it counts and other lines still come through; elsewhere there is none."""

import io
import sys

import pytest

from pvlad_jax.core.progress import progress
from pvlad_jax.core.terminal import complain, say


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize('terminal', [True, False])
def test_a_line_on_a_terminal_and_nothing_elsewhere(monkeypatch, terminal):
    out, error = Screen(terminal), Screen(terminal)
    monkeypatch.setattr(sys, 'stdout', out)
    monkeypatch.setattr(sys, 'stderr', error)
    with progress('frames', 40) as advance:
        for _ in range(40):
            advance(1)
        say('a line')  # which once wrote to itself for ever
        complain('another')
    assert out.getvalue() == 'a line\n' and 'another\n' in error.getvalue()
    assert ('40/40' in error.getvalue()) == ('left:' in error.getvalue()) == terminal
