"""The engine when a read or a write breaks: what goes on, what begins anew, and what is proved all the same."""

import threading
from dataclasses import replace

import pytest

from syncer.errors import (
    ConfigurationError,
    Transient,
)
from syncer.schedule import Sizing
from syncer.stores.protocols import PartSink
from tests.support.carrying import Bench, KiB, pattern, sha256
from tests.support.injured import FlakyDestination, FlakySource, FlippingSource, ShortSource
from tests.support.watching import Hooked, Parts
from tests.support.whole import WholeSink

ONE_LANE = Sizing(lanes=1)


# Reads that break ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_a_read_that_breaks_goes_on_at_the_byte_it_reached(times: int) -> None:
    bench = Bench(sizing=ONE_LANE)
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    bench.source = ShortSource(bench.source, after=bench.part + 1000, times=times)
    bench.source = source = Hooked(bench)
    errand = bench.carry()
    assert source.open == 0, "ranges that broke are closed, too"
    assert bench.arrived() == {"large": data}
    assert errand.records["large"].digests == {"sha256": sha256(data)}
    assert len(bench.pauses) == times // 2, "a range that had made way is opened again at once, the others back off"
    again = 1000 * (times // 2)  # after which the part begins anew
    assert bench.here.bytes_read == bench.there.bytes_sent == len(data) + again
    assert bench.here.requests["read"] == 3 + times
    assert bench.progress.snapshot().done_bytes == len(data)


def test_a_source_that_ends_a_part_early_and_politely_is_not_believed() -> None:
    bench = Bench(sizing=ONE_LANE)
    data = pattern(2 * bench.part)
    bench.fill({"large": data})
    bench.source = ShortSource(bench.source, after=1000, times=1, polite=True)
    errand = bench.carry()
    assert bench.arrived() == {"large": data}
    assert errand.records["large"].digests == {"sha256": sha256(data)}
    assert bench.here.bytes_read == len(data)


def test_ranges_that_cannot_be_opened_are_tried_again() -> None:
    bench = Bench()
    files = {"large": pattern(3 * 64 * KiB), "small": b"abc"}
    bench.fill(files)
    bench.source = FlakySource(bench.source, times=5)
    bench.carry()
    assert bench.arrived() == files
    assert len(bench.pauses) == 5


def test_a_read_that_never_works_ends_with_the_patience_and_names_the_file() -> None:
    bench = Bench()
    bench.fill({"deep/file": b"abc"})
    bench.source = FlakySource(bench.source, times=10**6)
    with pytest.raises(Transient, match="read failed") as caught:
        bench.carry()
    assert caught.value.path == "deep/file"
    assert 100.0 < sum(bench.pauses) < 300.0


# Writes that break --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["begin", "send", "finish_part", "finish"])
@pytest.mark.parametrize("size", [100, 3 * 64 * KiB + 5], ids=["small", "large"])
def test_a_write_that_breaks_makes_its_part_begin_anew(kind: str, size: int) -> None:
    bench = Bench()
    data = pattern(size)
    bench.fill({"file": data})
    flaky = FlakyDestination(bench.destination, times=4)
    flaky.left = type(flaky.left)({kind: 4})
    bench.destination = flaky
    errand = bench.carry()
    assert bench.arrived() == {"file": data}
    assert errand.records["file"].digests == {"sha256": sha256(data)}
    most = size + 4 * min(size, bench.part)
    assert bench.here.bytes_read == size if kind in {"begin", "finish"} else size < bench.here.bytes_read <= most
    assert (bench.there.uploads, len(bench.pauses)) == ({}, 4)
    assert bench.progress.snapshot().done_bytes == size


def test_a_part_whose_answer_is_lost_is_read_again_though_its_turn_has_passed() -> None:
    """The others are hashed meanwhile: what comes a second time is compared, and not hashed again."""
    bench = Bench(sizing=Sizing(lanes=3))
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    others = threading.Semaphore(0)
    lost = [1]

    class Losing(WholeSink):
        def __init__(self, index: int, sink: PartSink) -> None:
            super().__init__(sink)
            self.index = index

        def finish(self) -> None:
            super().finish()
            if self.index:
                others.release()
            elif lost:
                lost.pop()
                assert others.acquire(timeout=30)
                assert others.acquire(timeout=30)
                raise Transient("the answer was lost")

    bench.destination = Parts(bench, lambda _path, index, sink: Losing(index, sink))
    assert bench.carry().records["large"].digests == {"sha256": sha256(data)}
    assert bench.arrived() == {"large": data}
    assert bench.here.bytes_read == len(data) + bench.part


def test_a_part_that_is_read_again_with_other_bytes_makes_the_file_start_again() -> None:
    """Otherwise the digest would be of bytes that nobody has."""
    bench = Bench(sizing=ONE_LANE)
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    lost = [1]

    class Losing(WholeSink):
        def finish(self) -> None:
            super().finish()
            if lost:
                lost.pop()
                bench.source = FlippingSource(inner, path="large", at=7, times=1)
                watched.source = bench.source
                raise Transient("the answer was lost")

    inner = bench.source
    bench.source = watched = Hooked(bench)
    bench.destination = parts = Parts(bench, lambda _path, _index, sink: Losing(sink))
    assert bench.carry().records["large"].digests == {"sha256": sha256(data)}
    assert bench.arrived() == {"large": data}
    assert parts.aborted == ["large"]


def test_a_finish_whose_answer_was_lost_is_repeated() -> None:
    bench = Bench()
    bench.fill({"file": b"abc"})
    flaky = FlakyDestination(bench.destination, times=1, after=True)
    flaky.left = type(flaky.left)({"finish": 1})
    bench.destination = flaky
    assert bench.carry().records["file"].destination_version == bench.there.objects["model/file"].version


def test_a_range_is_closed_when_its_part_cannot_be_opened() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"file": b"abc"})
    left = [1, 2, 3]

    def refuse(path: str, index: int, sink: PartSink) -> PartSink:
        if left:
            left.pop()
            raise Transient("cannot connect")
        return sink

    bench.source = source = Hooked(bench)
    bench.destination = Parts(bench, refuse)
    bench.carry()
    assert bench.arrived() == {"file": b"abc"}
    assert source.open == 0
    assert source.reads["file"] == 4


