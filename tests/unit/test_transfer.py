"""The engine when all goes well: every byte arrives once, hashed in order, by as many lanes as there are, in bounded
memory.  What breaks is in test_transfer_faults.py."""

import threading
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from syncer.digests import FileHash
from syncer.flight import Task
from syncer.lane import Lane
from syncer.manifest import ModelFile
from syncer.memory import MiB
from syncer.schedule import Sizing
from syncer.stores.protocols import Body, Limits, PartSink
from syncer.tempo import Look
from syncer.window import LONGEST_WAIT_SECONDS
from tests.support.carrying import LIMITS, Bench, KiB, lanes, pattern, sha256
from tests.support.memory_store import CopyingDestination, MemoryDestination, MemorySource
from tests.support.watching import Hooked, Parts
from tests.support.whole import WholeSink, WholeSource

PATIENCE = 30.0


def test_one_large_file_is_carried_by_all_lanes_at_once() -> None:
    bench = Bench(sizing=Sizing(lanes=8))
    data = pattern(8 * bench.part)
    bench.fill({"large": data})
    meeting = threading.Barrier(8)

    class Meeting(WholeSource):
        def read(self, file: ModelFile, start: int, length: int) -> Body:
            meeting.wait(PATIENCE)  # broken, and so red, unless eight parts are under way at the same moment
            return super().read(file, start, length)

    bench.source = Meeting(bench.source)
    errand = bench.carry()
    assert bench.arrived() == {"large": data}
    record = errand.records["large"]
    assert (record.digests, record.proved_by) == ({"sha256": sha256(data)}, "stream")
    assert record.destination_version == bench.there.objects["model/large"].version


