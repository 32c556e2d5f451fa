"""The engine when it has to end early: permanent errors, stops, deadlines; what is open stays for a resume."""

import os
import threading
from collections.abc import Callable

import pytest

from syncer.errors import (
    CredentialsRefused,
    DeadlinePassed,
    InternalError,
    Interrupted,
    OutOfSpace,
    SyncerError,
    Transient,
)
from syncer.manifest import ModelFile
from syncer.schedule import Sizing
from syncer.stop import StopSwitch
from syncer.stores.protocols import Cut, Upload
from tests.support.carrying import LIMITS, Bench, KiB, lanes, pattern
from tests.support.injured import FullDestination, RefusingDestination, SilentDestination, SilentSource
from tests.support.memory_store import CopyingDestination, MemoryDestination, MemorySource
from tests.support.watching import Hooked, Parts, changing
from tests.support.whole import WholeDestination, WholeSink, WholeSource, WholeUpload

ONE_LANE = Sizing(lanes=1)


# Errors that cannot be helped ---------------------------------------------------------------------------------------


def test_the_first_permanent_error_stops_all_and_leaves_the_others_to_a_resume() -> None:
    bench = Bench(sizing=Sizing(lanes=4))
    bench.fill({"large": pattern(40 * bench.part), "refused": b"abc"})
    under_way, begun = threading.Event(), threading.Event()
    refusing: list[threading.Thread] = []

    def hook(path: str, offset: int) -> None:
        if path == "refused":
            refusing.append(threading.current_thread())
            begun.set()
            under_way.wait(30)
            raise CredentialsRefused("no")
        if offset > 0:
            under_way.set()
            begun.wait(30)
            refusing[0].join(30)  # a lane ends with its error

    bench.source = Hooked(bench, hook)
    bench.destination = parts = Parts(bench, lambda _path, _index, sink: sink)
    with pytest.raises(CredentialsRefused) as caught:
        bench.carry()
    assert caught.value.path == "refused"
    assert bench.arrived() == {}
    assert parts.suspended.count("large") == 1
    assert [upload.path for upload in parts.open_uploads() if upload.path == "large"] == ["large"]
    assert parts.aborted == []
    assert bench.here.bytes_read < 40 * bench.part


def test_after_a_permanent_error_no_lane_reads_another_chunk() -> None:
    bench = Bench(part=512 * KiB, sizing=Sizing(lanes=2))
    bench.fill({"large": pattern(2 * bench.part), "refused": b"abc"})
    under_way, begun = threading.Event(), threading.Event()
    refusing: list[threading.Thread] = []
    read_then: list[int] = []

    def hook(path: str, offset: int) -> None:
        if path == "refused":
            refusing.append(threading.current_thread())
            begun.set()
            under_way.wait(30)
            raise CredentialsRefused("no")
        if offset > 0:
            under_way.set()
            begun.wait(30)
            refusing[0].join(30)  # a lane ends with its error
            read_then.append(bench.here.bytes_read)

    bench.source = Hooked(bench, hook)
    with pytest.raises(CredentialsRefused):
        bench.carry()
    assert len(read_then) == 1
    assert bench.here.bytes_read <= read_then[0] + 64 * KiB


@pytest.mark.parametrize(
    ("injured", "error"),
    [
        (RefusingDestination, CredentialsRefused),
        (lambda whole: FullDestination(whole, room=100 * KiB), OutOfSpace),
    ],
    ids=["refusing", "full"],
)
def test_a_destination_that_takes_nothing_ends_the_run(
    injured: Callable[[MemoryDestination], WholeDestination], error: type[SyncerError]
) -> None:
    bench = Bench()
    bench.fill({"large": pattern(10 * bench.part), "small": b"abc"})
    assert isinstance(bench.destination, MemoryDestination)
    bench.destination = injured(bench.destination)
    with pytest.raises(error):
        bench.carry()
    assert bench.pauses == []