def test_every_part_ends_once() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"file": pattern(2 * bench.part)})
    ends: list[str] = []

    class Counting(WholeSink):
        def finish(self) -> None:
            if len(ends) == 1:
                raise Transient("the answer was lost")
            ends.append("finish")
            super().finish()

        def cancel(self) -> None:
            ends.append("cancel")
            super().cancel()

    bench.destination = Parts(bench, lambda _path, _index, sink: Counting(sink))
    bench.carry()
    assert ends == ["finish", "cancel", "finish"]


# Stores that want to see a part whole ---------------------------------------------------------------------------------


class Keeping(WholeSink):
    """Sends nothing before the end."""

    def __init__(self, sink: PartSink) -> None:
        super().__init__(sink)
        self.views: list[memoryview] = []

    @property
    def keeps_views(self) -> bool:
        return True

    def send(self, data: memoryview) -> None:
        self.views.append(data)

    def finish(self) -> None:
        for view in self.views:
            super().send(view)
        super().finish()


def test_a_store_that_wants_parts_whole_gets_them_from_memory() -> None:
    bench = Bench(sizing=Sizing(lanes=6, memory=4 * 64 * KiB))
    files = {"large": pattern(9 * bench.part + 5), "other": pattern(3 * bench.part, 1), "small": b"abc", "empty": b""}
    bench.fill(files)
    bench.destination = Parts(bench, lambda _path, _index, sink: Keeping(sink))
    errand = bench.carry()
    assert bench.arrived() == files
    assert {path: record.digests["sha256"] for path, record in errand.records.items()} == {
        path: sha256(data) for path, data in files.items()
    }
    assert bench.budget.most <= 4 * 64 * KiB
    assert bench.there.uploads == {}


@pytest.mark.parametrize("kind", ["small", "large"])
def test_a_store_that_says_so_when_it_has_the_bytes_gets_and_proves_them_once_more(kind: str) -> None:
    """All of the part is hashed by then.  What is read next are other bytes, and must not pass under that digest."""
    bench = Bench(sizing=Sizing(lanes=1, memory=4 * 64 * KiB))
    first, second = pattern(bench.part if kind == "small" else 3 * bench.part), pattern(bench.part, 1)
    bench.fill({kind: first})
    whole = threading.Event()

    class Refusing(WholeSink):
        def finish(self) -> None:
            whole.set()
            bench.here.objects[f"model/{kind}"] = replace(
                bench.here.objects[f"model/{kind}"], data=second + first[len(second) :]
            )
            raise Transient("the store wants to know the bytes beforehand")

    bench.destination = Parts(bench, lambda _path, _index, sink: Keeping(sink) if whole.is_set() else Refusing(sink))
    (record,) = bench.carry().records.values()
    assert record.digests == {"sha256": sha256(bench.arrived()[kind])}


def test_an_upload_that_goes_on_at_a_store_that_wants_parts_whole_keeps_what_it_has() -> None:
    bench = Bench(sizing=Sizing(lanes=4, memory=4 * 64 * KiB))
    data = pattern(6 * bench.part)
    bench.fill({"large": data})
    (task,) = bench.tasks()
    upload = bench.destination.begin(task.file, task.cut)
    sink = upload.open_part(2)
    sink.send(memoryview(data)[2 * bench.part : 3 * bench.part])
    sink.finish()
    bench.destination = parts = Parts(bench, lambda _path, _index, sink: Keeping(sink))
    bench.carry(replace(task, resume=upload.token))
    assert bench.arrived() == {"large": data}
    assert parts.aborted == []


def test_a_part_that_memory_cannot_hold_cannot_be_seen_whole() -> None:
    bench = Bench(part=300 * KiB, sizing=Sizing(lanes=4, memory=512 * KiB))
    bench.fill({"large": pattern(1000 * KiB)})
    bench.destination = Parts(bench, lambda _path, _index, sink: Keeping(sink))
    with pytest.raises(ConfigurationError, match="memory") as caught:
        bench.carry()
    assert "S3_SYNC_TRANSFER_CONFIG__MEMORY" in caught.value.hint
