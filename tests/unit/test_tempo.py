"""The number of lanes on links that are simulated, from a seed: what the best fixed number brings is what counts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from syncer.memory import MiB
from syncer.schedule import LANES
from syncer.tempo import Look, Tempo

MOST = 64
STEP = 0.05
LOOK = 0.2
CORE = 700 * MiB
SEEDS = range(1, 4)


@dataclass
class Link:
    """What so many lanes bring a second; `rate(lanes, now)` has no noise.

    A new lane brings its first byte after `delay` seconds, and one that is not wanted any more ends after `part`
    seconds.  More lanes than `mercy` are answered 503, many of them.  Each of the `cores` serves 700 MiB a
    second.
    """

    rate: Callable[[float, float], float]
    noise: float = 0.1
    delay: float = 0.2
    part: float = 0.15
    mercy: int | None = None
    cores: float = 16
    seen: list[tuple[float, int, float]] = field(default_factory=list)

    def run(self, seconds: float, *, seed: int = 1, tempo: Tempo | None = None, fixed: int = LANES) -> float:
        """Bytes that were moved by a tempo, or by a fixed number of lanes."""
        chance = random.Random(seed)
        wanted = fixed if tempo is None else tempo.lanes
        ready = [self.delay] * wanted
        now = moved = refused = weather = 0.0
        next_look = 0.0
        while now < seconds:
            now += STEP
            working = sum(at <= now for at in ready)
            if self.mercy is not None and working > self.mercy:
                refused += 1
                for each in range(self.mercy // 2, len(ready)):
                    ready[each] = max(ready[each], now + 0.5)
                working = self.mercy // 2
            weather += (chance.gauss(0.0, self.noise) - weather) * STEP  # a second long, as neighbours are
            moved += STEP * self.rate(working, now) * max(0.0, chance.gauss(1.0 + 4 * weather, 2 * self.noise))
            if tempo is not None and now >= next_look:
                next_look += LOOK
                look = Look(now, int(moved), busy=len(ready), slow_downs=int(refused), cpu=moved / CORE)
                before, wanted, refused = wanted, tempo.look(look), 0
                if wanted < before:
                    ready = sorted(ready)[:wanted]
                ready += [now + self.delay] * (wanted - len(ready))
                self.seen.append((now, wanted, moved))
        return moved

    def best(self, seconds: float) -> float:
        """The most that any fixed number brings, of every fourth one, and without noise."""
        calm = replace(self, noise=0.0)
        return max(calm.run(seconds, fixed=lanes) for lanes in range(4, MOST + 1, 4))


def begun(cores: float = 16) -> Tempo:
    return Tempo(most=MOST, start=LANES, cores=cores)


def capped(each: float, shared: float) -> Callable[[float, float], float]:
    """A cap for each connection, and one for all of them."""
    return lambda lanes, now: min(lanes * each, shared) * MiB


def near(cores: float) -> Callable[[float, float], float]:
    """A near store: the cores are busy with few lanes, and every further lane costs a little."""
    return lambda lanes, now: min(lanes * 400 * MiB, cores * CORE) / (1 + 0.002 * lanes)


LINKS: dict[str, Callable[[], Link]] = {
    "far": lambda: Link(capped(45, 1e9)),
    "far, shared": lambda: Link(capped(45, 1200)),
    "far, less shared": lambda: Link(capped(30, 700)),
    "very far": lambda: Link(capped(10, 1e9), delay=0.8, part=1.0),
    "near": lambda: Link(near(2), cores=2),
    "near, slow to start": lambda: Link(lambda lanes, now: near(2)(lanes, now) * min(1.0, 0.4 + now), cores=2),
    "near, 16 cores": lambda: Link(near(16)),
    "one is enough": lambda: Link(capped(500, 480)),
    "twenty": lambda: Link(capped(50, 1000)),
    "faster later": lambda: Link(lambda lanes, now: min(lanes * 30, 200 if now < 60 else 1200) * MiB),
    "slower later": lambda: Link(lambda lanes, now: min(lanes * (60 if now < 60 else 10), 500) * MiB),
    "mercy": lambda: Link(capped(45, 1e9), mercy=40),
    "little mercy": lambda: Link(capped(45, 1e9), mercy=12),
}


@pytest.mark.parametrize("name", LINKS)
def test_nine_tenths_of_what_the_best_fixed_number_brings(name: str) -> None:
    seconds = 120.0 if "later" in name else 60.0
    best = LINKS[name]().best(seconds)
    cores = LINKS[name]().cores
    shares = [LINKS[name]().run(seconds, seed=seed, tempo=begun(cores)) / best for seed in SEEDS]
    assert sum(shares) / len(shares) >= 0.9


@pytest.mark.parametrize("name", ["near", "near, slow to start", "one is enough"])
def test_lanes_that_bring_nothing_are_not_kept(name: str) -> None:
    for seed in SEEDS:
        link = LINKS[name]()
        link.run(60.0, seed=seed, tempo=begun(link.cores))
        assert sum(lanes for _, lanes, _ in link.seen) / len(link.seen) < 16


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_run_over_a_long_way_has_its_lanes_in_time(seed: int) -> None:
    link = LINKS["far"]()
    link.run(4.0, seed=seed, tempo=begun())
    first = {lanes: now for now, lanes, _ in reversed(link.seen)}
    assert first[16] <= 1.1
    assert first[32] <= 2.0


def test_many_small_files_are_counted_and_not_weighed() -> None:
    tempo, files, now, most = begun(), 0.0, 0.0, 0
    while now < 5.0:
        files += LOOK * tempo.lanes / 0.04
        now += LOOK
        most = max(most, tempo.look(Look(now, 0, parts=int(files), busy=tempo.lanes)))
    assert most == MOST


class Steady:
    """A far link without noise, look by look."""

    def __init__(self, tempo: Tempo) -> None:
        self.tempo = tempo
        self.now = self.moved = 0.0

    def look(self, *, busy: int | None = None, held: int = 0, slow_downs: int = 0) -> int:
        self.now += LOOK
        self.moved += LOOK * self.tempo.lanes * 30 * MiB
        busy = self.tempo.lanes if busy is None else busy
        return self.tempo.look(Look(self.now, int(self.moved), busy=busy, held=held, slow_downs=slow_downs))

    def after(self, seconds: float, *, busy: int | None = None, held: int = 0) -> int:
        for _ in range(int(seconds / LOOK)):
            self.look(busy=busy, held=held)
        return self.tempo.lanes


def test_a_complaint_halves_the_lanes_at_once_and_echoes_are_not_heard() -> None:
    link = Steady(begun())
    assert link.after(10.0) == MOST
    assert link.look(slow_downs=3) == MOST // 2
    assert [link.look(slow_downs=3) for _ in range(3)] == [MOST // 2] * 3
    assert link.after(1.0) == MOST // 2
    assert MOST > link.after(20.0) >= MOST * 7 // 8, "near to what it complained about, and no nearer"
    assert link.after(80.0) == MOST, "a minute later it may have more room"


def test_who_goes_on_complaining_is_left_with_one_lane() -> None:
    link = Steady(begun())
    for _ in range(60):
        link.look(slow_downs=1)
    assert link.tempo.lanes == 1
    assert max(link.look() for _ in range(600)) == MOST


def test_where_memory_or_work_is_short_no_lane_is_added() -> None:
    assert Steady(begun()).after(10.0, held=2) == LANES
    assert Steady(begun()).after(10.0, busy=LANES // 2) == LANES


@pytest.mark.parametrize(("most", "start"), [(1, 8), (8, 8), (9, 8), (20, 20), (24, 8)])
def test_what_the_user_set_is_never_exceeded(most: int, start: int) -> None:
    tempo = Tempo(most=most, start=start, cores=16)
    link = Steady(tempo)
    assert max(link.look() for _ in range(200)) == most
    assert tempo.lanes <= most


def test_nothing_moved_and_nothing_is_concluded() -> None:
    tempo = begun()
    assert {tempo.look(Look(now / 4, 0, busy=LANES)) for now in range(400)} == {LANES}


def lanes_by_look(cpu: float, *, cores: float, lanes_bring: Callable[[int], float], looks: int) -> list[int]:
    """The numbers of a process that takes `cpu` seconds of each lane's second, while lanes bring MiB a second."""
    tempo, moved, used, seen = begun(cores), 0.0, 0.0, []
    for look in range(looks):
        seen.append(tempo.look(Look(look * LOOK, int(moved), busy=tempo.lanes, cpu=used)))
        moved += lanes_bring(tempo.lanes) * LOOK * MiB
        used += min(cores, cpu * tempo.lanes) * LOOK
    return seen


