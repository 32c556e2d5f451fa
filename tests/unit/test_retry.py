"""The retry policy: only what may pass by itself, jittered, the other side's wish first, never after a stop."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from syncer.errors import CredentialsRefused, EndpointUnreachable, Interrupted, SyncerError, Transient
from syncer.retry import PART, Patience, retrying
from syncer.stop import StopSwitch


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def patience(self, seconds: float = 300.0) -> Patience:
        return Patience(seconds=seconds, clock=self.clock, sleep=self.sleep)


def failing(*errors: Exception, then: str = "done") -> Callable[[], str]:
    left = list(errors)

    def work() -> str:
        if left:
            raise left.pop(0)
        return then

    return work


def test_passing_faults_are_tried_again_with_growing_pauses() -> None:
    time = Time()
    work = failing(*(Transient(str(n)) for n in range(8)))
    assert retrying(work, patience=time.patience(), stop=StopSwitch()) == "done"
    assert len(time.pauses) == 8
    assert all(0.25 <= pause <= 0.5 * 2**n for n, pause in enumerate(time.pauses))
    assert max(time.pauses) <= 30.0


def test_pauses_are_jittered() -> None:
    firsts = set()
    for _ in range(20):
        time = Time()
        retrying(failing(Transient("1"), Transient("2")), patience=time.patience(), stop=StopSwitch())
        firsts.add(time.pauses[1])
    assert len(firsts) > 10


@pytest.mark.parametrize("error", [CredentialsRefused("no"), ValueError("bug")])
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    time = Time()
    with pytest.raises(type(error)) as caught:
        retrying(failing(error), patience=time.patience(), stop=StopSwitch())
    assert caught.value is error
    assert time.pauses == []


def test_the_pause_is_never_shorter_than_what_the_other_side_asked_for() -> None:
    time = Time()
    retrying(failing(Transient("slow down", retry_after=42.0)), patience=time.patience(), stop=StopSwitch())
    assert time.pauses == [42.0]


def test_patience_ends_with_the_last_error_as_it_is() -> None:
    time = Time()
    errors = [EndpointUnreachable(str(n)) for n in range(1000)]
    with pytest.raises(EndpointUnreachable) as caught:
        retrying(failing(*errors), patience=time.patience(60.0), stop=StopSwitch())
    assert caught.value is errors[len(time.pauses)]
    assert 0 < time.now < 60.0


def test_a_pause_that_would_outlast_the_patience_is_not_begun() -> None:
    time = Time()
    with pytest.raises(Transient):
        retrying(failing(Transient("busy", retry_after=3600.0)), patience=time.patience(), stop=StopSwitch())
    assert time.pauses == []


def test_one_silence_that_outlasts_the_whole_patience_is_not_the_end() -> None:
    time = Time()
    tries = []

    def silent() -> str:
        tries.append(time.now)
        time.now += 25.0
        raise Transient("no byte within the time limit")

    with pytest.raises(Transient):
        retrying(silent, patience=replace(time.patience(8.0), fewest=2), stop=StopSwitch())
    assert len(tries) == 2
    with pytest.raises(Transient):
        retrying(silent, patience=time.patience(8.0), stop=StopSwitch())
    assert len(tries) == 3


def test_a_part_that_takes_longer_than_the_whole_patience_is_tried_again() -> None:
    time = Time()
    resets = [Transient("reset"), Transient("reset")]

    def slow() -> str:
        time.now += 2 * PART.seconds
        if resets:
            raise resets.pop()
        return "done"

    assert retrying(slow, patience=replace(PART, clock=time.clock, sleep=time.sleep), stop=StopSwitch()) == "done"


def test_a_pause_that_was_asked_for_costs_no_more_patience_than_our_own_longest() -> None:
    time = Time()
    patience = replace(time.patience(100.0), longest_asked=300.0)
    limited = [Transient("not now", retry_after=290.0) for _ in range(3)]
    assert retrying(failing(*limited), patience=patience, stop=StopSwitch()) == "done"
    assert time.pauses == [290.0] * 3
    with pytest.raises(Transient):
        retrying(failing(*limited, *limited), patience=patience, stop=StopSwitch())
    assert time.pauses == [290.0] * 6, "and it ends"


def test_a_longer_pause_than_anybody_should_ask_for_counts_as_it_is() -> None:
    time = Time()
    patience = replace(time.patience(), longest_asked=300.0)
    with pytest.raises(Transient):
        retrying(failing(Transient("busy", retry_after=301.0)), patience=patience, stop=StopSwitch())
    assert time.pauses == []


def test_whoever_waits_is_told_why_and_how_long() -> None:
    time = Time()
    told: list[tuple[str, float]] = []

    def tell(error: SyncerError, pause: float) -> None:
        told.append((error.message, pause))

    retrying(failing(Transient("once")), patience=time.patience(), stop=StopSwitch(), on_retry=tell)
    assert told == [("once", time.pauses[0])]


def test_nothing_is_tried_again_after_a_stop() -> None:
    time = Time()
    stop = StopSwitch()
    stop.throw(Interrupted())
    with pytest.raises(Transient):
        retrying(failing(Transient("1")), patience=time.patience(), stop=stop)
    assert time.pauses == []


def test_a_stop_in_a_pause_is_what_comes_out_of_it() -> None:
    stop = StopSwitch()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise Transient("busy")

    patience = Patience(seconds=300.0, sleep=lambda _seconds: stop.throw(Interrupted()))
    with pytest.raises(Interrupted):
        retrying(work, patience=patience, stop=stop)
    assert len(calls) == 1


def test_in_earnest_the_pause_is_the_stop_switches_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    stop = StopSwitch()
    monkeypatch.setattr(stop, "wait", pauses.append)
    retrying(failing(Transient("1")), patience=Patience(seconds=300.0), stop=stop)
    assert len(pauses) == 1
