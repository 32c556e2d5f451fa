"""The limit of the bandwidth on a clock of our own: how much comes in any two seconds, and how long a lane waits."""

import heapq
import threading
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.bandwidth import Throttle, minute_of_day
from syncer.errors import Interrupted, Transient
from syncer.memory import MiB
from syncer.settings.timetable import Timetable, timetable
from syncer.stop import StopSwitch

KiB = 1024
SILENCE = 25.0
"""Seconds after which a connection without a byte is given up, see `wire/`."""


class Time(StopSwitch):
    """A clock that only waiting moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Link:
    """Lanes that read as fast as they may, one after the other as they come; `came` has times and bytes.

    `gives` says how many of the bytes that a lane asks for come at once, and `delay` how long it is busy with them.
    """

    limit: Timetable
    lanes: int
    chunk: int = 256 * KiB
    delay: float = 0.0
    gives: float = 1.0
    midnight: float = 1000.0
    came: list[tuple[float, int]] = field(default_factory=list)
    longest_gap: float = 0.0

    def run(self, seconds: float) -> None:
        watch = Time()
        throttle = Throttle(
            self.limit, watch, clock=lambda: watch.now, minute=lambda: int((watch.now - self.midnight) // 60) % 1440
        )
        end = watch.now + seconds
        buffer = memoryview(bytearray(self.chunk))
        free = [(watch.now, lane) for lane in range(self.lanes)]
        last = dict.fromkeys(range(self.lanes), watch.now)

        def readinto(view: memoryview) -> int:
            count = max(1, int(len(view) * self.gives))
            self.came.append((watch.now, count))
            return count

        while watch.now < end:
            ready, lane = heapq.heappop(free)
            watch.now = max(watch.now, ready)
            throttle.read(readinto, buffer)
            self.longest_gap = max(self.longest_gap, watch.now - last[lane])
            last[lane] = watch.now
            heapq.heappush(free, (watch.now + self.delay, lane))

    def windows(self, width: float = 2.0, after: float = 1000.0) -> list[float]:
        """Bytes a second in windows from every arrival on, but for the last, which are not over."""
        rates, low, total = [], 0, 0
        for at, count in self.came:
            total += count
            while self.came[low][0] <= at - width:
                total -= self.came[low][1]
                low += 1
            if at >= after + width:
                rates.append(total / width)
        return rates


@settings(max_examples=15)
@given(
    rate=st.integers(64 * KiB, 10 << 30),
    lanes=st.integers(1, 64),
    chunk=st.sampled_from([64 * KiB, 256 * KiB, MiB]),
    gives=st.sampled_from([1.0, 0.3]),
)
def test_any_two_seconds_are_within_five_percent(rate: int, lanes: int, chunk: int, gives: float) -> None:
    # So many chunks at ten gibibytes a second would take long: there the windows are shorter, which is harder.
    width = min(2.0, 600 * chunk / rate)
    link = Link(Timetable(((0, rate),)), lanes, chunk, gives=gives)
    link.run(width * 2.5)
    most = rate * (1 + 0.05 * 2.0 / width)
    for found in link.windows(width):
        assert rate * 0.95 <= found <= most


@pytest.mark.parametrize(("rate", "delay"), [(MiB, 0.01), (64 * KiB, 0.5)])
def test_lanes_that_are_late_fill_the_limit_together(rate: int, delay: float) -> None:
    link = Link(Timetable(((0, rate),)), lanes=64, delay=delay)
    link.run(6.0)
    assert all(rate * 0.95 <= found <= rate * 1.05 for found in link.windows())


def test_what_a_slow_source_left_unused_is_not_made_up_for() -> None:
    watch = Time()
    throttle = Throttle(timetable("1MiB"), watch, clock=lambda: watch.now)
    throttle.take(KiB)
    watch.now += 3600
    begun = watch.now
    for _ in range(1024):
        throttle.take(KiB)
    assert 0.94 <= watch.now - begun <= 1.0


@pytest.mark.parametrize("rate", [KiB, 64 * KiB, MiB])
def test_no_connection_is_silent_for_long_however_low_the_limit(rate: int) -> None:
    link = Link(Timetable(((0, rate),)), lanes=64, chunk=MiB)
    link.run(60.0)
    assert link.longest_gap < SILENCE * 0.7


def test_the_timetable_is_kept_and_the_night_is_free() -> None:
    watch = Time()
    clock = {"minute": 7 * 60 + 59}
    throttle = Throttle(
        timetable("08:00,1MiB 20:00,off"), watch, clock=lambda: watch.now, minute=lambda: clock["minute"]
    )
    throttle.take(1 << 40)
    assert watch.now == 1000.0
    assert throttle.chunk > 1 << 40
    clock["minute"] += 1
    watch.now += 1.0
    for _ in range(3 * 64):
        throttle.take(MiB // 64)
    assert watch.now == pytest.approx(1004.0, rel=0.0001)
    assert throttle.chunk == MiB // 64
    throttle.take(3600 * MiB)
    clock["minute"] = 20 * 60
    throttle.take(1)
    assert watch.now == pytest.approx(1005.0, rel=0.0001), "who waits sees that the limit is off"


def test_the_times_are_those_of_the_pods_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    here = minute_of_day()
    monkeypatch.setenv("TZ", "XXX-3")
    time.tzset()
    there = minute_of_day()
    monkeypatch.undo()
    time.tzset()
    assert (there - here) % 1440 in {180, 181}


def test_without_a_limit_a_read_is_the_sources_own() -> None:
    throttle = Throttle(None, Time())
    view = memoryview(bytearray(9))
    assert throttle.read(len, view) == 9
    throttle.take(1 << 60)


def test_a_read_that_breaks_has_used_nothing() -> None:
    watch = Time()
    throttle = Throttle(timetable("64KiB"), watch, clock=lambda: watch.now)

    def breaks(view: memoryview) -> int:
        raise Transient("the source closed the connection")

    for _ in range(100):
        with pytest.raises(Transient):
            throttle.read(breaks, memoryview(bytearray(MiB)))
    assert watch.now == 1000.0


def test_who_waits_is_woken_by_the_stop_switch() -> None:
    stop = StopSwitch()
    throttle = Throttle(timetable("1KiB"), stop)
    throttle.take(1 << 30)
    errors = []

    def lane() -> None:
        with pytest.raises(Interrupted) as caught:
            throttle.take(1)
        errors.append(caught.value)

    lanes = [threading.Thread(target=lane, daemon=True) for _ in range(3)]
    for each in lanes:
        each.start()
    stop.throw(Interrupted())
    for each in lanes:
        each.join(timeout=60)
    assert len(errors) == 3