def test_an_idle_process_does_not_wait_for_a_measurement() -> None:
    assert lanes_by_look(0.01, cores=1, lanes_bring=lambda lanes: 8.0 * lanes, looks=6) == [4, 4, 8, 16, 32, 32]


def test_a_process_that_works_does_not_leap() -> None:
    assert lanes_by_look(0.1, cores=1, lanes_bring=lambda lanes: 8.0 * lanes, looks=4) == [4, 4, 4, 4]


def test_whether_a_process_is_idle_depends_on_what_it_may_use() -> None:
    assert lanes_by_look(0.1, cores=4, lanes_bring=lambda lanes: 8.0 * lanes, looks=4) == [4, 4, 8, 16]
    assert lanes_by_look(0.01, cores=0.1, lanes_bring=lambda lanes: 8.0 * lanes, looks=4) == [4, 4, 4, 4]


def test_lanes_that_cost_something_have_no_second_chance() -> None:
    def tries(more: float) -> int:
        seen = lanes_by_look(0.1, cores=1, lanes_bring=lambda lanes: 40.0 if lanes == LANES else more, looks=20)
        return seen.count(2 * LANES)

    assert (tries(40.0), tries(30.0)) == (8, 3)


def test_lanes_that_were_leapt_to_and_brought_nothing_are_let_go() -> None:
    seen = lanes_by_look(0.01, cores=1, lanes_bring=lambda lanes: 20.0, looks=25)
    assert max(seen) == 32
    assert seen[-1] <= 6


def test_no_more_lanes_than_the_cores_can_serve() -> None:
    assert max(lanes_by_look(0.24, cores=1, lanes_bring=lambda lanes: 8.0 * lanes, looks=300)) == LANES
    assert max(lanes_by_look(0.2, cores=2, lanes_bring=lambda lanes: 8.0 * lanes, looks=300)) == 10


def test_nothing_comes_for_a_while_in_the_middle_of_a_leap() -> None:
    tempo = begun(1)
    moved = (0, 1, 2, 2, 2, 3, 4)
    assert [tempo.look(Look(now * LOOK, by * MiB, busy=tempo.lanes)) for now, by in enumerate(moved)][-1] == 32