def test_buffers_that_wait_for_their_turn_come_back_when_the_run_fails() -> None:
    bench = Bench(sizing=Sizing(lanes=2))
    bench.fill({"large": pattern(2 * bench.part)})
    second_is_there = threading.Event()

    def hook(_path: str, offset: int) -> None:
        if offset == 0:
            assert second_is_there.wait(30)
            raise CredentialsRefused("no")

    class Telling(WholeSink):
        def finish(self) -> None:
            super().finish()
            second_is_there.set()

    bench.source = Hooked(bench, hook)
    bench.destination = Parts(bench, lambda _path, _index, sink: Telling(sink))
    with pytest.raises(CredentialsRefused):
        bench.carry()  # which looks at the budget


def test_a_bug_in_a_lane_ends_the_run_as_one() -> None:
    bench = Bench()
    bench.fill({"large": pattern(5 * bench.part)})

    def hook(_path: str, _offset: int) -> None:
        raise ZeroDivisionError

    bench.source = Hooked(bench, hook)
    with pytest.raises(InternalError, match="ZeroDivisionError") as caught:
        bench.carry()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_server_copy_that_breaks_is_tried_again() -> None:
    bench = Bench()
    left = [1, 2]

    class Breaking(CopyingDestination):
        def copy_inside(self, source: object, file: ModelFile) -> str | None:
            if left:
                left.pop()
                raise Transient("busy")
            return super().copy_inside(source, file)  # type: ignore[arg-type]  # the bench's source

    bench.source = MemorySource(bench.here, "model/")
    bench.destination = Breaking(bench.here, "copy/", limits=LIMITS)
    bench.fill({"a": b"abc"})
    assert bench.carry().records["a"].proved_by == "server-copy"
    assert len(bench.pauses) == 2


# Stops --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relayed", [False, True])
def test_a_stop_ends_within_a_chunk_and_leaves_the_upload_to_a_resume(relayed: bool) -> None:
    bench = Bench(part=200 * KiB, sizing=Sizing(lanes=1, memory=256 * KiB if relayed else 512 * KiB))
    data = pattern(1000 * KiB)
    bench.fill({"large": data})

    def hook(_path: str, offset: int) -> None:
        if offset >= 300 * KiB:
            bench.stop.throw(Interrupted())

    bench.source = source = Hooked(bench, hook)
    bench.destination = parts = Parts(bench, lambda _path, _index, sink: sink)
    with pytest.raises(Interrupted) as caught:
        bench.carry()
    assert caught.value.path == "", "a stop is about the run, not about the file that heard it first"
    assert bench.here.bytes_read <= 300 * KiB + 2 * 64 * KiB
    assert (source.open, parts.suspended, parts.aborted) == (0, ["large"], [])

    (left,) = parts.open_uploads()
    assert len(bench.there.uploads[left.token].parts) == 1
    bench.stop = StopSwitch()
    bench.source, bench.destination = MemorySource(bench.here), MemoryDestination(bench.there, limits=LIMITS)
    bench.here.bytes_read = 0
    bench.carry(bench.task("large", resume=left.token))
    assert bench.arrived() == {"large": data}
    assert bench.here.bytes_read == 800 * KiB


def test_a_stop_between_two_files_is_a_stop() -> None:
    """No file is under way at that moment, and still not all are done."""
    bench = Bench(sizing=ONE_LANE)
    bench.fill({f"{n}": b"abc" for n in range(10)})

    class Stopping(WholeDestination):
        def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
            class Ending(WholeUpload):
                def finish(self) -> str:
                    version = super().finish()
                    if len(bench.arrived()) == 3:
                        bench.stop.throw(Interrupted())
                    return version

            return Ending(super().begin(file, cut, resume=resume))

    bench.destination = Stopping(bench.destination)
    with pytest.raises(Interrupted):
        bench.carry()
    assert len(bench.arrived()) == 3
    assert bench.errand is not None
    assert len(bench.errand.records) == 3, "what is finished stays finished"


