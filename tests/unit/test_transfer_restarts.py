"""The engine when a file has to start again: its source changed, its bytes are wrong, its upload is lost."""

import os
import threading

import pytest

from syncer.errors import (
    Interrupted,
    SourceChanged,
    SourceMissing,
    WrongBytes,
)
from syncer.schedule import Sizing
from syncer.stores.protocols import Limits, PartSink, UploadLost
from tests.support.carrying import Bench, pattern, sha256
from tests.support.injured import FlakySource, FlippingSource
from tests.support.watching import Hooked, Parts, changing
from tests.support.whole import WholeSink

ONE_LANE = Sizing(lanes=1)


@pytest.mark.parametrize("times", [1, 3])
def test_a_source_that_changes_starts_that_file_again(times: int) -> None:
    bench = Bench(sizing=ONE_LANE)
    versions = [pattern(3 * bench.part + n, n) for n in range(times + 1)]
    bench.fill({"large": versions[0], "other": b"abc"})
    bench.source = changing(bench, "large", versions[1:])
    errand = bench.carry()
    assert bench.arrived() == {"large": versions[-1], "other": b"abc"}
    assert errand.records["large"].digests == {"sha256": sha256(versions[-1])}
    assert errand.records["large"].source_version == bench.here.objects["model/large"].version
    assert bench.there.uploads == {}
    seen = bench.progress.snapshot()
    assert seen.done_bytes == seen.total_bytes == len(versions[-1]) + 3, "the file has grown, and so has the work"
    assert seen.done_files == 2


def test_a_source_that_keeps_changing_is_given_up() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    bench.source = changing(bench, "large", [pattern(3 * bench.part, n) for n in range(1, 5)])
    with pytest.raises(SourceChanged) as caught:
        bench.carry()
    assert (caught.value.exit_code, caught.value.path) == (os.EX_TEMPFAIL, "large")
    assert (bench.arrived(), bench.there.uploads) == ({}, {})


def test_a_file_that_changes_under_many_lanes_starts_again_once() -> None:
    bench = Bench(sizing=Sizing(lanes=6))
    first, second = pattern(12 * bench.part), pattern(7 * bench.part + 1, 1)
    bench.fill({"large": first})
    meeting = threading.Barrier(6, action=lambda: bench.fill({"large": second}))
    to_meet = [1] * 6

    def meet(_path: str, _offset: int) -> None:
        if to_meet:
            to_meet.pop()
            meeting.wait(30)

    bench.source = Hooked(bench, meet)
    errand = bench.carry()
    assert bench.arrived() == {"large": second}
    assert errand.records["large"].digests == {"sha256": sha256(second)}
    assert bench.here.requests["look"] == 1
    assert bench.there.uploads == {}


def test_parts_that_waited_for_their_turn_are_let_go_when_the_file_starts_again() -> None:
    bench = Bench(sizing=Sizing(lanes=2))
    data = pattern(2 * bench.part)
    bench.fill({"large": data})
    second_is_there = threading.Event()
    left = [1]

    def change(_path: str, offset: int) -> None:
        if offset == 0 and left:
            assert second_is_there.wait(30)
            left.pop()
            raise SourceChanged("it is another version now")

    class Telling(WholeSink):
        def finish(self) -> None:
            super().finish()
            second_is_there.set()

    bench.source = Hooked(bench, change)
    bench.destination = Parts(bench, lambda _path, _index, sink: Telling(sink))
    bench.carry()  # which looks at the budget
    assert bench.arrived() == {"large": data}


def test_a_file_that_changes_at_the_moment_of_a_stop_is_not_looked_at_again() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(2 * bench.part)})

    def change(_path: str, _offset: int) -> None:
        bench.stop.throw(Interrupted())
        raise SourceChanged("it is another version now")

    bench.source = Hooked(bench, change)
    with pytest.raises(Interrupted):
        bench.carry()
    assert bench.here.requests["look"] == 0
    assert bench.there.uploads == {}, "what it has is of no use to a resume"


def test_a_changed_file_may_have_another_number_of_parts() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    bench.source = changing(bench, "large", [b"tiny"])
    bench.carry()
    assert bench.arrived() == {"large": b"tiny"}


def test_a_file_that_is_gone_is_missing() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part), "other": b"abc"})

    def remove(path: str, offset: int) -> None:
        if path == "large":
            bench.here.objects.pop("model/large", None)

    bench.source = Hooked(bench, remove)
    with pytest.raises(SourceMissing):
        bench.carry()
    assert "large" not in bench.arrived()


def test_a_second_look_that_fails_is_tried_again_and_counts_once() -> None:
    bench = Bench(sizing=ONE_LANE)
    versions = [pattern(3 * bench.part, n) for n in range(4)]
    bench.fill({"large": versions[0]})
    flaky = FlakySource(changing(bench, "large", versions[1:]), times=0)
    flaky.left["look_again"] = 5
    bench.source = flaky
    bench.carry()
    assert bench.arrived() == {"large": versions[-1]}


def test_a_small_file_that_changed_before_its_upload_began_starts_again() -> None:
    bench = Bench(limits=Limits(most_parts=10_000, keeps_content_type=True))
    bench.fill({"small": b"old", "large": pattern(3 * bench.part)})
    tasks = bench.tasks()
    bench.fill({"small": b"newer", "large": pattern(2 * bench.part, 1)})
    bench.carry(*tasks)
    assert bench.arrived() == {"small": b"newer", "large": pattern(2 * bench.part, 1)}
    assert bench.there.requests["begin"] == 2, "no upload is opened for a version that is gone"


# Wrong bytes, lost uploads ------------------------------------------------------------------------------------------


def test_a_wrong_digest_is_copied_once_more() -> None:
    bench = Bench()
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    bench.source = FlippingSource(bench.source, path="large", at=bench.part + 7, times=1)
    errand = bench.carry(bench.task("large", digests={"sha256": sha256(data)}))
    assert bench.arrived() == {"large": data}
    assert errand.records["large"].digests == {"sha256": sha256(data)}
    assert bench.here.bytes_read == 2 * len(data)
    assert bench.progress.snapshot().done_bytes == len(data)


def test_a_digest_that_is_wrong_twice_is_wrong_bytes_and_nothing_is_shown() -> None:
    bench = Bench()
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    bench.source = FlippingSource(bench.source, path="large", at=7, times=2)
    with pytest.raises(WrongBytes, match="sha256 should be") as caught:
        bench.carry(bench.task("large", digests={"sha256": sha256(data)}))
    assert (caught.value.exit_code, caught.value.path) == (os.EX_DATAERR, "large")
    assert (bench.arrived(), bench.there.uploads) == ({}, {})


def test_an_upload_that_the_store_has_lost_starts_again() -> None:
    bench = Bench(sizing=ONE_LANE)
    data = pattern(3 * bench.part)
    bench.fill({"large": data})
    lost = [1]

    def lose(path: str, index: int, sink: PartSink) -> PartSink:
        if index == 1 and lost:
            lost.pop()
            raise UploadLost("no such upload")
        return sink

    bench.destination = parts = Parts(bench, lose)
    bench.carry()
    assert bench.arrived() == {"large": data}
    assert (parts.aborted, bench.pauses) == (["large"], [])
