"""The engine in a pod that may have fewer threads than lanes would pay."""

import os
import threading
from collections.abc import Callable

import pytest

from syncer.errors import ConfigurationError
from syncer.manifest import ModelFile
from syncer.schedule import Sizing
from syncer.stores.protocols import Body
from syncer.tempo import Look
from syncer.transfer import Engine
from syncer.verify import read_back
from tests.support import few_threads
from tests.support.carrying import Bench, lanes, pattern, sha256
from tests.support.watching import Hooked
from tests.support.whole import WholeDestination


def await_that(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError("it never came true")


@pytest.mark.parametrize(("most", "left"), [(1, 1), (2, 1), (5, 4)])
def test_a_run_goes_on_with_the_lanes_that_it_got_and_asks_for_no_more(
    most: int, left: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of them ends, so that whatever else needs a thread finds one."""
    bench = Bench(sizing=Sizing(lanes=8))
    files = {"large": pattern(40 * bench.part + 5), "other": pattern(3 * bench.part, 1), "small": b"abc", "empty": b""}
    bench.fill(files)
    busy: list[int] = []

    def hook(_path: str, _offset: int) -> None:
        busy.append(len(lanes()))
        await_that(lambda: bench.progress.lanes == left)

    bench.source = Hooked(bench, hook)
    refused = few_threads.allow(monkeypatch, lambda _thread: len(lanes()) < most)
    errand = bench.carry()
    assert bench.arrived() == files
    assert {path: record.digests for path, record in errand.records.items()} == {
        path: {"sha256": sha256(data)} for path, data in files.items()
    }
    assert len(refused) == 1, "it was told once"
    assert max(busy) <= most
    assert bench.progress.snapshot().lanes == left
    said = capsys.readouterr().err
    assert said.count("no thread may be started") == 1
    assert "pids" in said


def test_a_run_that_grows_stops_at_what_the_pod_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(sizing=Sizing(lanes=2, most=8))
    data = pattern(60 * bench.part)
    bench.fill({"large": data})
    made: list[tuple[int, int]] = []
    refused = few_threads.allow(monkeypatch, lambda _thread: len(lanes()) < 4)
    told = threading.Event()

    class Pacing:
        def __init__(self, *, most: int, start: int, cores: float) -> None:
            assert cores > 0
            self.most = most
            made.append((most, start))
            if len(made) == 2:
                told.set()

        def look(self, look: Look) -> int:
            assert look.cpu > 0
            return self.most

    def hook(_path: str, offset: int) -> None:
        if offset >= 30 * bench.part:
            assert told.wait(30)

    monkeypatch.setattr("syncer.transfer.Tempo", Pacing)
    bench.source = Hooked(bench, hook)
    bench.carry()
    assert bench.arrived() == {"large": data}
    assert made == [(8, 2), (3, 3)]
    assert len(refused) == 1


def test_an_engine_remembers_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(sizing=Sizing(lanes=6))
    files = {f"{n}": b"%d" % n for n in range(8)}
    bench.fill(files)
    bench.carry()
    refused = few_threads.allow(monkeypatch, lambda _thread: len(lanes()) < 3)
    engine = Engine(bench.sizing, bench.stop, bench.progress, bench.patience)

    class Waiting(WholeDestination):
        def read(self, file: ModelFile, start: int, length: int) -> Body:
            await_that(lambda: engine.sizing.most_lanes == 2)
            return super().read(file, start, length)

    for _ in range(2):
        digests, failures = read_back(engine, Waiting(bench.destination), bench.destination.listing().files.values())
        assert failures == {}
        assert digests == {path: {"sha256": sha256(data)} for path, data in files.items()}
    assert (len(refused), engine.sizing.most_lanes) == (1, 2)


def test_no_lane_is_started_for_work_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine looks when the last byte has arrived and all lanes are about to end."""
    bench = Bench(sizing=Sizing(lanes=2, most=2))
    bench.fill({"large": pattern(4 * bench.part)})
    started: list[str] = []

    def may_start(thread: threading.Thread) -> bool:
        started.append(thread.name)
        return True

    def clock() -> float:
        if threading.current_thread() is threading.main_thread():
            await_that(lambda: not lanes())
        return 0.0

    few_threads.allow(monkeypatch, may_start)
    bench.clock = clock
    bench.carry()
    assert started == ["lane-0", "lane-1"]


def test_without_a_single_thread_a_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.fill({"large": pattern(3 * bench.part), "small": b"abc"})
    refused = few_threads.allow(monkeypatch, lambda _thread: False)
    with pytest.raises(ConfigurationError, match="no thread may be started") as caught:
        bench.carry()
    assert caught.value.exit_code == os.EX_CONFIG
    assert "limit of processes (pids)" in caught.value.hint
    assert len(refused) == 1
    assert bench.arrived() == {}
    assert bench.there.uploads == {}
