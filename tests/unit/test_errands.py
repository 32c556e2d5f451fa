"""What is remembered of the files that are carried, and what is let go of."""

import pytest

from syncer.errors import NotThereYet, Transient
from syncer.journal import Journal, recover
from syncer.plan import OpenFile
from syncer.schedule import Sizing
from syncer.stores.protocols import Limits, PartSink
from tests.support.carrying import LIMITS, Bench, pattern
from tests.support.injured import FlakyDestination
from tests.support.memory_store import CopyingDestination, MemoryDestination, MemorySource
from tests.support.watching import Hooked, Parts

ONE_LANE = Sizing(lanes=1)


def test_an_upload_is_in_the_journal_before_its_first_byte_and_out_of_it_after_its_last() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    seen: list[int] = []

    def look(path: str, index: int, sink: PartSink) -> PartSink:
        seen.append(len(bench.destination.control.names("state/uploads/")))
        return sink

    bench.destination = Parts(bench, look)
    bench.carry()
    assert seen == [1, 1, 1]
    assert bench.destination.control.names("state/uploads/") == []
    assert len(bench.destination.control.names("state/done/")) == 1


def test_an_upload_that_cannot_be_remembered_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    control = bench.destination.control
    whole, left = control.write, [1, 2]

    def write(name: str, data: bytes, *, expected: str | None = None) -> str:
        if left:
            left.pop()
            raise Transient("busy")
        return whole(name, data, expected=expected)

    monkeypatch.setattr(control, "write", write)
    bench.carry()
    assert bench.there.requests["begin"] == 3
    assert bench.there.uploads == {}
    assert len(bench.arrived()) == 1


@pytest.mark.parametrize("copies", [False, True], ids=["carried", "copied-inside"])
def test_nothing_is_begun_once_the_destination_is_not_ours_any_more(copies: bool) -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.source = MemorySource(bench.here)
    if copies:
        bench.destination = CopyingDestination(bench.here, "copy/", limits=LIMITS)
    bench.fill({"large": pattern(3 * bench.part)})
    journal = Journal(bench.destination.control, source=bench.source.name)

    def lost() -> None:
        raise NotThereYet("another run has taken this destination over")

    journal.guard = lost
    with pytest.raises(NotThereYet, match="taken"):
        bench.carry(journal=journal)
    assert bench.there.requests["begin"] == 0
    assert not [key for key in bench.here.objects if key.startswith("copy/")]


def test_an_upload_is_noted_under_the_name_that_all_pods_have_for_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that reads one commit has another name for it, and whoever comes after it must know the upload."""
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    journal, noted = Journal(bench.destination.control, source="hf://team/model"), list[OpenFile]()
    monkeypatch.setattr(journal, "upload_opened", noted.append)
    bench.carry(journal=journal)
    assert [(left.path, left.source) for left in noted] == [("large", "hf://team/model")]


def test_a_file_that_is_whole_is_done_even_if_the_journal_cannot_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part)})
    control = bench.destination.control
    whole = control.write

    def write(name: str, data: bytes, *, expected: str | None = None) -> str:
        if "/done/" in name:
            raise Transient("busy")
        return whole(name, data, expected=expected)

    monkeypatch.setattr(control, "write", write)
    assert list(bench.carry().records) == ["large"]


def test_bodies_opened_for_a_content_type_are_closed_whatever_happens() -> None:
    bench = Bench(limits=Limits(most_parts=10_000, keeps_content_type=True))
    bench.fill({"a": b"abc", "b": b"def"})
    flaky = FlakyDestination(bench.destination, times=0)
    flaky.left["begin"] = 3
    bench.source, bench.destination = source, _ = Hooked(bench), flaky
    bench.carry()
    assert bench.arrived() == {"a": b"abc", "b": b"def"}
    assert source.open == 0


def test_a_foreign_file_keeps_its_place_and_the_others_are_carried() -> None:
    bench = Bench(sizing=ONE_LANE)
    bench.fill({"large": pattern(3 * bench.part), "small": b"s", "other": b"o"})
    destination = bench.destination
    assert isinstance(destination, MemoryDestination)
    destination.spare(["large", "small", "other"])
    journal = Journal(destination.control, source=bench.source.name)
    journal.open_run(["large", "small", "other"])
    bench.there.fill("model/", {"large": b"theirs", "small": b"theirs"})
    errand = bench.carry(journal=journal)
    assert errand.foreign == {"large", "small"}
    assert set(errand.records) == {"other"}
    assert bench.arrived() == {"large": b"theirs", "small": b"theirs", "other": b"o"}
    assert bench.there.uploads == {}
    left = recover(destination.control)
    assert left.planned == {"other"}
    assert not left.open_files
