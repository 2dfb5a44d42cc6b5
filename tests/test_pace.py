"""The rate that the log shows: steps done over the time that training took, whatever came in between."""

import pytest

from pvlad_jax.runs.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_an_evaluation_before_the_first_line_does_not_count(clock):
    pace = Pace(100, clock)
    with pace.paused():  # of the untrained network
        clock.now += 50
    clock.now += 30  # the first step, compilation included
    pace.done(1)
    for step in range(2, 11):
        clock.now += 0.5
        pace.done(step)
        if step == 5:
            with pace.paused():
                clock.now += 40
    assert pace.line(10) == (pytest.approx(2.0), 0.0)
    assert pace.remaining(10) == '0:00:45'
    clock.now += 4 * 60 * 60
    assert pace.remaining(50) == '4:04:58'


def test_every_evaluation_after_every_step(clock):
    """Where each step is evaluated, as with eval_every=1, the rate is that of the steps."""
    pace, rates = Pace(10, clock), []
    for step in range(1, 7):
        clock.now += 10.0 if step == 1 else 0.25
        pace.done(step)
        rates.append(pace.line(step)[0])
        with pace.paused():
            clock.now += 100
    assert rates == [0.0, *[pytest.approx(4.0)] * 5]


def test_a_line_tells_of_the_time_since_the_line_before(clock):
    pace = Pace(30, clock)
    pace.done(1)
    clock.now += 9
    assert pace.line(10)[0] == pytest.approx(1.0)
    clock.now += 2
    with pace.waiting():
        clock.now += 3
    assert pace.line(20) == (pytest.approx(2.0), pytest.approx(0.6))
    assert pace.remaining(20) == '0:00:07'  # 19 steps in 14 s so far


def test_lines_without_a_step_have_no_rate(clock):
    pace = Pace(10, clock)
    assert pace.remaining(3) == '-'
    assert pace.line(3) == (0.0, 0.0)
    with pace.paused():
        clock.now += 5
    assert pace.line(3) == (0.0, 0.0) and pace.remaining(3) == '-'
    with pytest.raises(RuntimeError), pace.paused():  # time of an evaluation that fails is no training time either
        clock.now += 7
        raise RuntimeError
    clock.now += 1
    assert pace.line(4)[0] == pytest.approx(1.0)
