"""Where lanes run, on cores that a test made up, and once on real ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection

import pytest

from syncer.affinity import Affinity, bind, core_of
from syncer.control_groups import usable_cores
from syncer.tempo import Look

KiB = 1024
LANES = (11, 12, 13)
EVERY = frozenset({0, 1, 2, 3})


class Bench:
    """Four cores, and lanes that carry files of one size at one speed."""

    def __init__(self, cores: frozenset[int] = EVERY, *, refuses: type[OSError] | None = None) -> None:
        self.at: dict[int, Collection[int]] = {}
        self.ran_on = 2
        self.refuses = refuses
        self.now, self.parts, self.moved = 0.0, 0, 0
        self.affinity = Affinity(cores=lambda: cores, core_of=lambda _thread: self.ran_on, bind=self.bind)
        self.affinity.look(Look(now=0.0, moved=0), LANES)

    def bind(self, thread: int, cores: Collection[int]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.at[thread] = set(cores)

    def look(self, *, files: int, size: int, lanes: Collection[int | None] = LANES, seconds: float = 0.2) -> None:
        self.now += seconds
        self.parts += files
        self.moved += files * size
        self.affinity.look(Look(now=self.now, moved=self.moved, parts=self.parts), lanes)


def test_small_files_gather_the_lanes_on_the_core_where_one_of_them_is() -> None:
    bench = Bench()
    bench.look(files=500, size=10 * KiB)
    assert bench.at == {11: {2}, 12: {2}, 13: {2}}


def test_a_lane_that_comes_later_joins_the_others() -> None:
    bench = Bench()
    bench.look(files=500, size=10 * KiB)
    bench.ran_on = 0
    bench.look(files=500, size=10 * KiB, lanes=(*LANES, 14, None))
    assert bench.at[14] == {2}


@pytest.mark.parametrize(
    ("files", "size"), [(300, 1024 * KiB), (10, 10 * KiB), (0, 0)], ids=["larger", "few a second", "none"]
)
def test_lanes_are_let_go_when_other_work_comes(files: int, size: int) -> None:
    bench = Bench()
    bench.look(files=files, size=size)
    assert bench.at == {}
    bench.look(files=500, size=10 * KiB)
    bench.look(files=files, size=size)
    assert bench.at == dict.fromkeys(LANES, EVERY)


def test_lanes_are_let_go_when_large_files_are_under_way() -> None:
    bench = Bench()
    bench.look(files=500, size=10 * KiB)
    bench.look(files=500, size=10 * KiB, lanes=())
    assert bench.at == dict.fromkeys(LANES, EVERY)


def test_the_kernel_may_choose_another_core_now_and_then() -> None:
    bench = Bench()
    for _ in range(26):
        bench.look(files=500, size=10 * KiB)
    assert bench.at == dict.fromkeys(LANES, EVERY)
    bench.ran_on = 3
    bench.look(files=500, size=10 * KiB)
    assert bench.at == {lane: {3} for lane in LANES}


def test_one_core_alone_is_nothing_to_choose_from() -> None:
    bench = Bench(frozenset({2}))
    bench.look(files=500, size=10 * KiB)
    assert bench.at == {}


def test_a_core_that_is_not_ours_is_none_to_gather_on() -> None:
    bench = Bench(frozenset({0, 1}))
    bench.look(files=500, size=10 * KiB)
    assert bench.at == {}


@pytest.mark.parametrize("refusal", [ProcessLookupError, PermissionError, OSError])
def test_a_refusal_is_no_fault(refusal: type[OSError]) -> None:
    bench = Bench(refuses=refusal)
    bench.look(files=500, size=10 * KiB)
    bench.look(files=1, size=10 * KiB)
    assert bench.at == {}


@pytest.mark.skipif(
    len(usable_cores()) < 2 or core_of(threading.get_native_id()) not in usable_cores(),
    reason="one core alone, or nobody tells which",
)
def test_a_real_thread_is_put_on_the_core_it_ran_on_and_let_go() -> None:
    over, begun = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        over.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        begun.wait(20)
        lane = thread.native_id
        assert lane is not None
        affinity = Affinity()
        affinity.look(Look(now=0.0, moved=0), [lane])
        affinity.look(Look(now=0.2, moved=100, parts=100), [lane])
        assert os.sched_getaffinity(lane) == {core_of(lane)}
        affinity.look(Look(now=0.4, moved=100, parts=100), [lane])
        assert os.sched_getaffinity(lane) == usable_cores()
        assert os.sched_getaffinity(0) == usable_cores(), "whoever looks stays where it is"
    finally:
        over.set()
        thread.join(20)
    with pytest.raises(ProcessLookupError):
        bind(lane, {0})
    assert core_of(lane) is None