@pytest.mark.parametrize("size", [0, 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 5 * 64 * KiB, 5 * 64 * KiB + 17])
def test_sizes_at_the_edges_arrive_whole(size: int) -> None:
    bench = Bench()
    data = pattern(size)
    bench.fill({"file": data})
    errand = bench.carry()
    assert bench.arrived() == {"file": data}
    assert errand.records["file"].digests == {"sha256": sha256(data)}
    assert bench.here.bytes_read == bench.there.bytes_sent == size
    assert bench.here.requests["read"] == -(-size // bench.part), "nothing is read of an empty file"


def test_parts_that_end_in_reverse_order_are_hashed_in_order() -> None:
    bench = Bench(sizing=Sizing(lanes=6))
    data = pattern(6 * bench.part)
    bench.fill({"large": data})
    ended = [threading.Event() for _ in range(7)]
    ended[6].set()

    class Telling(WholeSink):
        def __init__(self, index: int, sink: PartSink) -> None:
            super().__init__(sink)
            self.index = index

        def finish(self) -> None:
            super().finish()
            ended[self.index].set()

    # A part is read only after the one behind it has ended, so all six must be under way.
    bench.source = Hooked(bench, lambda _path, offset: ended[offset // bench.part + 1].wait(PATIENCE))
    bench.destination = Parts(bench, lambda _path, index, sink: Telling(index, sink))
    assert bench.carry().records["large"].digests == {"sha256": sha256(data)}
    assert bench.arrived() == {"large": data}


def test_memory_stays_within_the_setting_and_all_of_it_is_used() -> None:
    bench = Bench(sizing=Sizing(lanes=8, memory=8 * 16 * KiB))
    files = {f"large-{n}": pattern(7 * bench.part + n, n) for n in range(3)} | {f"small-{n}": b"x" for n in range(30)}
    bench.fill(files)
    meeting = threading.Barrier(8)
    to_meet = list(range(8))

    class Meeting(WholeSource):
        def read(self, file: ModelFile, start: int, length: int) -> Body:
            if to_meet:
                to_meet.pop()
                meeting.wait(PATIENCE)
            return super().read(file, start, length)

    bench.source = Meeting(bench.source)
    bench.carry()
    assert bench.arrived() == files
    assert bench.budget.most == 8 * 16 * KiB


def test_thousands_of_small_files_take_one_request_each() -> None:
    bench = Bench(sizing=Sizing(lanes=8, memory=MiB))
    files = {f"{n % 7}/{n}": b"%d" % n for n in range(2500)}
    bench.fill(files)
    errand = bench.carry()
    assert bench.arrived() == files
    assert bench.here.requests == {"list": 1, "read": 2500}
    assert {path: record.digests["sha256"] for path, record in errand.records.items()} == {
        path: sha256(data) for path, data in files.items()
    }
    assert bench.budget.most <= MiB


def test_progress_counts_every_byte_once() -> None:
    bench = Bench()
    bench.fill({"large": pattern(300 * KiB), "small": b"abc", "empty": b""})
    bench.carry()
    seen = bench.progress.snapshot()
    assert (seen.done_bytes, seen.total_bytes) == (300 * KiB + 3, 300 * KiB + 3)
    assert (seen.done_files, seen.in_flight) == (3, ())


# More than memory can hold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [64 * KiB, 300 * KiB, 3 * MiB], ids=["many", "few", "larger than memory"])
def test_memory_much_smaller_than_what_is_under_way_is_enough(part: int) -> None:
    bench = Bench(part=part, sizing=Sizing(lanes=16, memory=512 * KiB))
    files = {f"large-{n}": pattern(3 * MiB + MiB // 2 + n, n) for n in range(2)} | {"small": b"abc"}
    bench.fill(files)
    errand = bench.carry()
    assert bench.arrived() == files
    assert {path: record.digests["sha256"] for path, record in errand.records.items()} == {
        path: sha256(data) for path, data in files.items()
    }
    assert bench.budget.most <= 512 * KiB
    assert bench.here.bytes_read == sum(map(len, files.values())), "nothing is read twice"


def test_one_file_of_many_lanes_passes_through_a_few_chunks() -> None:
    """All lanes are ahead of the first, which goes on last."""
    bench = Bench(sizing=Sizing(lanes=4, memory=9 * 16 * KiB))
    data = pattern(6 * bench.part)
    bench.fill({"large": data})
    others = threading.Semaphore(0)

    def hook(_path: str, offset: int) -> None:
        if offset == 0:
            for _ in range(3):
                assert others.acquire(timeout=PATIENCE)
        elif offset % bench.part == 0:
            others.release()

    bench.source = Hooked(bench, hook)
    assert bench.carry().records["large"].digests == {"sha256": sha256(data)}
    assert bench.arrived() == {"large": data}
    assert bench.budget.most <= 9 * 16 * KiB


def test_a_lane_that_waits_for_memory_in_vain_gives_its_part_back_and_it_is_read_again() -> None:
    """The first part makes no way for so long that stores would close the other connections."""
    now = [0.0]
    stalled = threading.Event()

    def clock() -> float:
        now[0] += 0.0 if stalled.is_set() else LONGEST_WAIT_SECONDS
        return now[0]

    bench = Bench(sizing=Sizing(lanes=2, memory=3 * 16 * KiB), clock=clock)
    data = pattern(3 * bench.part)
    bench.fill({"large": data})

    class Telling(WholeSink):
        def cancel(self) -> None:
            super().cancel()
            stalled.set()

    def hook(_path: str, offset: int) -> None:
        if offset == 0:
            assert stalled.wait(PATIENCE)

    bench.source = source = Hooked(bench, hook)
    bench.destination = Parts(bench, lambda _path, _index, sink: Telling(sink))
    assert bench.carry().records["large"].digests == {"sha256": sha256(data)}
    assert bench.arrived() == {"large": data}
    assert len(data) < bench.here.bytes_read < 2 * len(data)
    assert (bench.pauses, source.open) == ([], 0), "that is nobody's failure"
    assert bench.progress.snapshot().done_bytes == len(data)


@pytest.mark.parametrize("lanes", [1, 5])
def test_digests_that_need_no_order_need_no_memory_but_the_lanes_own(lanes: int) -> None:
    bench = Bench(sizing=Sizing(lanes=lanes, memory=lanes * 16 * KiB))
    data = pattern(5 * bench.part + 1)
    bench.fill({"large": data, "small": b"abc"})
    errand = bench.carry(digest="crc64nvme")
    whole = FileHash(["crc64nvme"], len(data))
    whole.update(memoryview(data))
    assert errand.records["large"].digests == whole.digests()
    assert bench.arrived() == {"large": data, "small": b"abc"}
    assert bench.budget.most <= lanes * 16 * KiB


def await_lanes(count: int) -> None:
    pause = threading.Event()
    while len(lanes()) > count:
        pause.wait(0.01)


def test_lanes_come_and_go_as_the_tempo_says_and_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lanes to begin with, which wait for six others; these end when there are to be two again, and come back."""
    bench = Bench(sizing=Sizing(lanes=2, most=8))
    data = pattern(100 * bench.part)
    bench.fill({"large": data})
    meeting = threading.Barrier(8)
    wanted = [8]
    few = threading.Event()
    made: list[Lane] = []

    class Pacing:
        def __init__(self, *, most: int, start: int, cores: float) -> None:
            assert (most, start) == (8, 2)
            assert cores > 0

        def look(self, _look: Look) -> int:
            if wanted[0] == 2:
                few.set()
            return wanted[0]

    def counted(*args: Any) -> Lane:
        made.append(Lane(*args))
        return made[-1]

    def hook(_path: str, offset: int) -> None:
        index = offset // bench.part
        if index < 8 or 60 <= index < 68:
            meeting.wait(PATIENCE)
            return
        if index == 30:
            wanted[0] = 2
        if index >= 30:
            assert few.wait(PATIENCE)
        if index == 45:
            await_lanes(2)
            wanted[0] = 8

    monkeypatch.setattr("syncer.transfer.Tempo", Pacing)
    monkeypatch.setattr("syncer.transfer.Lane", counted)
    bench.source = Hooked(bench, hook)
    bench.carry()
    assert bench.arrived() == {"large": data}
    assert bench.progress.snapshot().lanes == 8
    assert len(made) == 8
    assert bench.progress.figures().read_bytes == len(data)


# Without the bytes, or without all of them --------------------------------------------------------------------------


def test_a_store_that_copies_by_itself_needs_no_byte_from_here() -> None:
    bench = Bench()
    bench.source = MemorySource(bench.here, "model/")
    bench.destination = CopyingDestination(bench.here, "copy/", limits=LIMITS)
    data = pattern(300 * KiB)
    bench.fill({"large": data, "small": b"abc"})
    errand = bench.carry()
    assert {bench.here.objects[key].data for key in ("copy/large", "copy/small")} == {data, b"abc"}
    assert bench.here.bytes_read == 0
    assert {record.proved_by for record in errand.records.values()} == {"server-copy"}
    assert bench.progress.snapshot().done_bytes == 300 * KiB + 3


def test_a_store_that_refuses_to_copy_is_asked_once_and_fed_by_hand() -> None:
    bench = Bench(sizing=Sizing(lanes=1))
    asked: list[str] = []

    class Refusing(CopyingDestination):
        def copy_inside(self, source: object, file: ModelFile) -> None:
            asked.append(file.path)

    bench.destination = Refusing(bench.there, limits=LIMITS)
    bench.fill({f"{n}": b"%d" % n for n in range(5)})
    errand = bench.carry()
    assert len(bench.arrived()) == 5
    assert len(asked) == 1
    assert {record.proved_by for record in errand.records.values()} == {"stream"}


def left_there(bench: Bench, data: bytes, parts: Collection[int]) -> Task:
    """A task to go on with an upload that has `parts` already."""
    (task,) = bench.tasks()
    upload = MemoryDestination(bench.there, limits=LIMITS).begin(task.file, task.cut)
    for index in parts:
        sink = upload.open_part(index)
        sink.send(memoryview(data)[task.cut.offset(index) :][: task.cut.length(index)])
        sink.finish()
    bench.there.bytes_sent = 0
    return replace(task, resume=upload.token)


@pytest.mark.parametrize("parts", [[0, 3], [0, 1, 2, 3, 4], [5]], ids=str)
def test_a_resumed_file_sends_the_rest_and_is_still_to_be_proved(parts: list[int]) -> None:
    bench = Bench()
    data = pattern(5 * bench.part + 5)
    bench.fill({"large": data})
    task = left_there(bench, data, parts)
    errand = bench.carry(task)
    assert bench.arrived() == {"large": data}
    assert bench.here.bytes_read == bench.there.bytes_sent == len(data) - sum(task.cut.length(n) for n in parts)
    assert errand.unseen == [task]
    assert errand.records == {}
    errand.whole_but_unproved(task, version="v1")
    assert errand.records["large"].awaits_proof
    errand.proved(task, {"sha256": sha256(data)})
    proved = errand.records["large"]
    assert (proved.proved_by, proved.digests, proved.destination_version) == (
        "readback",
        {"sha256": sha256(data)},
        "v1",
    )
    assert not proved.awaits_proof
    assert bench.progress.snapshot().done_bytes == len(data)
    assert bench.pauses == []


def test_a_resumed_file_of_which_nothing_is_missing_is_only_finished() -> None:
    bench = Bench()
    data = pattern(2 * bench.part)
    bench.fill({"large": data})
    errand = bench.carry(left_there(bench, data, [0, 1]))
    assert bench.arrived() == {"large": data}
    assert bench.here.bytes_read == 0
    assert len(errand.unseen) == 1


def test_content_types_come_with_the_bytes_and_cost_no_second_read() -> None:
    bench = Bench(limits=Limits(most_parts=10_000, keeps_content_type=True))
    bench.here.put("model/small", b"{}", content_type="application/json")
    bench.here.put("model/large", pattern(2 * bench.part), content_type="application/x-weights")
    tasks = [replace(task, file=replace(task.file, content_type="")) for task in bench.tasks()]
    bench.carry(*tasks)
    assert bench.there.objects["model/small"].content_type == "application/json"
    assert bench.there.objects["model/large"].content_type == "application/x-weights"
    assert bench.here.requests["read"] == 3
    assert bench.here.requests["look"] == 1


def test_lanes_are_gathered_where_small_files_alone_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(sizing=Sizing(lanes=2))
    bench.fill({"large": pattern(2 * bench.part)} | {f"small-{number}": b"abc" for number in range(4)})
    beside, alone = threading.Event(), threading.Event()
    shown: set[int | None] = set()

    class Seeing:
        def look(self, _look: Look, threads: Collection[int | None]) -> None:
            shown.update(threads)
            (alone if threads else beside).set()

    def hook(path: str, offset: int) -> None:
        if path == "large" and offset:
            assert beside.wait(PATIENCE), "nobody looked while the large file was under way"
            assert not alone.is_set()
        elif path == "small-3":
            assert alone.wait(PATIENCE), "no lane was to be gathered behind it"

    monkeypatch.setattr("syncer.transfer.Affinity", Seeing)
    bench.source = Hooked(bench, hook)
    bench.carry()
    assert threading.get_native_id() not in shown
