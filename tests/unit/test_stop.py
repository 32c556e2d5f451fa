"""The stop switch: thrown once, by whatever comes first, and heard at once."""

import threading
import time

import pytest

from syncer.errors import DeadlinePassed, Interrupted, OutOfSpace
from syncer.stop import StopSwitch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_happens_until_it_is_thrown() -> None:
    stop = StopSwitch()
    stop.check()
    assert (stop.thrown, stop.error) == (False, None)


def test_the_first_error_stays() -> None:
    stop = StopSwitch()
    stop.throw(Interrupted())
    stop.throw(OutOfSpace("full"))
    assert stop.thrown
    with pytest.raises(Interrupted):
        stop.check()


def test_wakers_are_called_once_thrown_also_late_ones() -> None:
    woken: list[str] = []
    stop = StopSwitch()
    stop.on_throw(lambda: woken.append("early"))
    assert woken == []
    stop.throw(Interrupted())
    stop.on_throw(lambda: woken.append("late"))
    assert woken == ["early", "late"]


def test_who_has_gone_is_not_woken() -> None:
    woken: list[str] = []
    stop = StopSwitch()
    with stop.waking(lambda: woken.append("gone")):
        pass
    with stop.waking(lambda: woken.append("there")):
        stop.throw(Interrupted())
    assert woken == ["there"]


def test_what_stops_the_run_stops_its_attempt_and_not_the_other_way_round() -> None:
    clock = Clock()
    stop = StopSwitch(deadline=110.0, clock=clock)
    with stop.for_one_attempt() as attempt:
        attempt.throw(OutOfSpace("full"))
    assert not stop.thrown
    with stop.for_one_attempt() as attempt:
        clock.now = 110.0
        assert attempt.thrown, "the deadline is the run's"
    with stop.for_one_attempt() as attempt:
        stop.throw(Interrupted())
        assert isinstance(attempt.error, Interrupted)


def test_the_deadline_throws_by_itself() -> None:
    clock = Clock()
    stop = StopSwitch(deadline=110.0, clock=clock)
    woken: list[bool] = []
    stop.on_throw(lambda: woken.append(True))
    clock.now = 109.9
    stop.check()
    clock.now = 110.0
    with pytest.raises(DeadlinePassed, match="deadline"):
        stop.check()
    assert woken == [True]


def test_a_signal_before_the_deadline_is_what_counts() -> None:
    clock = Clock()
    stop = StopSwitch(deadline=110.0, clock=clock)
    stop.throw(Interrupted())
    clock.now = 200.0
    with pytest.raises(Interrupted):
        stop.check()


def test_a_pause_ends_when_the_switch_is_thrown() -> None:
    stop = StopSwitch()
    waiter = threading.Thread(target=stop.wait, args=(60.0,))
    waiter.start()
    stop.throw(Interrupted())
    waiter.join(10)
    assert not waiter.is_alive()
    begun = time.monotonic()
    stop.wait(60.0)
    assert time.monotonic() - begun < 10


def test_a_pause_does_not_outlast_the_deadline() -> None:
    clock = Clock()
    stop = StopSwitch(deadline=100.0, clock=clock)
    begun = time.monotonic()
    stop.wait(60.0)
    assert time.monotonic() - begun < 10
