"""The engine when a read, a write or a relay breaks: what is read again, and what is only sent again."""

import pytest

from syncer.errors import (
    ConfigurationError,
    Transient,
)
from syncer.schedule import Sizing
from syncer.stores.protocols import PartSink
from tests.support.carrying import Bench, KiB, pattern, sha256
from tests.support.injured import FlakyDestination, FlakySource, ShortSource
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
    assert bench.here.bytes_read == len(data), "no byte is read twice"
    assert bench.here.requests["read"] == 3 + times
    assert len(bench.pauses) == times - 1, "the first range had made way; the others had not, and those back off"
    assert bench.there.bytes_sent == len(data) + 1000 * (times - 1), "which begins the part anew, from memory"


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
def test_a_write_that_breaks_is_sent_again_from_memory(kind: str, size: int) -> None:
    bench = Bench()
    data = pattern(size)
    bench.fill({"file": data})
    flaky = FlakyDestination(bench.destination, times=4)
    flaky.left = type(flaky.left)({kind: 4})
    bench.destination = flaky
    errand = bench.carry()
    assert bench.arrived() == {"file": data}
    assert errand.records["file"].digests == {"sha256": sha256(data)}
    assert bench.here.bytes_read == size, "the source is read once"
    assert (bench.there.uploads, len(bench.pauses)) == ({}, 4)


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


# Relayed parts ------------------------------------------------------------------------------------------------------


def relaying() -> tuple[Bench, bytes]:
    bench = Bench(part=300 * KiB, sizing=Sizing(lanes=4, memory=512 * KiB))
    data = pattern(1000 * KiB)
    bench.fill({"large": data})
    return bench, data


def test_a_relayed_part_that_breaks_starts_again_and_so_does_its_share_of_the_hash() -> None:
    bench, data = relaying()
    bench.source = ShortSource(bench.source, after=400 * KiB, times=2)
    errand = bench.carry()
    assert bench.arrived() == {"large": data}
    assert errand.records["large"].digests == {"sha256": sha256(data)}
    assert bench.here.bytes_read == len(data) + 2 * 100 * KiB
    assert bench.progress.snapshot().done_bytes == len(data)


def test_a_relayed_part_whose_write_breaks_is_read_again() -> None:
    bench, data = relaying()
    flaky = FlakyDestination(bench.destination, times=0)
    flaky.left["finish_part"] = 2
    bench.destination = flaky
    errand = bench.carry()
    assert bench.arrived() == {"large": data}
    assert errand.records["large"].digests == {"sha256": sha256(data)}
    assert bench.progress.snapshot().done_bytes == len(data)


def test_a_store_that_must_see_parts_whole_cannot_be_fed_by_a_relay() -> None:
    bench, _ = relaying()

    class Keeping(WholeSink):
        @property
        def keeps_views(self) -> bool:
            return True

    bench.destination = Parts(bench, lambda _path, _index, sink: Keeping(sink))
    with pytest.raises(ConfigurationError, match="memory") as caught:
        bench.carry()
    assert "S3_SYNC_TRANSFER_CONFIG__MEMORY" in caught.value.hint