def test_a_stop_after_the_last_file_comes_too_late() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"a": b"abc"})

    class Stopping(WholeDestination):
        def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
            class Ending(WholeUpload):
                def finish(self) -> str:
                    version = super().finish()
                    bench.stop.throw(Interrupted())
                    return version

            return Ending(super().begin(file, cut, resume=resume))

    bench.destination = Stopping(bench.destination)
    assert list(bench.carry().records) == ["a"]


def test_a_run_that_was_stopped_before_it_began_reads_nothing() -> None:
    bench = Bench()
    bench.fill({"large": pattern(5 * bench.part)})
    bench.stop.throw(Interrupted())
    with pytest.raises(Interrupted):
        bench.carry()
    assert bench.here.requests["read"] == 0


@pytest.mark.parametrize("silent", [SilentSource, SilentDestination])
def test_a_stop_wakes_lanes_at_a_silent_peer(silent: type[SilentSource] | type[SilentDestination]) -> None:
    bench = Bench(sizing=Sizing(lanes=4))
    bench.fill({"large": pattern(8 * bench.part), "small": b"abc"})
    if silent is SilentSource:
        bench.source = peer = SilentSource(bench.source)
    else:
        bench.destination = peer = SilentDestination(bench.destination)  # type: ignore[assignment]

    def stop() -> None:
        peer.reached.wait(30)
        bench.stop.throw(Interrupted())

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Interrupted):
        bench.carry()
    stopper.join(30)
    assert peer.interrupted.is_set()
    assert bench.arrived() == {}


def test_nothing_is_opened_after_a_stop() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})

    def break_and_stop(_path: str, offset: int) -> None:
        if offset:
            bench.stop.throw(Interrupted())
            raise Transient("interrupted")

    bench.part = 200 * KiB
    bench.source = source = Hooked(bench, break_and_stop)
    with pytest.raises(Interrupted):
        bench.carry()
    assert source.reads["large"] == 1


def test_a_lane_that_nothing_wakes_is_left_behind_after_the_grace() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 2.0  # every look at the clock takes so long
        return now[0]

    bench = Bench(sizing=ONE_LANE, clock=clock)
    bench.fill({"file": b"abc"})
    go = threading.Event()

    def hang(_path: str, _offset: int) -> None:
        bench.stop.throw(Interrupted())
        go.wait(30)

    bench.source = Hooked(bench, hang)
    with pytest.raises(AssertionError, match="every buffer came back") as caught:
        bench.carry()
    assert isinstance(caught.value.__context__, Interrupted), "the run itself ended with the stop's error"
    assert lanes() == ["lane-0"]
    go.set()
    for thread in threading.enumerate():
        if thread.name == "lane-0":
            thread.join(30)
    assert bench.budget.reserved == 0


def test_a_stop_while_a_file_starts_again_is_a_stop() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})

    class Looking(WholeSource):
        def look_again(self, file: ModelFile) -> ModelFile:
            bench.stop.throw(Interrupted())
            raise Transient("interrupted")

    bench.source = Looking(changing(bench, "large", [pattern(3 * bench.part, 1)]))
    with pytest.raises(Interrupted):
        bench.carry()


def test_the_deadline_stops_the_run() -> None:
    now = [0.0]
    bench = Bench(sizing=ONE_LANE, stop=StopSwitch(deadline=10.0, clock=lambda: now[0]))
    bench.fill({"large": pattern(10 * bench.part)})

    def age(_path: str, _offset: int) -> None:
        now[0] += 3.0

    bench.source = Hooked(bench, age)
    with pytest.raises(DeadlinePassed) as caught:
        bench.carry()
    assert caught.value.exit_code == os.EX_UNAVAILABLE
    assert bench.here.bytes_read == 4 * bench.part
